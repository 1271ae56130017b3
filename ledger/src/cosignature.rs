//! Cosignatures of witnesses: <https://c2sp.org/tlog-cosignature> (`cosignature/v1`, Ed25519, type 0x04). A witness signs a
//! checkpoint with a time, and only if it continues the one that it signed before: so nobody can be shown another history.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signature, Verifier as _};
use jiff::Timestamp;

use crate::key::{COSIGNATURE, PublicKey, SecretKey};
use crate::note::{BadNote, Note, SIGNATURE_MARK};

/// A witness's key. Its text form is a secret.
pub type WitnessSigner = SecretKey<COSIGNATURE>;

/// The key that verifies a witness's cosignatures: a `vkey` of type 0x04.
pub type WitnessKey = PublicKey<COSIGNATURE>;

/// What a witness signs: the checkpoint's text under a time.
fn message(text: &str, time: u64) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

impl WitnessSigner {
    /// The signature line, with its newline, for the checkpoint with this text at this time.
    #[must_use]
    pub fn cosign(&self, text: &str, time: Timestamp) -> String {
        let time = u64::try_from(time.as_second()).unwrap_or(0);
        let signature = self.sign_bytes(message(text, time).as_bytes());
        let (name, id) = (self.verifier().name(), self.verifier().id());
        let bytes = [&id.to_be_bytes()[..], &time.to_be_bytes(), &signature].concat();
        format!("{SIGNATURE_MARK}{name} {}\n", BASE64.encode(bytes))
    }
}

impl WitnessKey {
    /// When this witness cosigned the note; `None` when it did not.
    ///
    /// # Errors
    /// [`BadNote::Signature`]: a line in its name is not its.
    pub fn verify(&self, note: &Note<'_>) -> Result<Option<Timestamp>, BadNote> {
        let bad = || BadNote::Signature(self.name().to_owned());
        let Some(bytes) = note.signature_of(self.name(), self.id()) else { return Ok(None) };
        let (time, signature) = bytes.split_first_chunk::<8>().ok_or_else(bad)?;
        let time = u64::from_be_bytes(*time);
        let signature = Signature::from_slice(signature).map_err(|_| bad())?;
        self.key.verify(message(note.text(), time).as_bytes(), &signature).map_err(|_| bad())?;
        let time = i64::try_from(time).ok().and_then(|time| Timestamp::from_second(time).ok());
        time.map(Some).ok_or_else(bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::note::SigningNoteKey;

    fn witness() -> WitnessSigner {
        WitnessSigner::from_seed("witness.example/w1", &[5; 32]).expect("a fine name")
    }

    fn checkpoint() -> (Checkpoint, String) {
        let checkpoint = Checkpoint { origin: "example.com/log".into(), size: 7, root: [1; 32] };
        let key = SigningNoteKey::from_seed("example.com/log", &[9; 32]).expect("a fine name");
        let note = checkpoint.sign(&key);
        (checkpoint, note)
    }

    #[test]
    fn cosigned_and_verified() {
        let (checkpoint, note) = checkpoint();
        let time = Timestamp::from_second(1_790_000_000).expect("in range");
        let cosigned = format!("{note}{}", witness().cosign(&checkpoint.text(), time));
        let note = Note::parse(cosigned.as_bytes()).expect("a note");
        assert_eq!(witness().verifier().verify(&note), Ok(Some(time)));
        let other = WitnessSigner::from_seed("witness.example/w1", &[6; 32]).expect("a fine name");
        assert_eq!(other.verifier().verify(&note), Ok(None), "another key id");
        let changed = cosigned.replace("\n7\n", "\n8\n");
        let note = Note::parse(changed.as_bytes()).expect("a note");
        assert!(witness().verifier().verify(&note).is_err());
    }
}
