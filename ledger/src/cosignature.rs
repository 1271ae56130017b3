//! Cosignatures of witnesses: <https://c2sp.org/tlog-cosignature> (`cosignature/v1`, Ed25519, type 0x04). A witness signs a
//! checkpoint with a time, and only if it continues the one that it signed before: so nobody can be shown another history.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signature, Signer as _, SigningKey, Verifier as _, VerifyingKey};
use jiff::Timestamp;

use crate::note::{BadKey, BadNote, Note, SIGNATURE_MARK, check_name, key_id, split_typed_key};

/// The type of an Ed25519 cosignature key.
const COSIGNATURE: u8 = 0x04;

const PRIVATE_PREFIX: &str = "PRIVATE+KEY+";

/// A witness's key. Its text form is a secret.
#[derive(Clone)]
pub struct WitnessSigner {
    key: SigningKey,
    verifier: WitnessKey,
}

/// The key that verifies a witness's cosignatures: a `vkey` of type 0x04.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WitnessKey {
    name: String,
    id: u32,
    key: VerifyingKey,
}

/// What a witness signs: the checkpoint's text under a time.
fn message(text: &str, time: u64) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

impl WitnessSigner {
    /// A key from its 32-byte seed.
    ///
    /// # Errors
    /// [`BadKey::Name`]
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, BadKey> {
        let key = SigningKey::from_bytes(seed);
        Ok(Self { verifier: WitnessKey::new(name, key.verifying_key())?, key })
    }

    /// The public half.
    #[must_use]
    pub fn verifier(&self) -> &WitnessKey {
        &self.verifier
    }

    /// The secret text form: `PRIVATE+KEY+name+id+key`.
    #[must_use]
    pub fn to_secret_text(&self) -> String {
        let key = BASE64.encode([&[COSIGNATURE][..], &self.key.to_bytes()].concat());
        format!("{PRIVATE_PREFIX}{}+{:08x}+{key}", self.verifier.name, self.verifier.id)
    }

    /// Reads the secret text form.
    ///
    /// # Errors
    /// [`BadKey`]
    pub fn from_secret_text(text: &str) -> Result<Self, BadKey> {
        let (name, id, key) =
            split_typed_key(text.strip_prefix(PRIVATE_PREFIX).ok_or(BadKey::Format)?, COSIGNATURE)?;
        let key = Self::from_seed(name, &key)?;
        if key.verifier.id == id { Ok(key) } else { Err(BadKey::Id) }
    }

    /// The signature line, with its newline, for the checkpoint with this text at this time.
    #[must_use]
    pub fn cosign(&self, text: &str, time: Timestamp) -> String {
        let time = u64::try_from(time.as_second()).unwrap_or(0);
        let signature = self.key.sign(message(text, time).as_bytes()).to_bytes();
        let bytes = [&self.verifier.id.to_be_bytes()[..], &time.to_be_bytes(), &signature].concat();
        format!("{SIGNATURE_MARK}{} {}\n", self.verifier.name, BASE64.encode(bytes))
    }
}

impl fmt::Debug for WitnessSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WitnessSigner({})", self.verifier)
    }
}

impl WitnessKey {
    fn new(name: &str, key: VerifyingKey) -> Result<Self, BadKey> {
        check_name(name)?;
        Ok(Self { name: name.into(), id: key_id(name, COSIGNATURE, key.as_bytes()), key })
    }

    /// The witness's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key's id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// When this witness cosigned the note; `None` when it did not.
    ///
    /// # Errors
    /// [`BadNote::Signature`]: a line in its name is not its.
    pub fn verify(&self, note: &Note<'_>) -> Result<Option<Timestamp>, BadNote> {
        let bad = || BadNote::Signature(self.name.clone());
        let Some(bytes) = note.signature_of(&self.name, self.id) else { return Ok(None) };
        let (time, signature) = bytes.split_first_chunk::<8>().ok_or_else(bad)?;
        let time = u64::from_be_bytes(*time);
        let signature = Signature::from_slice(signature).map_err(|_| bad())?;
        self.key.verify(message(note.text(), time).as_bytes(), &signature).map_err(|_| bad())?;
        let time = i64::try_from(time).ok().and_then(|time| Timestamp::from_second(time).ok());
        time.map(Some).ok_or_else(bad)
    }
}

impl fmt::Display for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = BASE64.encode([&[COSIGNATURE][..], self.key.as_bytes()].concat());
        write!(f, "{}+{:08x}+{key}", self.name, self.id)
    }
}

impl FromStr for WitnessKey {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        let (name, id, key) = split_typed_key(text.trim(), COSIGNATURE)?;
        let key = Self::new(name, VerifyingKey::from_bytes(&key).map_err(|_| BadKey::Algorithm)?)?;
        if key.id == id { Ok(key) } else { Err(BadKey::Id) }
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

    #[test]
    fn keys_have_one_text() {
        let text = witness().verifier().to_string();
        assert_eq!(text.parse::<WitnessKey>().as_ref(), Ok(witness().verifier()));
        let secret = witness().to_secret_text();
        assert_eq!(WitnessSigner::from_secret_text(&secret).expect("ours").verifier(), witness().verifier());
        let log = SigningNoteKey::from_seed("example.com/log", &[9; 32]).expect("a fine name");
        assert_eq!(log.verifier().to_string().parse::<WitnessKey>(), Err(BadKey::Algorithm));
        assert!(!format!("{:?}", witness()).contains("PRIVATE"));
    }
}
