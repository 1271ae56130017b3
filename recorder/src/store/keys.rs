//! The log's keys: one, made in an empty directory; two while it is changed ([`crate::orders`]).

use std::sync::{Arc, PoisonError, RwLock};

use ledger::log_keys::{KeyNotes, LogSigners};
use ledger::note::{NoteSigner, SigningNoteKey};

use super::error::{StoreError, at};
use super::files::{Files, put_durably};

/// The secret: `PRIVATE+KEY+origin+id+key`, one a line, the newest first.
pub const KEY_FILE: &str = "log.key";

/// The verifier keys, for whoever wants to check the log, one a line.
pub const VKEY_FILE: &str = "log.vkey";

/// What was said when the keys were changed, for whoever reads a copy: [`KeyNotes`] as JSON. The log's entries have it too.
pub const NOTES_FILE: &str = "log.keys";

/// The keys that the log signs with now, shared by all who sign.
#[derive(Clone, Debug)]
pub struct Signer(Arc<RwLock<Signs>>);

#[derive(Clone, Debug)]
struct Signs {
    keys: Arc<LogSigners>,
    notes: Arc<KeyNotes>,
}

impl Signer {
    /// Signs with these keys, after the changes that `notes` tell of.
    #[must_use]
    pub fn new(keys: LogSigners, notes: KeyNotes) -> Self {
        Self(Arc::new(RwLock::new(Signs { keys: Arc::new(keys), notes: Arc::new(notes) })))
    }

    /// The keys that sign now.
    #[must_use]
    pub fn keys(&self) -> Arc<LogSigners> {
        self.now().keys
    }

    /// The log's name.
    #[must_use]
    pub fn origin(&self) -> String {
        self.keys().verifiers().name().to_owned()
    }

    /// What was said of all changes, oldest first.
    #[must_use]
    pub fn notes(&self) -> Arc<KeyNotes> {
        self.now().notes
    }

    /// The key that the log began with, which never changes.
    #[must_use]
    pub fn first_vkey(&self) -> String {
        let Signs { keys, notes } = self.now();
        // The first change was of a single key, which its note names last.
        let named = notes.notes.first().and_then(|note| note.split("\n\n").next()?.lines().next_back());
        named.map_or_else(|| oldest(&keys), str::to_owned)
    }

    /// Says what recovery found.
    pub(crate) fn begin(&self, keys: LogSigners, notes: KeyNotes) {
        let signs = Signs { keys: Arc::new(keys), notes: Arc::new(notes) };
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = signs;
    }

    /// From now on these keys sign, as `note` says.
    pub(crate) fn change(&self, keys: LogSigners, note: String) {
        let mut signs = self.0.write().unwrap_or_else(PoisonError::into_inner); // replaced whole
        let notes = signs.notes.notes.iter().cloned().chain([note]).collect();
        *signs = Signs { keys: Arc::new(keys), notes: Arc::new(KeyNotes { notes }) };
    }

    fn now(&self) -> Signs {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn oldest(keys: &LogSigners) -> String {
    keys.keys().last().map(|key| key.verifier().to_string()).unwrap_or_default()
}

impl NoteSigner for Signer {
    fn sign_note(&self, text: &str) -> String {
        self.keys().sign(text)
    }
}

/// The keys of the log in this directory; a new one if the directory has neither key nor log.
///
/// # Errors
/// [`StoreError::KeyMissing`], [`StoreError::BadKey`], [`StoreError::Origin`], or the system's.
pub fn load_or_make(files: &dyn Files, origin: &str) -> Result<LogSigners, StoreError> {
    let keys = match files.len(KEY_FILE).map_err(at("look at", KEY_FILE))? {
        Some(_) => load(files)?,
        None if has_log(files)? => return Err(StoreError::KeyMissing(KEY_FILE)),
        None => make_first(files, origin)?,
    };
    let verifiers = keys.verifiers();
    if verifiers.name() != origin {
        return Err(StoreError::Origin { found: verifiers.name().into(), asked: origin.into() });
    }
    put_durably(files, VKEY_FILE, format!("{verifiers}\n").as_bytes(), false)?;
    Ok(keys)
}

/// Makes these the log's keys on the disk: the secret first, then its public half and what was said.
///
/// # Errors
/// The system's.
pub(crate) fn store(files: &dyn Files, keys: &LogSigners) -> Result<(), StoreError> {
    put_durably(files, KEY_FILE, keys.to_secret_text().as_bytes(), true)?;
    put_durably(files, VKEY_FILE, format!("{}\n", keys.verifiers()).as_bytes(), false)
}

/// Writes what was said when the keys were changed; nothing when they never were.
///
/// # Errors
/// The system's.
pub(crate) fn store_notes(files: &dyn Files, notes: &KeyNotes) -> Result<(), StoreError> {
    if notes.notes.is_empty() {
        return Ok(());
    }
    let text = serde_json::to_vec_pretty(notes).map_err(|error| bad(error.to_string()))?;
    put_durably(files, NOTES_FILE, &text, false)
}

/// A new key for the log of this origin.
///
/// # Errors
/// [`StoreError::BadKey`]: the origin is no name, or the system has no random numbers.
pub(crate) fn make(origin: &str) -> Result<SigningNoteKey, StoreError> {
    let mut seed = [0; 32];
    fill_random(&mut seed)?;
    SigningNoteKey::from_seed(origin, &seed).map_err(|error| bad(error.to_string()))
}

fn load(files: &dyn Files) -> Result<LogSigners, StoreError> {
    let bytes = files.read(KEY_FILE).map_err(at("read", KEY_FILE))?;
    let text = String::from_utf8(bytes).map_err(|_| bad("not text"))?;
    LogSigners::from_secret_text(text.trim_end()).map_err(|error| bad(error.to_string()))
}

fn make_first(files: &dyn Files, origin: &str) -> Result<LogSigners, StoreError> {
    let key = make(origin)?;
    tracing::info!(origin, vkey = %key.verifier(), "made the log's key");
    let keys = LogSigners::from(key);
    put_durably(files, KEY_FILE, keys.to_secret_text().as_bytes(), true)?;
    Ok(keys)
}

fn has_log(files: &dyn Files) -> Result<bool, StoreError> {
    let checkpoint = files.len("log/checkpoint").map_err(at("look at", "log/checkpoint"))?;
    Ok(checkpoint.is_some() || !files.list("wal").map_err(at("list", "wal"))?.is_empty())
}

fn bad(what: impl Into<String>) -> StoreError {
    StoreError::BadKey { path: KEY_FILE, what: what.into() }
}

/// Random bytes from the TLS library's generator, which the kernel seeds.
fn fill_random(seed: &mut [u8; 32]) -> Result<(), StoreError> {
    runtime::tls::provider()
        .secure_random
        .fill(seed)
        .map_err(|_| bad("the system has no random numbers to make a key from"))
}
