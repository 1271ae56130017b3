//! Checkpoints: <https://c2sp.org/tlog-checkpoint>. A checkpoint is a signed note of origin, size and root hash.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::note::{BadNote, Note, NoteSigner, NoteVerifier};
use crate::tree::Hash;

/// What the log signs about itself: how many entries it has, and their root hash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// The log's name, which is also its key's.
    pub origin: String,
    /// How many entries it has.
    pub size: u64,
    /// Their root hash.
    pub root: Hash,
}

/// The bytes are not a checkpoint of this log.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadCheckpoint {
    /// Not a note, or not signed by the log's key.
    #[error(transparent)]
    Note(#[from] BadNote),
    /// Not origin, size and root hash.
    #[error("not a checkpoint: a line with the origin, one with the size, one with the root hash")]
    Format,
    /// Of another log.
    #[error("the checkpoint is of log {found}, not of {expected}")]
    Origin {
        /// The key's name.
        expected: String,
        /// The checkpoint's first line.
        found: String,
    },
}

impl Checkpoint {
    /// The note's text.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64.encode(self.root))
    }

    /// The checkpoint as a note signed by the log.
    #[must_use]
    pub fn sign(&self, key: &impl NoteSigner) -> String {
        key.sign_note(&self.text())
    }

    /// Reads and verifies a checkpoint of the log that `key` belongs to.
    ///
    /// # Errors
    /// [`BadCheckpoint`]
    pub fn verify(note: &[u8], key: &impl NoteVerifier) -> Result<Self, BadCheckpoint> {
        let checkpoint = Self::parse_text(key.verify(&Note::parse(note)?)?)?;
        if checkpoint.origin == key.name() {
            Ok(checkpoint)
        } else {
            Err(BadCheckpoint::Origin { expected: key.name().into(), found: checkpoint.origin })
        }
    }

    /// What a checkpoint says, whoever signed it: for comparing what one server says with what it said before.
    ///
    /// # Errors
    /// [`BadCheckpoint`]: not a note, or not a checkpoint's text.
    pub fn unverified(note: &[u8]) -> Result<Self, BadCheckpoint> {
        Self::parse_text(Note::parse(note)?.text())
    }

    fn parse_text(text: &str) -> Result<Self, BadCheckpoint> {
        let mut lines = text.strip_suffix('\n').ok_or(BadCheckpoint::Format)?.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(BadCheckpoint::Format);
        };
        let parsed = decimal(size).zip(BASE64.decode(root).ok().and_then(|root| root.try_into().ok()));
        match parsed {
            Some((size, root)) if !origin.is_empty() && lines.all(|extension| !extension.is_empty()) => {
                Ok(Self { origin: origin.into(), size, root })
            }
            _ => Err(BadCheckpoint::Format),
        }
    }
}

/// A decimal number in its one spelling: no sign, no leading zero.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    (digits && (text == "0" || !text.starts_with('0'))).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::SigningNoteKey;

    fn key(name: &str) -> SigningNoteKey {
        SigningNoteKey::from_seed(name, &[9; 32]).expect("a fine name")
    }

    #[test]
    fn signed_and_verified() {
        let key = key("example.com/log");
        let checkpoint = Checkpoint { origin: "example.com/log".into(), size: 70_000, root: [5; 32] };
        let note = checkpoint.sign(&key);
        assert_eq!(Checkpoint::verify(note.as_bytes(), key.verifier()), Ok(checkpoint.clone()));
        let theirs = tlog_tiles::Checkpoint::from_bytes(checkpoint.text().as_bytes()).expect("reads ours");
        assert_eq!((theirs.origin(), theirs.size()), ("example.com/log", 70_000));
    }

    #[test]
    fn what_is_no_checkpoint_of_this_log() {
        let key = key("example.com/log");
        let check = |text: &str| Checkpoint::verify(key.sign(text).as_bytes(), key.verifier());
        let root = BASE64.encode([5; 32]);
        assert!(check(&format!("example.com/log\n1\n{root}\nextension\n")).is_ok());
        assert!(matches!(check(&format!("other.com/log\n1\n{root}\n")), Err(BadCheckpoint::Origin { .. })));
        for bad in [
            format!("example.com/log\n01\n{root}\n"),
            format!("example.com/log\n+1\n{root}\n"),
            format!("example.com/log\n18446744073709551616\n{root}\n"),
            format!("example.com/log\n1\n{}\n", &root[4..]),
            "example.com/log\n1\n".into(),
        ] {
            assert_eq!(check(&bad), Err(BadCheckpoint::Format), "{bad}");
        }
    }
}
