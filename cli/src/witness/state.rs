//! What a witness must never forget: the last checkpoint that it cosigned of each log, and its key.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use ledger::checkpoint::Checkpoint;
use ledger::cosignature::WitnessSigner;
use ledger::digest::Digest;
use ledger::log_keys::LogKeys;
use ledger::witness::{AddCheckpoint, Declined};
use rustix::fs::{FlockOperation, flock};

/// The secret.
const KEY_FILE: &str = "witness.key";

/// Its public half, for policies.
const VKEY_FILE: &str = "witness.vkey";

/// A witness and its memory.
pub(crate) struct State {
    dir: PathBuf,
    key: WitnessSigner,
    logs: BTreeMap<Vec<u8>, Log>,
    /// Two witnesses with one memory could each cosign another fork.
    _lock: File,
}

struct Log {
    keys: LogKeys,
    last: Option<Checkpoint>,
}

/// Why a witness gave no cosignature.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoCosignature {
    #[error("{0}")]
    Declined(#[from] Declined),
    /// Its memory can't be written, so it must not sign.
    #[error("the witness's state can't be written: {0}")]
    Storage(#[from] io::Error),
}

impl State {
    /// The witness with the key and the memory in `dir`, for these logs.
    pub(crate) fn open(dir: &Path, key: WitnessSigner, logs: Vec<LogKeys>) -> io::Result<Self> {
        let lock = File::options().create(true).truncate(false).write(true).open(dir.join("lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| io::Error::other("another witness uses this directory"))?;
        let mut known = BTreeMap::new();
        for keys in logs {
            let last = read(&file(dir, &keys), &keys)?;
            known.insert(keys.name().as_bytes().to_vec(), Log { keys, last });
        }
        Ok(Self { dir: dir.into(), key, logs: known, _lock: lock })
    }

    /// The signature line for a request, once its checkpoint is durable as the last one.
    pub(crate) fn cosign(&mut self, request: &[u8]) -> Result<String, NoCosignature> {
        let asked = AddCheckpoint::parse(request)?;
        let log = self.logs.get_mut(asked.origin()).ok_or(Declined::UnknownLog)?;
        let checkpoint = asked.decide(&log.keys, log.last.as_ref())?;
        if log.last.as_ref() != Some(&checkpoint) {
            remember(&self.dir, &file(&self.dir, &log.keys), &asked.note)?;
            log.last = Some(checkpoint.clone());
        }
        Ok(self.key.cosign(&checkpoint.text(), Timestamp::now()))
    }
}

/// A file for each log, by its origin's digest.
fn file(dir: &Path, keys: &LogKeys) -> PathBuf {
    dir.join(format!("{}.checkpoint", Digest::of(keys.name().as_bytes()).hex()))
}

/// The note that was remembered. One that does not verify is an error: without its memory a witness must not sign.
fn read(file: &Path, keys: &LogKeys) -> io::Result<Option<Checkpoint>> {
    let note = match fs::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    let damaged = |error| io::Error::other(format!("{}: {error}", file.display()));
    Checkpoint::verify(&note, keys).map(Some).map_err(damaged)
}

/// Durable when this returns.
fn remember(dir: &Path, file: &Path, note: &[u8]) -> io::Result<()> {
    put(file, note, 0o644)?;
    File::open(dir)?.sync_all()
}

fn put(file: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = file.with_extension("tmp");
    let mut written = File::options().create(true).truncate(true).write(true).mode(mode).open(&temporary)?;
    written.write_all(bytes)?;
    written.sync_all()?;
    fs::rename(temporary, file)
}

/// The key in `dir`; a new one named `name` at the first start.
pub(crate) fn load_or_make_key(dir: &Path, name: &str) -> io::Result<WitnessSigner> {
    fs::create_dir_all(dir)?;
    let path = dir.join(KEY_FILE);
    let key = match fs::read_to_string(&path) {
        Ok(text) => WitnessSigner::from_secret_text(text.trim_end()).map_err(io::Error::other)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => make_key(&path, name)?,
        Err(error) => return Err(error),
    };
    if key.verifier().name() != name {
        let found = key.verifier().name();
        return Err(io::Error::other(format!("the key here is of witness {found}, not of {name}")));
    }
    put(&dir.join(VKEY_FILE), format!("{}\n", key.verifier()).as_bytes(), 0o644)?;
    Ok(key)
}

fn make_key(path: &Path, name: &str) -> io::Result<WitnessSigner> {
    let mut seed = [0; 32];
    let random = runtime::tls::provider();
    random.secure_random.fill(&mut seed).map_err(|_| io::Error::other("the system has no random numbers"))?;
    let key = WitnessSigner::from_seed(name, &seed).map_err(io::Error::other)?;
    put(path, format!("{}\n", key.to_secret_text()).as_bytes(), 0o600)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::note::SigningNoteKey;
    use ledger::tree::{Frontier, leaf_hash};

    fn log_key() -> SigningNoteKey {
        SigningNoteKey::from_seed("example.com/log", &[9; 32]).unwrap()
    }

    fn request(old: u64, leaves: &[&[u8]], proof: Vec<[u8; 32]>) -> Vec<u8> {
        let mut frontier = Frontier::default();
        leaves.iter().for_each(|leaf| frontier.push(leaf_hash(leaf), |_, _| ()));
        let (size, root) = (frontier.size(), frontier.root());
        let checkpoint = Checkpoint { origin: "example.com/log".into(), size, root };
        AddCheckpoint { old, proof, note: checkpoint.sign(&log_key()).into_bytes() }.encode()
    }

    fn open(dir: &Path) -> State {
        let key = load_or_make_key(dir, "witness.example/w").unwrap();
        State::open(dir, key, vec![log_key().verifier().clone().into()]).unwrap()
    }

    #[test]
    fn a_restart_forgets_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut witness = open(dir.path());
        assert!(witness.cosign(&request(0, &[b"a", b"b"], vec![])).is_ok());
        drop(witness);
        let mut witness = open(dir.path());
        let fork = witness.cosign(&request(0, &[b"a", b"c"], vec![])).unwrap_err();
        assert!(matches!(fork, NoCosignature::Declined(Declined::Conflict(2))), "{fork}");
        let rollback = witness.cosign(&request(1, &[b"a"], vec![])).unwrap_err();
        assert!(matches!(rollback, NoCosignature::Declined(Declined::Conflict(2))), "{rollback}");
        assert!(witness.cosign(&request(2, &[b"a", b"b", b"c"], vec![leaf_hash(b"c")])).is_ok());
    }

    #[test]
    fn one_memory_has_one_witness() {
        let dir = tempfile::tempdir().unwrap();
        let _first = open(dir.path());
        let key = load_or_make_key(dir.path(), "witness.example/w").unwrap();
        assert!(State::open(dir.path(), key, vec![]).is_err());
        assert!(load_or_make_key(dir.path(), "witness.example/other").is_err());
    }

    #[test]
    fn a_damaged_memory_is_no_memory_to_sign_from() {
        let dir = tempfile::tempdir().unwrap();
        let mut witness = open(dir.path());
        witness.cosign(&request(0, &[b"a"], vec![])).unwrap();
        let path = file(dir.path(), &log_key().verifier().clone().into());
        drop(witness);
        std::fs::write(&path, "example.com/log\n").unwrap();
        let key = load_or_make_key(dir.path(), "witness.example/w").unwrap();
        assert!(State::open(dir.path(), key, vec![log_key().verifier().clone().into()]).is_err());
    }
}
