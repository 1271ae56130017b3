//! The keys of one log, and how they change.
//!
//! A log has one key. While that is changed it has two: for a time the log signs with both, so that whoever holds either of them
//! can check it, and then with the new one alone. Each change is a `log.key` entry, and a note that the log's keys sign:
//!
//! ```text
//! bqwitness.dev/keys/v1
//! <origin>
//! <vkey>
//! ...                          the keys that sign from now on, the newest first
//! ```
//!
//! The note is signed by all keys before the change and after it. Whoever holds one key of before may therefore believe those
//! of after ([`LogKeys::follow`]): the key that is replaced vouches for the one that replaces it, also when it goes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::note::{BadKey, BadNote, Note, NoteSigner, NoteVerifier, SigningNoteKey, VerifierKey};

/// First line of the note that says a log's keys. No log may have it as its origin.
pub const HEADER: &str = "bqwitness.dev/keys/v1";

/// The notes of all changes of a log's keys, oldest first: what a recorder serves at `/log/keys`, and keeps in `DATA/log.keys`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyNotes {
    /// Signed notes.
    pub notes: Vec<String>,
}

impl KeyNotes {
    /// The keys that the log has now, to somebody who believes `held`.
    #[must_use]
    pub fn follow(&self, held: &LogKeys) -> LogKeys {
        held.follow(self.notes.iter().map(String::as_str))
    }
}

/// Most keys that a log has at one time.
pub const MAX_KEYS: usize = 2;

/// The keys of one log that somebody believes, the newest first. Each alone is enough. Written one vkey a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogKeys(Vec<VerifierKey>);

/// The keys that a log signs with, the newest first. Their text is a secret.
#[derive(Clone, Debug)]
pub struct LogSigners(Vec<SigningNoteKey>);

impl LogKeys {
    /// These keys.
    ///
    /// # Errors
    /// [`BadKey::Several`]: none, or not of one log.
    pub fn new(keys: Vec<VerifierKey>) -> Result<Self, BadKey> {
        let first = keys.first().ok_or(BadKey::Several)?;
        let same = keys.iter().all(|key| key.name() == first.name());
        if same { Ok(Self(keys)) } else { Err(BadKey::Several) }
    }

    /// The log's origin.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0[0].name()
    }

    /// Each key, the newest first.
    #[must_use]
    pub fn keys(&self) -> &[VerifierKey] {
        &self.0
    }

    /// These and those, of the same log, each once.
    #[must_use]
    pub fn with(&self, others: &Self) -> Self {
        let more = others.0.iter().filter(|key| key.name() == self.name() && !self.0.contains(key));
        Self(self.0.iter().chain(more).cloned().collect())
    }

    /// Is one of these keys named so?
    #[must_use]
    pub fn signs_as(&self, name: &str, id: u32) -> bool {
        self.0.iter().any(|key| (key.name(), key.id()) == (name, id))
    }

    /// The keys that the log has, after the changes that these notes tell of, oldest first: each is believed when keys that are
    /// believed by then signed it. Other notes are passed over.
    #[must_use]
    pub fn follow<'a>(&self, notes: impl IntoIterator<Item = &'a str>) -> Self {
        let mut keys = self.clone();
        for note in notes {
            if let Ok(changed) = keys.read_change(note) {
                keys = changed;
            }
        }
        keys
    }

    fn read_change(&self, note: &str) -> Result<Self, BadKey> {
        let note = Note::parse(note.as_bytes()).map_err(|_| BadKey::Format)?;
        let text = self.verify(&note).map_err(|_| BadKey::Format)?;
        let mut lines = text.lines();
        if lines.next() != Some(HEADER) || lines.next() != Some(self.name()) {
            return Err(BadKey::Format);
        }
        let changed = Self::new(lines.map(str::parse).collect::<Result<Vec<_>, _>>()?)?;
        // Every new key signed it too: whoever said it has them.
        let held = changed.0.iter().all(|key| note.verify(key).is_ok());
        if held && changed.name() == self.name() { Ok(changed) } else { Err(BadKey::Several) }
    }
}

impl From<VerifierKey> for LogKeys {
    fn from(key: VerifierKey) -> Self {
        Self(vec![key])
    }
}

impl NoteVerifier for LogKeys {
    fn name(&self) -> &str {
        self.name()
    }

    /// One signature is enough; one that is there and does not hold is an error.
    fn verify<'a>(&self, note: &Note<'a>) -> Result<&'a str, BadNote> {
        let mut text = None;
        for key in &self.0 {
            match note.verify(key) {
                Ok(signed) => text = Some(signed),
                Err(BadNote::Unsigned(_)) => {}
                Err(error) => return Err(error),
            }
        }
        text.ok_or_else(|| BadNote::Unsigned(self.name().to_owned()))
    }
}

impl fmt::Display for LogKeys {
    /// One vkey a line, without a newline at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl FromStr for LogKeys {
    type Err = BadKey;

    /// One vkey a line; empty lines, and those that begin with `#`, are passed over.
    fn from_str(text: &str) -> Result<Self, BadKey> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self::new(lines.map(str::parse).collect::<Result<Vec<_>, _>>()?)
    }
}

impl LogSigners {
    /// These keys, the newest first.
    ///
    /// # Errors
    /// [`BadKey::Several`]: none, too many, or not of one log.
    pub fn new(keys: Vec<SigningNoteKey>) -> Result<Self, BadKey> {
        LogKeys::new(keys.iter().map(|key| key.verifier().clone()).collect())?;
        if keys.len() > MAX_KEYS { Err(BadKey::Several) } else { Ok(Self(keys)) }
    }

    /// Each key, the newest first.
    #[must_use]
    pub fn keys(&self) -> &[SigningNoteKey] {
        &self.0
    }

    /// The public halves.
    #[must_use]
    pub fn verifiers(&self) -> LogKeys {
        LogKeys(self.0.iter().map(|key| key.verifier().clone()).collect())
    }

    /// `text`, which ends in a newline, as a note signed by each key.
    #[must_use]
    pub fn sign(&self, text: &str) -> String {
        let lines: String = self.0.iter().map(|key| key.signature_line(text)).collect();
        format!("{text}\n{lines}")
    }

    /// The note that says that the log's keys are `after` from now on.
    #[must_use]
    pub fn sign_change(&self, after: &Self) -> String {
        let keys = after.verifiers();
        let text = format!("{HEADER}\n{}\n{keys}\n", keys.name());
        let before = self.0.iter().filter(|key| !keys.signs_as(key.verifier().name(), key.verifier().id()));
        let lines: String = after.0.iter().chain(before).map(|key| key.signature_line(&text)).collect();
        format!("{text}\n{lines}")
    }

    /// The text of the key file: one secret key a line.
    #[must_use]
    pub fn to_secret_text(&self) -> String {
        self.0.iter().map(|key| format!("{}\n", key.to_secret_text())).collect()
    }

    /// Reads that text.
    ///
    /// # Errors
    /// [`BadKey`]
    pub fn from_secret_text(text: &str) -> Result<Self, BadKey> {
        Self::new(text.lines().map(SigningNoteKey::from_secret_text).collect::<Result<Vec<_>, _>>()?)
    }
}

impl NoteSigner for LogSigners {
    fn sign_note(&self, text: &str) -> String {
        self.sign(text)
    }
}

impl From<SigningNoteKey> for LogSigners {
    fn from(key: SigningNoteKey) -> Self {
        Self(vec![key])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Checkpoint;

    fn signers(seeds: &[u8]) -> LogSigners {
        let key =
            |seed: &u8| SigningNoteKey::from_seed("example.com/log", &[*seed; 32]).expect("a fine name");
        LogSigners::new(seeds.iter().map(key).collect()).expect("of one log")
    }

    fn keys(seeds: &[u8]) -> LogKeys {
        signers(seeds).verifiers()
    }

    #[test]
    fn keys_are_written_one_a_line() {
        let both = keys(&[2, 1]);
        assert_eq!(format!("# since May\n{both}\n\n").parse::<LogKeys>(), Ok(both.clone()));
        assert_eq!("\n".parse::<LogKeys>(), Err(BadKey::Several));
        let other = SigningNoteKey::from_seed("example.com/other", &[1; 32]).expect("a fine name");
        assert_eq!(format!("{both}\n{}", other.verifier()).parse::<LogKeys>(), Err(BadKey::Several));
        let secret = signers(&[2, 1]).to_secret_text();
        assert_eq!(LogSigners::from_secret_text(&secret).expect("ours").verifiers(), both);
        assert!(LogSigners::from_secret_text(&secret.repeat(2)).is_err(), "too many");
    }

    #[test]
    fn a_note_of_both_is_read_with_either() {
        let checkpoint = Checkpoint { origin: "example.com/log".into(), size: 7, root: [1; 32] };
        let note = signers(&[2, 1]).sign(&checkpoint.text());
        for holder in [keys(&[1]), keys(&[2]), keys(&[2, 1]), keys(&[3, 1])] {
            assert_eq!(Checkpoint::verify(note.as_bytes(), &holder).as_ref(), Ok(&checkpoint));
        }
        assert!(Checkpoint::verify(note.as_bytes(), &keys(&[3])).is_err());
        // Its line, and not its signature: somebody changed it.
        let mixed = note.replacen("\n7\n", "\n8\n", 1);
        assert!(Checkpoint::verify(mixed.as_bytes(), &keys(&[1])).is_err());
    }

    #[test]
    fn the_old_key_vouches_for_the_new_one() {
        let added = signers(&[1]).sign_change(&signers(&[2, 1]));
        let retired = signers(&[2, 1]).sign_change(&signers(&[2]));
        let again = signers(&[2]).sign_change(&signers(&[3, 2]));
        let all = [added.as_str(), retired.as_str(), again.as_str()];
        assert_eq!(keys(&[1]).follow(all), keys(&[3, 2]), "also by somebody who slept through all of it");
        assert_eq!(keys(&[2]).follow(all), keys(&[3, 2]));
        assert_eq!(keys(&[9]).follow(all), keys(&[9]), "nobody whom they know says so");
        assert_eq!(keys(&[1]).follow([again.as_str()]), keys(&[1]), "a link is missing");
    }

    #[test]
    fn what_the_keys_did_not_both_sign_changes_nothing() {
        let text = format!("{HEADER}\nexample.com/log\n{}\n", keys(&[5]));
        let not_held = signers(&[1]).sign(&text); // the new key never signed it
        let stranger = signers(&[5]).sign(&text);
        let other_kind = signers(&[1]).sign(&text.replace("keys/v1", "keys/v2"));
        let other_log = signers(&[1]).sign(&text.replacen("example.com/log", "example.com/other", 1));
        for note in [&not_held, &stranger, &other_kind, &other_log, &String::from("\n")] {
            assert_eq!(keys(&[1]).follow([note.as_str()]), keys(&[1]), "{note}");
        }
    }
}
