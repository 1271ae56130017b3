//! What a witness decides: <https://c2sp.org/tlog-witness>, `add-checkpoint`. Pure; whoever serves it makes the new state
//! durable before the cosignature leaves.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::checkpoint::{Checkpoint, decimal};
use crate::note::{MAX_NOTE, NoteVerifier};
use crate::proof::{BadProof, verify_consistency};
use crate::tree::{Hash, root_of};

/// Most hashes in a consistency proof, as the specification bounds it.
pub const MAX_HASHES: usize = 63;

/// Greatest length of a request, in bytes.
pub const MAX_REQUEST: usize = 8 * 1024 + MAX_NOTE;

/// The media type of the answer to a request that starts from another size than the witness's.
pub const SIZE_TYPE: &str = "text/x.tlog.size";

/// A request: a checkpoint, and the proof that it continues an older one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// Size of the older tree; 0 when nothing is known of it.
    pub old: u64,
    /// The consistency proof from there.
    pub proof: Vec<Hash>,
    /// The checkpoint's note.
    pub note: Vec<u8>,
}

/// Why a witness does not cosign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Declined {
    /// 400: not a request, or one that goes backwards.
    #[error("not an add-checkpoint request: {0}")]
    Malformed(&'static str),
    /// 404: no such log is configured.
    #[error("no log of this origin is known here")]
    UnknownLog,
    /// 403: the log's key did not sign it.
    #[error("the checkpoint is not signed by the log's key")]
    Unsigned,
    /// 409: this is the size that was cosigned last, and another was named, or another root at this size.
    #[error("the last checkpoint cosigned here has {0} entries")]
    Conflict(u64),
    /// 422: it does not continue what was cosigned last.
    #[error("the checkpoint does not continue the one that was cosigned last: {0}")]
    Inconsistent(BadProof),
}

impl Declined {
    /// The status that the specification gives it.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::UnknownLog => 404,
            Self::Unsigned => 403,
            Self::Conflict(_) => 409,
            Self::Inconsistent(_) => 422,
        }
    }

    /// A fixed word for metrics.
    #[must_use]
    pub fn category(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::UnknownLog => "unknown_log",
            Self::Unsigned => "unsigned",
            Self::Conflict(_) => "conflict",
            Self::Inconsistent(_) => "inconsistent",
        }
    }
}

impl AddCheckpoint {
    /// The body to send.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = format!("old {}\n", self.old);
        self.proof.iter().for_each(|hash| body.push_str(&format!("{}\n", BASE64.encode(hash))));
        body.push('\n');
        [body.as_bytes(), &self.note].concat()
    }

    /// Reads a body.
    ///
    /// # Errors
    /// [`Declined::Malformed`]
    pub fn parse(body: &[u8]) -> Result<Self, Declined> {
        let text = std::str::from_utf8(body).map_err(|_| Declined::Malformed("it is not UTF-8"))?;
        let (head, note) = text.split_once("\n\n").ok_or(Declined::Malformed("there is no blank line"))?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| decimal(line.strip_prefix("old ")?));
        let old = old.ok_or(Declined::Malformed("the first line is not the old size"))?;
        let proof = lines.map(|line| BASE64.decode(line).ok()?.try_into().ok()).collect::<Option<Vec<_>>>();
        let proof = proof.filter(|proof| proof.len() <= MAX_HASHES);
        let proof = proof.ok_or(Declined::Malformed("the proof is not at most 63 hashes"))?;
        Ok(Self { old, proof, note: note.as_bytes().to_vec() })
    }

    /// The log's origin, of which nothing is to be believed yet.
    #[must_use]
    pub fn origin(&self) -> &[u8] {
        self.note.split(|byte| *byte == b'\n').next().unwrap_or_default()
    }

    /// The checkpoint, if a witness that cosigned `last` of the log of `key` may cosign it. The caller makes it durable as
    /// the new `last`, and then signs.
    ///
    /// # Errors
    /// [`Declined`]
    pub fn decide(&self, key: &impl NoteVerifier, last: Option<&Checkpoint>) -> Result<Checkpoint, Declined> {
        let checkpoint = Checkpoint::verify(&self.note, key).map_err(|_| Declined::Unsigned)?;
        if self.old > checkpoint.size {
            return Err(Declined::Malformed("the old size is above the checkpoint's"));
        }
        let empty = root_of(&[]);
        let (size, root) = last.map_or((0, &empty), |last| (last.size, &last.root));
        if self.old != size || (checkpoint.size == size && checkpoint.root != *root) {
            return Err(Declined::Conflict(size));
        }
        verify_consistency((size, root), (checkpoint.size, &checkpoint.root), &self.proof)
            .map_err(Declined::Inconsistent)?;
        Ok(checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::SigningNoteKey;
    use crate::tree::tests::{leaf, mth};

    fn key() -> SigningNoteKey {
        SigningNoteKey::from_seed("example.com/log", &[9; 32]).expect("a fine name")
    }

    fn checkpoint(size: u64) -> Checkpoint {
        Checkpoint { origin: "example.com/log".into(), size, root: mth(0, size) }
    }

    fn request(old: u64, new: &Checkpoint, proof: Vec<Hash>) -> AddCheckpoint {
        AddCheckpoint { old, proof, note: new.sign(&key()).into_bytes() }
    }

    #[test]
    fn a_log_that_grows_is_cosigned() {
        let first = request(0, &checkpoint(2), Vec::new()).decide(key().verifier(), None).expect("the first");
        let asked = request(2, &checkpoint(3), vec![leaf(2)]);
        let read = AddCheckpoint::parse(&asked.encode()).expect("ours");
        assert_eq!((read.origin(), &read), (&b"example.com/log"[..], &asked));
        assert_eq!(read.decide(key().verifier(), Some(&first)), Ok(checkpoint(3)));
        let again = request(2, &checkpoint(2), Vec::new());
        assert_eq!(again.decide(key().verifier(), Some(&first)), Ok(checkpoint(2)), "asked twice");
    }

    #[test]
    fn forks_and_rollbacks_are_not() {
        let last = checkpoint(3);
        let decide =
            |asked: AddCheckpoint| asked.decide(key().verifier(), Some(&last)).expect_err("declined");
        assert_eq!(decide(request(2, &checkpoint(2), Vec::new())), Declined::Conflict(3), "a rollback");
        let fork = Checkpoint { root: [1; 32], ..checkpoint(3) };
        assert_eq!(decide(request(3, &fork, Vec::new())), Declined::Conflict(3));
        let fork = Checkpoint { root: [1; 32], ..checkpoint(4) };
        assert!(matches!(decide(request(3, &fork, vec![leaf(3), mth(0, 2)])), Declined::Inconsistent(_)));
        assert_eq!(decide(request(0, &checkpoint(4), Vec::new())), Declined::Conflict(3));
        assert!(matches!(decide(request(3, &checkpoint(2), Vec::new())), Declined::Malformed(_)));
        let other = SigningNoteKey::from_seed("example.com/log", &[8; 32]).expect("a fine name");
        let forged =
            AddCheckpoint { old: 3, proof: Vec::new(), note: checkpoint(3).sign(&other).into_bytes() };
        assert_eq!(decide(forged), Declined::Unsigned);
    }

    #[test]
    fn other_bodies_are_malformed() {
        for body in ["", "old 1\n", "old 01\n\nx", "old 1\nAAAA\n\nx", "new 1\n\nx", "old -1\n\nx"] {
            assert!(matches!(AddCheckpoint::parse(body.as_bytes()), Err(Declined::Malformed(_))), "{body:?}");
        }
        let long = format!("old 1\n{}\nx", format!("{}\n", BASE64.encode([0; 32])).repeat(64));
        assert!(AddCheckpoint::parse(long.as_bytes()).is_err());
    }
}
