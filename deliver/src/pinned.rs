//! The log's keys that we believe, from a file. Whoever may write that file decides whom we believe, so it is read anew when the
//! log's key was changed: when nothing that we hold signs any more what the recorder says.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use ledger::log_keys::LogKeys;
use runtime::tls;

/// Keys from a file, as they were read last.
#[derive(Debug)]
pub struct PinnedKeys {
    path: PathBuf,
    keys: RwLock<Arc<LogKeys>>,
}

impl PinnedKeys {
    /// Reads the file: a vkey a line.
    ///
    /// # Errors
    /// It can't be read, or has no key of a log; the text names the file.
    pub fn read(path: &Path) -> Result<Self, String> {
        let keys = read(path)?;
        Ok(Self { path: path.into(), keys: RwLock::new(Arc::new(keys)) })
    }

    /// Those of a text, which stay as they are.
    ///
    /// # Errors
    /// It has no key of a log.
    pub fn fixed(text: &str) -> Result<Self, String> {
        let keys: LogKeys = text.parse().map_err(|error: ledger::note::BadKey| error.to_string())?;
        Ok(Self { path: PathBuf::new(), keys: RwLock::new(Arc::new(keys)) })
    }

    /// What `verify` makes of the keys; when it fails, of those that the file has now, if these are others of the same log.
    pub(crate) fn check<T, E>(&self, verify: impl Fn(&LogKeys) -> Result<T, E>) -> Result<T, E> {
        let held = self.held();
        match verify(&held) {
            Err(error) => match self.read_anew(&held) {
                Some(keys) => verify(&keys),
                None => Err(error),
            },
            verified => verified,
        }
    }

    fn held(&self) -> Arc<LogKeys> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone() // replaced whole
    }

    fn read_anew(&self, held: &LogKeys) -> Option<Arc<LogKeys>> {
        let keys = read(&self.path).ok().filter(|keys| keys != held && keys.name() == held.name())?;
        tracing::warn!(%keys, "the log's keys were changed; these are believed now");
        let keys = Arc::new(keys);
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&keys);
        Some(keys)
    }
}

fn read(path: &Path) -> Result<LogKeys, String> {
    let text = tls::read_text(path).map_err(|error| error.to_string())?;
    text.parse().map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use ledger::checkpoint::Checkpoint;
    use ledger::log_keys::LogSigners;
    use ledger::note::SigningNoteKey;

    use super::*;

    fn key(origin: &str, seed: u8) -> SigningNoteKey {
        SigningNoteKey::from_seed(origin, &[seed; 32]).expect("a fine name")
    }

    #[test]
    fn a_changed_file_counts_when_it_is_needed() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("log.vkey");
        let put =
            |key: &SigningNoteKey| std::fs::write(&file, format!("{}\n", key.verifier())).expect("written");
        let (old, new) = (key("example.com/log", 1), key("example.com/log", 2));
        put(&old);
        let pinned = PinnedKeys::read(&file).expect("a key");
        let checkpoint = Checkpoint { origin: "example.com/log".into(), size: 1, root: [0; 32] };
        let holds = |note: String| pinned.check(|keys| Checkpoint::verify(note.as_bytes(), keys)).is_ok();
        let both = LogSigners::new(vec![new.clone(), old.clone()]).expect("of one log");
        assert!(holds(checkpoint.sign(&old)) && holds(checkpoint.sign(&both)));
        assert!(!holds(checkpoint.sign(&new)), "the file has the old one");
        put(&key("example.com/other", 2));
        assert!(!holds(checkpoint.sign(&new)), "another log's key is no key of this one");
        std::fs::write(&file, "").expect("written");
        assert!(!holds(checkpoint.sign(&new)));
        put(&new);
        assert!(holds(checkpoint.sign(&new)));
        assert!(!holds(checkpoint.sign(&old)), "the old one is not believed any more");
    }
}
