//! Signed notes: <https://c2sp.org/signed-note> (version 1.0.0), Ed25519 signatures (type 0x01). Signatures of unknown
//! keys and types are kept and ignored, as the specification asks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signature, Verifier as _};

use crate::key::{NOTE, PublicKey, SecretKey};

pub use crate::key::BadKey;

/// Greatest length of a note, in bytes. A receipt for a whole batch is the longest that we write.
pub const MAX_NOTE: usize = 256 * 1024;

pub(crate) const SIGNATURE_MARK: &str = "\u{2014} ";

/// A key that signs notes under a name: a log's.
pub type SigningNoteKey = SecretKey<NOTE>;

/// A key that verifies notes: a log's `vkey`.
pub type VerifierKey = PublicKey<NOTE>;

/// Somebody whose signature on a note is believed: one key, or several of one log ([`crate::log_keys::LogKeys`]).
pub trait NoteVerifier {
    /// The name of the key or keys: for a log, its origin.
    fn name(&self) -> &str;

    /// The note's text, once it is known to be signed.
    ///
    /// # Errors
    /// [`BadNote::Unsigned`], [`BadNote::Signature`]
    fn verify<'a>(&self, note: &Note<'a>) -> Result<&'a str, BadNote>;
}

/// Somebody who signs notes: one key, or several of one log ([`crate::log_keys::LogSigners`]).
pub trait NoteSigner {
    /// `text`, which ends in a newline, as a signed note.
    fn sign_note(&self, text: &str) -> String;
}

impl NoteSigner for SigningNoteKey {
    fn sign_note(&self, text: &str) -> String {
        self.sign(text)
    }
}

impl NoteVerifier for VerifierKey {
    fn name(&self) -> &str {
        self.name()
    }

    fn verify<'a>(&self, note: &Note<'a>) -> Result<&'a str, BadNote> {
        note.verify(self)
    }
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
    /// `text`, which ends in a newline, as a note signed by this key.
    #[must_use]
    pub fn sign(&self, text: &str) -> String {
        format!("{text}\n{}", self.signature_line(text))
    }

    /// The line, with its newline, with which this key signs a note of this text.
    #[must_use]
    pub fn signature_line(&self, text: &str) -> String {
        debug_assert!(text.ends_with('\n'), "a note's text ends in a newline");
        let (id, signature) = (self.verifier().id(), self.sign_bytes(text.as_bytes()));
        let line = BASE64.encode([&id.to_be_bytes()[..], &signature].concat());
        format!("{SIGNATURE_MARK}{} {line}\n", self.verifier().name())
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
            .find(|signature| signature.name == key.name() && signature.id == key.id())
            .ok_or_else(|| BadNote::Unsigned(key.name().to_owned()))?;
        Signature::from_slice(&signature.signature)
            .and_then(|signature| key.key.verify(self.text.as_bytes(), &signature))
            .map(|()| self.text)
            .map_err(|_| BadNote::Signature(key.name().to_owned()))
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
