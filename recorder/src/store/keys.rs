//! The log's key: made once, in an empty directory, and never again.

use ledger::note::SigningNoteKey;

use super::error::{StoreError, at};
use super::files::{Files, put_durably};

/// The secret: `PRIVATE+KEY+origin+id+key`.
pub const KEY_FILE: &str = "log.key";

/// The verifier key, for whoever wants to check the log.
pub const VKEY_FILE: &str = "log.vkey";

/// The key of the log in this directory; a new one if the directory has neither key nor log.
///
/// # Errors
/// [`StoreError::KeyMissing`], [`StoreError::BadKey`], [`StoreError::Origin`], or the system's.
pub fn load_or_make(files: &dyn Files, origin: &str) -> Result<SigningNoteKey, StoreError> {
    let key = match files.len(KEY_FILE).map_err(at("look at", KEY_FILE))? {
        Some(_) => load(files)?,
        None if has_log(files)? => return Err(StoreError::KeyMissing(KEY_FILE)),
        None => make(files, origin)?,
    };
    let found = key.verifier().name();
    if found != origin {
        return Err(StoreError::Origin { found: found.into(), asked: origin.into() });
    }
    put_durably(files, VKEY_FILE, format!("{}\n", key.verifier()).as_bytes(), false)?;
    Ok(key)
}

fn load(files: &dyn Files) -> Result<SigningNoteKey, StoreError> {
    let bytes = files.read(KEY_FILE).map_err(at("read", KEY_FILE))?;
    let text = String::from_utf8(bytes).map_err(|_| bad("not text"))?;
    SigningNoteKey::from_secret_text(text.trim_end()).map_err(|error| bad(error.to_string()))
}

fn make(files: &dyn Files, origin: &str) -> Result<SigningNoteKey, StoreError> {
    let mut seed = [0; 32];
    fill_random(&mut seed)?;
    let key = SigningNoteKey::from_seed(origin, &seed).map_err(|error| bad(error.to_string()))?;
    put_durably(files, KEY_FILE, format!("{}\n", key.to_secret_text()).as_bytes(), true)?;
    tracing::info!(origin, vkey = %key.verifier(), "made the log's key");
    Ok(key)
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
