//! Keys as signed notes have them: Ed25519 under a name, of one signature type (<https://c2sp.org/signed-note>).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

/// The type of a note's Ed25519 signature: a log's.
pub const NOTE: u8 = 0x01;

/// The type of an Ed25519 cosignature: a witness's.
pub const COSIGNATURE: u8 = 0x04;

const PRIVATE_PREFIX: &str = "PRIVATE+KEY+";

/// A key that signs, of signature type `KIND`. Its text form (as Go's `sumdb/note` writes it) is a secret.
#[derive(Clone)]
pub struct SecretKey<const KIND: u8> {
    key: SigningKey,
    public: PublicKey<KIND>,
}

/// A key that verifies, of signature type `KIND`. Its text form is the specification's `vkey`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicKey<const KIND: u8> {
    name: String,
    id: u32,
    pub(crate) key: VerifyingKey,
}

/// The text is not a key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadKey {
    /// Not `name+id+key`.
    #[error("a verifier key is written NAME+ID+KEY, as in a .vkey file")]
    Format,
    /// The name is empty or has white space or a plus sign.
    #[error("a key's name is not empty and has neither white space nor '+'")]
    Name,
    /// Of another type.
    #[error(
        "the key is not of the type that is needed here: a log's is 0x01, a witness's 0x04 (both Ed25519)"
    )]
    Algorithm,
    /// The id is not that of this name and key.
    #[error("the key id does not belong to this name and key: the text was changed")]
    Id,
    /// Keys of several logs, or none at all.
    #[error("these are not the keys of one log, one a line")]
    Several,
}

impl<const KIND: u8> SecretKey<KIND> {
    /// A key from its 32-byte seed.
    ///
    /// # Errors
    /// [`BadKey::Name`]
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, BadKey> {
        let key = SigningKey::from_bytes(seed);
        Ok(Self { public: PublicKey::new(name, key.verifying_key())?, key })
    }

    /// The public half.
    #[must_use]
    pub fn verifier(&self) -> &PublicKey<KIND> {
        &self.public
    }

    /// The secret text form: `PRIVATE+KEY+name+id+key`.
    #[must_use]
    pub fn to_secret_text(&self) -> String {
        format!("{PRIVATE_PREFIX}{}", key_text(&self.public.name, self.public.id, KIND, &self.key.to_bytes()))
    }

    /// Reads the secret text form.
    ///
    /// # Errors
    /// [`BadKey`]
    pub fn from_secret_text(text: &str) -> Result<Self, BadKey> {
        let (name, id, key) = split(text.strip_prefix(PRIVATE_PREFIX).ok_or(BadKey::Format)?, KIND)?;
        let key = Self::from_seed(name, &key)?;
        if key.public.id == id { Ok(key) } else { Err(BadKey::Id) }
    }

    pub(crate) fn sign_bytes(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

impl<const KIND: u8> fmt::Debug for SecretKey<KIND> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.public)
    }
}

impl<const KIND: u8> PublicKey<KIND> {
    fn new(name: &str, key: VerifyingKey) -> Result<Self, BadKey> {
        let odd = |c: char| c.is_whitespace() || c.is_control() || c == '+';
        if name.is_empty() || name.contains(odd) {
            return Err(BadKey::Name);
        }
        Ok(Self { name: name.into(), id: key_id(name, KIND, key.as_bytes()), key })
    }

    /// Its name: for a log's key, its origin.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its id, with which signatures name it.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }
}

impl<const KIND: u8> fmt::Display for PublicKey<KIND> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&key_text(&self.name, self.id, KIND, self.key.as_bytes()))
    }
}

impl<const KIND: u8> FromStr for PublicKey<KIND> {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        let (name, id, key) = split(text.trim(), KIND)?;
        let key = Self::new(name, VerifyingKey::from_bytes(&key).map_err(|_| BadKey::Algorithm)?)?;
        if key.id == id { Ok(key) } else { Err(BadKey::Id) }
    }
}

fn key_text(name: &str, id: u32, kind: u8, key: &[u8; 32]) -> String {
    format!("{name}+{id:08x}+{}", BASE64.encode([&[kind][..], key].concat()))
}

/// The first four bytes of `SHA-256(name || "\n" || type || key)`.
fn key_id(name: &str, kind: u8, key: &[u8; 32]) -> u32 {
    let mut hash = Sha256::new();
    hash.update(name);
    hash.update([b'\n', kind]);
    hash.update(key);
    let id = hash.finalize();
    u32::from_be_bytes([id[0], id[1], id[2], id[3]])
}

/// `name+id+base64(type, key)`. The name has no plus sign; base64 may.
fn split(text: &str, kind: u8) -> Result<(&str, u32, [u8; 32]), BadKey> {
    let mut parts = text.splitn(3, '+');
    let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(BadKey::Format);
    };
    let id = (id.len() == 8).then(|| u32::from_str_radix(id, 16).ok()).flatten().ok_or(BadKey::Format)?;
    match BASE64.decode(key).map_err(|_| BadKey::Format)?.split_first() {
        Some((found, key)) if *found == kind => {
            Ok((name, id, key.try_into().map_err(|_| BadKey::Algorithm)?))
        }
        _ => Err(BadKey::Algorithm),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_one_text() {
        let key = SecretKey::<NOTE>::from_seed("example.com/log", &[3; 32]).expect("a fine name");
        let text = key.verifier().to_string();
        assert_eq!(text.parse().as_ref(), Ok(key.verifier()));
        let read = SecretKey::<NOTE>::from_secret_text(&key.to_secret_text()).expect("ours");
        assert_eq!(read.verifier(), key.verifier());
        let other = text.replace("example.com", "example.net");
        assert_eq!(other.parse::<PublicKey<NOTE>>(), Err(BadKey::Id));
        assert_eq!(SecretKey::<NOTE>::from_seed("a b", &[0; 32]).err(), Some(BadKey::Name));
        assert!(!format!("{key:?}").contains("PRIVATE"));
    }

    #[test]
    fn a_key_of_one_type_is_none_of_another() {
        let log = SecretKey::<NOTE>::from_seed("example.com/x", &[3; 32]).expect("a fine name");
        let witness = SecretKey::<COSIGNATURE>::from_seed("example.com/x", &[3; 32]).expect("a fine name");
        assert_ne!(log.verifier().id(), witness.verifier().id());
        let text = log.verifier().to_string();
        assert_eq!(text.parse::<PublicKey<COSIGNATURE>>(), Err(BadKey::Algorithm));
        assert_eq!(
            SecretKey::<COSIGNATURE>::from_secret_text(&log.to_secret_text()).err(),
            Some(BadKey::Algorithm)
        );
    }
}
