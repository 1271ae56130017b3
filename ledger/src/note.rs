//! Signed notes: <https://c2sp.org/signed-note> (version 1.0.0), Ed25519 signatures (type 0x01). Signatures of unknown
//! keys and types are kept and ignored, as the specification asks.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signature, Signer as _, SigningKey, Verifier as _, VerifyingKey};
use sha2::{Digest as _, Sha256};

/// Greatest length of a note, in bytes. A receipt for a whole batch is the longest that we write.
pub const MAX_NOTE: usize = 256 * 1024;

const ED25519: u8 = 0x01;
pub(crate) const SIGNATURE_MARK: &str = "\u{2014} ";
const PRIVATE_PREFIX: &str = "PRIVATE+KEY+";

/// A key that signs notes under a name. Its text form (as Go's `sumdb/note` writes it) is a secret.
#[derive(Clone)]
pub struct SigningNoteKey {
    key: SigningKey,
    verifier: VerifierKey,
}

/// A key that verifies notes. Its text form is the specification's `vkey`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifierKey {
    name: String,
    id: u32,
    key: VerifyingKey,
}

/// A note that was read; nothing in it is to be believed before [`Note::verify`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note<'a> {
    text: &'a str,
    signatures: Vec<NoteSignature<'a>>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct NoteSignature<'a> {
    name: &'a str,
    id: u32,
    signature: Vec<u8>,
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
}

/// The bytes are not a note, or not one that the key signed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadNote {
    /// Longer than [`MAX_NOTE`].
    #[error("a note has at most {MAX_NOTE} bytes; this one has {0}")]
    TooLarge(usize),
    /// Not text, blank line, signature lines.
    #[error("not a signed note: text, a blank line, then signature lines")]
    Format,
    /// No signature by the key.
    #[error("the note has no signature by {0}")]
    Unsigned(String),
    /// A signature that names the key and is not its.
    #[error("the signature by {0} does not fit the note: one of them was changed")]
    Signature(String),
}

impl SigningNoteKey {
    /// A key from its 32-byte seed.
    ///
    /// # Errors
    /// [`BadKey::Name`]
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, BadKey> {
        let key = SigningKey::from_bytes(seed);
        Ok(Self { verifier: VerifierKey::new(name, key.verifying_key())?, key })
    }

    /// The public half.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// The secret text form: `PRIVATE+KEY+name+id+key`.
    #[must_use]
    pub fn to_secret_text(&self) -> String {
        let key = BASE64.encode([&[ED25519][..], &self.key.to_bytes()].concat());
        format!("{PRIVATE_PREFIX}{}+{:08x}+{key}", self.verifier.name, self.verifier.id)
    }

    /// Reads the secret text form.
    ///
    /// # Errors
    /// [`BadKey`]
    pub fn from_secret_text(text: &str) -> Result<Self, BadKey> {
        let (name, id, key) = split_key(text.strip_prefix(PRIVATE_PREFIX).ok_or(BadKey::Format)?)?;
        let key = Self::from_seed(name, &key)?;
        if key.verifier.id == id { Ok(key) } else { Err(BadKey::Id) }
    }

    /// `text`, which ends in a newline, as a note signed by this key.
    #[must_use]
    pub fn sign(&self, text: &str) -> String {
        debug_assert!(text.ends_with('\n'), "a note's text ends in a newline");
        let signature = self.key.sign(text.as_bytes()).to_bytes();
        let line = BASE64.encode([&self.verifier.id.to_be_bytes()[..], &signature].concat());
        format!("{text}\n{SIGNATURE_MARK}{} {line}\n", self.verifier.name)
    }
}

impl fmt::Debug for SigningNoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningNoteKey({})", self.verifier)
    }
}

impl VerifierKey {
    fn new(name: &str, key: VerifyingKey) -> Result<Self, BadKey> {
        check_name(name)?;
        Ok(Self { name: name.into(), id: key_id(name, ED25519, key.as_bytes()), key })
    }

    /// The key's name: for a log's key, its origin.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key's id, with which signatures name it.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = BASE64.encode([&[ED25519][..], self.key.as_bytes()].concat());
        write!(f, "{}+{:08x}+{key}", self.name, self.id)
    }
}

impl FromStr for VerifierKey {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        let (name, id, key) = split_key(text.trim())?;
        let key = Self::new(name, VerifyingKey::from_bytes(&key).map_err(|_| BadKey::Algorithm)?)?;
        if key.id == id { Ok(key) } else { Err(BadKey::Id) }
    }
}

pub(crate) fn check_name(name: &str) -> Result<(), BadKey> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    if name.is_empty() || name.contains(odd) { Err(BadKey::Name) } else { Ok(()) }
}

/// The first four bytes of `SHA-256(name || "\n" || type || key)`.
pub(crate) fn key_id(name: &str, kind: u8, key: &[u8; 32]) -> u32 {
    let mut hash = Sha256::new();
    hash.update(name);
    hash.update([b'\n', kind]);
    hash.update(key);
    let id = hash.finalize();
    u32::from_be_bytes([id[0], id[1], id[2], id[3]])
}

fn split_key(text: &str) -> Result<(&str, u32, [u8; 32]), BadKey> {
    split_typed_key(text, ED25519)
}

/// `name+id+base64(type, key)`. The name has no plus sign; base64 may.
pub(crate) fn split_typed_key(text: &str, kind: u8) -> Result<(&str, u32, [u8; 32]), BadKey> {
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

impl<'a> Note<'a> {
    /// Splits a note into text and signatures.
    ///
    /// # Errors
    /// [`BadNote::TooLarge`], [`BadNote::Format`]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BadNote> {
        if bytes.len() > MAX_NOTE {
            return Err(BadNote::TooLarge(bytes.len()));
        }
        let note = std::str::from_utf8(bytes).map_err(|_| BadNote::Format)?;
        if note.chars().any(|c| c < ' ' && c != '\n') {
            return Err(BadNote::Format);
        }
        let split = note.rfind("\n\n").ok_or(BadNote::Format)? + 1;
        let (text, signatures) = (&note[..split], &note[split + 1..]);
        let lines = signatures.strip_suffix('\n').ok_or(BadNote::Format)?;
        let signatures =
            lines.split('\n').map(parse_signature).collect::<Option<Vec<_>>>().ok_or(BadNote::Format)?;
        Ok(Self { text, signatures })
    }

    /// Name and key id of each signature line, in order.
    #[must_use]
    pub fn signers(&self) -> Vec<(&'a str, u32)> {
        self.signatures.iter().map(|signature| (signature.name, signature.id)).collect()
    }

    /// The text, of which nothing is to be believed yet.
    #[must_use]
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// The note with only those signature lines whose name and key id `known` is true of.
    #[must_use]
    pub fn with_signers(&self, known: impl Fn(&str, u32) -> bool) -> String {
        let mut note = format!("{}\n", self.text);
        for line in self.signatures.iter().filter(|line| known(line.name, line.id)) {
            let bytes = [&line.id.to_be_bytes()[..], &line.signature].concat();
            note.push_str(&format!("{SIGNATURE_MARK}{} {}\n", line.name, BASE64.encode(bytes)));
        }
        note
    }

    /// The bytes after the key id of the signature line with this name and id.
    pub(crate) fn signature_of(&self, name: &str, id: u32) -> Option<&[u8]> {
        let line = self.signatures.iter().find(|line| line.name == name && line.id == id)?;
        Some(&line.signature)
    }

    /// The text, once `key` is known to have signed it.
    ///
    /// # Errors
    /// [`BadNote::Unsigned`], [`BadNote::Signature`]
    pub fn verify(&self, key: &VerifierKey) -> Result<&'a str, BadNote> {
        let signature = self
            .signatures
            .iter()
            .find(|signature| signature.name == key.name && signature.id == key.id)
            .ok_or_else(|| BadNote::Unsigned(key.name.clone()))?;
        Signature::from_slice(&signature.signature)
            .and_then(|signature| key.key.verify(self.text.as_bytes(), &signature))
            .map(|()| self.text)
            .map_err(|_| BadNote::Signature(key.name.clone()))
    }
}

fn parse_signature(line: &str) -> Option<NoteSignature<'_>> {
    let (name, encoded) = line.strip_prefix(SIGNATURE_MARK)?.split_once(' ')?;
    let bytes = BASE64.decode(encoded).ok()?;
    let (id, signature) = bytes.split_first_chunk::<4>()?;
    let named = !name.is_empty() && !name.contains('+') && !name.chars().any(char::is_whitespace);
    (named && !signature.is_empty()).then(|| NoteSignature {
        name,
        id: u32::from_be_bytes(*id),
        signature: signature.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> SigningNoteKey {
        SigningNoteKey::from_seed("example.com/log", &[3; 32]).expect("a fine name")
    }

    /// The example of the specification.
    #[test]
    fn the_specifications_example_verifies() {
        let key: VerifierKey =
            "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k".parse().expect("a key");
        let note = "This is an example message.\n\n\u{2014} example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";
        let note = Note::parse(note.as_bytes()).expect("a note");
        assert_eq!(note.verify(&key), Ok("This is an example message.\n"));
    }

    #[test]
    fn keys_have_one_text() {
        let text = key().verifier().to_string();
        assert_eq!(text.parse::<VerifierKey>().as_ref(), Ok(key().verifier()));
        let secret = key().to_secret_text();
        assert_eq!(SigningNoteKey::from_secret_text(&secret).expect("ours").verifier(), key().verifier());
        assert_eq!(text.replace("example.com", "example.net").parse::<VerifierKey>(), Err(BadKey::Id));
        assert_eq!(SigningNoteKey::from_seed("a b", &[0; 32]).err(), Some(BadKey::Name));
        assert!(!format!("{:?}", key()).contains("PRIVATE"));
    }

    #[test]
    fn other_signatures_are_ignored_and_a_wrong_one_is_not() {
        let note = key().sign("hello\n");
        let more = format!("{note}\u{2014} other.example AAAAAAECAwQ=\n");
        assert_eq!(Note::parse(more.as_bytes()).expect("a note").verify(key().verifier()), Ok("hello\n"));
        let changed = note.replace("hello", "hullo");
        assert_eq!(
            Note::parse(changed.as_bytes()).expect("a note").verify(key().verifier()),
            Err(BadNote::Signature("example.com/log".into()))
        );
        let other = SigningNoteKey::from_seed("example.com/log", &[4; 32]).expect("a fine name");
        assert!(matches!(
            Note::parse(note.as_bytes()).expect("a note").verify(other.verifier()),
            Err(BadNote::Unsigned(_))
        ));
    }

    #[test]
    fn the_other_implementation_reads_ours() {
        let note = key().sign("hello\n\nworld\n");
        let verifier =
            signed_note::StandardVerifier::new(&key().verifier().to_string()).expect("reads our key");
        let list = signed_note::VerifierList::new(vec![Box::new(verifier)]);
        let theirs = signed_note::Note::from_bytes(note.as_bytes()).expect("reads our note");
        assert_eq!(theirs.verify(&list).map(|(known, _)| known.len()).ok(), Some(1));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _outcome = Note::parse(&bytes).is_ok();
        }

        #[test]
        fn one_changed_byte_is_found(at in 0usize..120, to: u8) {
            let mut note = key().sign("one\ntwo\nthree\n").into_bytes();
            let at = at % note.len();
            prop_assume!(note[at] != to);
            note[at] = to;
            let verified = Note::parse(&note).and_then(|n| n.verify(key().verifier()).map(str::to_owned));
            prop_assert!(verified.is_err());
        }
    }
}
