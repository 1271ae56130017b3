//! One entry's proof as a text file: `c2sp.org/tlog-proof@v1`. With the entry and the log's key it needs nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::checkpoint::{BadCheckpoint, Checkpoint, decimal};
use crate::note::{MAX_NOTE, NoteVerifier};
use crate::proof::{BadProof, verify_inclusion};
use crate::tree::{Hash, leaf_hash};

const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// Greatest length of a proof, in bytes: a checkpoint, 64 hashes, and some extra data.
pub const MAX_PROOF: usize = MAX_NOTE + 64 * 1024;

/// The proof of one entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlogProof {
    /// The entry's place in the log.
    pub index: u64,
    /// From the leaf's sibling up to the root's child.
    pub hashes: Vec<Hash>,
    /// The checkpoint, verbatim, with all its signatures.
    pub checkpoint: String,
}

/// The text proves nothing.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadTlogProof {
    /// Not of the format.
    #[error("not a {HEADER} file")]
    Format,
    /// The checkpoint is not this log's.
    #[error(transparent)]
    Checkpoint(#[from] BadCheckpoint),
    /// The entry is not at this place of the tree that the checkpoint signs.
    #[error("the entry is not at index {index} of this log: {error}")]
    Inclusion {
        /// The place.
        index: u64,
        /// Why.
        error: BadProof,
    },
}

impl TlogProof {
    /// Reads a proof; extra data is ignored, as nothing vouches for it.
    ///
    /// # Errors
    /// [`BadTlogProof::Format`]
    pub fn parse(text: &str) -> Result<Self, BadTlogProof> {
        let bad = || BadTlogProof::Format;
        if text.len() > MAX_PROOF {
            return Err(bad());
        }
        let (proof, checkpoint) = text.split_once("\n\n").ok_or_else(bad)?;
        let mut lines = proof.split('\n').peekable();
        if lines.next() != Some(HEADER) {
            return Err(bad());
        }
        if let Some(extra) = lines.peek().and_then(|line| line.strip_prefix("extra ")) {
            BASE64.decode(extra).map_err(|_| bad())?;
            lines.next();
        }
        let index =
            lines.next().and_then(|line| line.strip_prefix("index ")).and_then(decimal).ok_or_else(bad)?;
        let hashes = lines.map(|line| BASE64.decode(line).ok()?.try_into().ok()).collect::<Option<Vec<_>>>();
        Ok(Self { index, hashes: hashes.ok_or_else(bad)?, checkpoint: checkpoint.into() })
    }

    /// Verifies that `entry` is in the log of `key`, at the index that the proof says.
    ///
    /// # Errors
    /// [`BadTlogProof`]
    pub fn verify(&self, entry: &[u8], key: &impl NoteVerifier) -> Result<Checkpoint, BadTlogProof> {
        let checkpoint = Checkpoint::verify(self.checkpoint.as_bytes(), key)?;
        verify_inclusion(&leaf_hash(entry), self.index, checkpoint.size, &self.hashes, &checkpoint.root)
            .map_err(|error| BadTlogProof::Inclusion { index: self.index, error })?;
        Ok(checkpoint)
    }
}

impl std::fmt::Display for TlogProof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{HEADER}\nindex {}", self.index)?;
        for hash in &self.hashes {
            writeln!(f, "{}", BASE64.encode(hash))?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::SigningNoteKey;
    use crate::tree::node_hash;
    use proptest::prelude::*;

    fn sample() -> (TlogProof, SigningNoteKey) {
        let key = SigningNoteKey::from_seed("example.com/log", &[1; 32]).unwrap();
        let other = leaf_hash(b"other");
        let root = node_hash(&leaf_hash(b"mine"), &other);
        let checkpoint = Checkpoint { origin: "example.com/log".into(), size: 2, root };
        (TlogProof { index: 0, hashes: vec![other], checkpoint: checkpoint.sign(&key) }, key)
    }

    #[test]
    fn written_read_and_verified() {
        let (proof, key) = sample();
        let read = TlogProof::parse(&proof.to_string()).unwrap();
        assert_eq!(read, proof);
        assert_eq!(read.verify(b"mine", key.verifier()).unwrap().size, 2);
        assert!(matches!(read.verify(b"yours", key.verifier()), Err(BadTlogProof::Inclusion { .. })));
        let extra = proof.to_string().replacen("index", "extra aGk=\nindex", 1);
        assert_eq!(TlogProof::parse(&extra), Ok(proof));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*") {
            let _outcome = TlogProof::parse(&text).is_ok();
        }

        #[test]
        fn a_changed_proof_verifies_nothing(at: prop::sample::Index, to in 0x20u8..0x7f) {
            let (proof, key) = sample();
            let mut text = proof.to_string().into_bytes();
            let at = at.index(text.len());
            prop_assume!(text[at] != to && text[at] < 0x80);
            text[at] = to;
            let Ok(text) = String::from_utf8(text) else { return Ok(()) };
            let verified = TlogProof::parse(&text).and_then(|proof| proof.verify(b"mine", key.verifier()));
            prop_assert!(verified.is_err(), "{text}");
        }
    }
}
