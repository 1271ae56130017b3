//! Receipts: the recorder's signed promise that entries are durable at their places in the log.
//!
//! A receipt is a signed note by the log's key. Its text:
//!
//! ```text
//! bqwitness.dev/receipt/v1
//! <origin>
//! <index> <leaf hash, base64> <time received>
//! ...                           one line for each statement of the batch, in the batch's order
//! ```
//!
//! The first line keeps it apart from a checkpoint, whose first line is the origin. The leaf hash covers the whole entry
//! (envelope and statement); the holder of the statement's bytes verifies it with the envelope, which the recorder sends
//! along ([`Receipt::check`]).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::checkpoint::decimal;
use crate::entry::{self, Envelope};
use crate::note::{BadNote, Note, NoteSigner, NoteVerifier};
use crate::tree::{Hash, leaf_hash};

/// First line of a receipt's text. No log may have it as its origin.
pub const HEADER: &str = "bqwitness.dev/receipt/v1";

/// The signed promise for a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// The log's name.
    pub origin: String,
    /// One for each statement, in the batch's order.
    pub entries: Vec<ReceiptEntry>,
}

/// The recorder's answer to a batch, as JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Acknowledgement {
    /// A signed note: [`Receipt::verify`].
    pub receipt: String,
    /// The envelope of each statement, verbatim, in the batch's order: with the statement it makes the leaf.
    pub envelopes: Vec<Box<RawValue>>,
}

/// The promise for one entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReceiptEntry {
    /// Its place in the log.
    pub index: u64,
    /// Its RFC 6962 leaf hash.
    pub leaf_hash: Hash,
    /// When the recorder received it, as its envelope says.
    pub received: Timestamp,
}

/// The bytes are not a receipt for what was submitted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadReceipt {
    /// Not a note, or not signed by the log's key.
    #[error(transparent)]
    Note(#[from] BadNote),
    /// Not a receipt's lines.
    #[error("not a receipt")]
    Format,
    /// Of another log.
    #[error("the receipt is of log {0}")]
    Origin(String),
    /// Not as many entries as statements.
    #[error("the receipt is for {found} entries; {expected} were submitted")]
    Count {
        /// How many were submitted.
        expected: usize,
        /// How many the receipt has.
        found: usize,
    },
    /// The leaf hash is not that of the submitted statement.
    #[error("the receipt's leaf hash of statement {0} of the batch is not that of what was submitted")]
    LeafHash(usize),
}

impl Receipt {
    /// The receipt as a note signed by the log.
    #[must_use]
    pub fn sign(&self, key: &impl NoteSigner) -> String {
        let mut text = format!("{HEADER}\n{}\n", self.origin);
        for entry in &self.entries {
            text.push_str(&format!(
                "{} {} {}\n",
                entry.index,
                BASE64.encode(entry.leaf_hash),
                entry.received
            ));
        }
        key.sign_note(&text)
    }

    /// Reads a receipt that the log's `key` signed.
    ///
    /// # Errors
    /// [`BadReceipt`]
    pub fn verify(note: &[u8], key: &impl NoteVerifier) -> Result<Self, BadReceipt> {
        let note = Note::parse(note)?;
        let text = key.verify(&note)?;
        let mut lines = text.strip_suffix('\n').ok_or(BadReceipt::Format)?.split('\n');
        if lines.next() != Some(HEADER) {
            return Err(BadReceipt::Format);
        }
        let origin = lines.next().ok_or(BadReceipt::Format)?;
        if origin != key.name() {
            return Err(BadReceipt::Origin(origin.into()));
        }
        let entries = lines.map(ReceiptEntry::parse).collect::<Option<Vec<_>>>().ok_or(BadReceipt::Format)?;
        Ok(Self { origin: origin.into(), entries })
    }

    /// Checks that this receipt is for exactly these statements, under the envelopes that came with it.
    ///
    /// # Errors
    /// [`BadReceipt::Count`], [`BadReceipt::LeafHash`]
    pub fn check<S: AsRef<[u8]>>(
        &self,
        envelopes: &[Box<RawValue>],
        statements: &[S],
    ) -> Result<(), BadReceipt> {
        if self.entries.len() != statements.len() || envelopes.len() != statements.len() {
            return Err(BadReceipt::Count { expected: statements.len(), found: self.entries.len() });
        }
        let promises = self.entries.iter().zip(envelopes).zip(statements);
        // The entries of a batch have one envelope as a rule: it is read once.
        let mut read = ("", None);
        for (number, ((promised, envelope), statement)) in promises.enumerate() {
            let leaf = entry::frame(envelope.get().as_bytes(), statement.as_ref());
            if read.0 != envelope.get() {
                let received = serde_json::from_str::<Envelope>(envelope.get());
                read = (envelope.get(), received.map(|envelope| envelope.received).ok());
            }
            if leaf_hash(&leaf) != promised.leaf_hash || read.1 != Some(promised.received) {
                return Err(BadReceipt::LeafHash(number));
            }
        }
        Ok(())
    }
}

impl ReceiptEntry {
    fn parse(line: &str) -> Option<Self> {
        let mut parts = line.split(' ');
        let (index, hash, received) = (parts.next()?, parts.next()?, parts.next()?);
        parts.next().is_none().then_some(())?;
        Some(Self {
            index: decimal(index)?,
            leaf_hash: BASE64.decode(hash).ok()?.try_into().ok()?,
            received: received.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::tests::envelope;
    use crate::note::SigningNoteKey;

    fn key() -> SigningNoteKey {
        SigningNoteKey::from_seed("example.com/log", &[1; 32]).expect("a fine name")
    }

    fn receipt_for(statement: &[u8]) -> Receipt {
        let leaf = entry::encode(&envelope(), statement).expect("small");
        let entry = ReceiptEntry { index: 41, leaf_hash: leaf_hash(&leaf), received: envelope().received };
        Receipt { origin: "example.com/log".into(), entries: vec![entry] }
    }

    #[test]
    fn signed_verified_and_bound_to_the_statement() {
        let note = receipt_for(b"{}").sign(&key());
        let receipt = Receipt::verify(note.as_bytes(), key().verifier()).expect("ours");
        assert_eq!(receipt, receipt_for(b"{}"));
        let raw = [serde_json::value::to_raw_value(&envelope()).expect("plain")];
        assert_eq!(receipt.check(&raw, &[b"{}"]), Ok(()));
        assert_eq!(receipt.check(&raw, &[b"{ }"]), Err(BadReceipt::LeafHash(0)));
        let none: &[Vec<u8>] = &[];
        assert!(matches!(receipt.check(&[], none), Err(BadReceipt::Count { expected: 0, found: 1 })));
    }

    #[test]
    fn a_receipt_is_no_checkpoint_and_a_checkpoint_no_receipt() {
        let checkpoint =
            crate::checkpoint::Checkpoint { origin: "example.com/log".into(), size: 1, root: [0; 32] };
        let note = checkpoint.sign(&key());
        assert_eq!(Receipt::verify(note.as_bytes(), key().verifier()), Err(BadReceipt::Format));
        let note = receipt_for(b"{}").sign(&key());
        assert!(crate::checkpoint::Checkpoint::verify(note.as_bytes(), key().verifier()).is_err());
    }
}
