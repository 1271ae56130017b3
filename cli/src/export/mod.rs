//! Taking out evidence: what is selected is gathered into a spool, announced to the log, and written as a bundle that is
//! verified before anybody sees it.

mod gather;
mod operators;
mod readme;
mod select;
mod spool;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use ledger::bundle::manifest::{FORMAT, Manifest};
use ledger::bundle::verify::{Report, Trust, verify_bundle};
use ledger::bundle::write::{BundleWriter, CantWrite, Head};
use ledger::bundle::{LOG_KEY, PAGE, POLICY, README};
use ledger::checkpoint::{BadCheckpoint, Checkpoint};
use ledger::coverage::Period;
use ledger::digest::Digest;
use ledger::log_keys::{LogKeys, MAX_KEYS};
use ledger::note::Note;
use ledger::policy::Policy;
use ledger::proof::TileSource;
use ledger::search::Query;
use ledger::search::export::Announcement;
use ledger::tile::{Tile, parse_hashes};
use ledger::tree::Hash;
use ledger::verify::LogSource as _;
use tempfile::NamedTempFile;

use self::gather::{Gathered, gather};
use self::select::select;
use crate::error::CliError;
use crate::page::page;
use crate::reader::Reader;
use crate::source::Served;

/// A checkpoint that covers the export must be there by then: the recorder promises one within a second.
const CHECKPOINT_LIMIT: Duration = Duration::from_secs(30);

/// Between two looks at the checkpoint.
const CHECKPOINT_PAUSE: Duration = Duration::from_millis(200);

/// What a manifest names as the program that made it.
const PROGRAM: &str = concat!("bqwitness ", env!("CARGO_PKG_VERSION"));

/// What is to be exported, and what is trusted.
pub(crate) struct Asked<'a> {
    pub(crate) query: Query,
    /// The log's keys that whoever asks believes.
    pub(crate) held: &'a LogKeys,
    /// The log's witnesses, and the text of the file that names them.
    pub(crate) policy: Option<&'a (Policy, String)>,
}

/// Exports what was asked for into `file`, and says what the bundle proves.
pub(crate) fn export(reader: &Reader, asked: &Asked<'_>, file: &Path) -> Result<Report, CliError> {
    let log = Served::new(reader);
    let now = log.keys_now(asked.held)?;
    let believed = now.with(asked.held);
    let note = log.checkpoint()?;
    let size = Checkpoint::verify(&note, &believed)?.size;
    // Who holds keys of many years, of a log that says nothing of changes: which of them sign can be seen.
    let keys = if now.keys().len() <= MAX_KEYS { now } else { signing(&note, &believed)? };
    let selection = select(reader, &asked.query, size)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let unwritable = |error| CliError::File { path: file.into(), error };
    let gathered = gather(&log, &selection, tempfile::tempfile_in(folder).map_err(unwritable)?)?;

    let (manifest, files, spool) = describe(gathered, asked, &keys, new_salt()?);
    let bytes =
        serde_json::to_vec_pretty(&manifest).map_err(|error| CliError::CantWrite(error.to_string()))?;
    let announcement = Announcement {
        manifest: Digest::of(&bytes),
        filter: manifest.scope.to_entered_filter(),
        entries: manifest.contents.entries,
        namespace: asked.query.namespace.clone(),
    };
    let index = reader.announce(&announcement)?;

    let (checkpoint, note) = checkpoint_above(&log, index, asked, &keys)?;
    let leaf = reader.get_private(&format!("/v1/entries/{index}"))?;
    let head = Head { manifest: &bytes, files: &files, checkpoint: &note };
    let written = NamedTempFile::new_in(folder).map_err(unwritable)?;
    write(written.as_file(), &head, &checkpoint, &Tiles(&log), spool, (index, &leaf))?;
    let report = check(written.path(), asked, &believed)?;
    written.as_file().sync_all().map_err(unwritable)?;
    written.persist(file).map_err(|error| unwritable(error.error))?;
    Ok(report)
}

/// Those of the log's keys that sign it now.
fn signing(note: &[u8], believed: &LogKeys) -> Result<LogKeys, CliError> {
    let note = Note::parse(note).map_err(BadCheckpoint::from)?;
    let signed = believed.keys().iter().filter(|key| note.verify(key).is_ok()).take(MAX_KEYS);
    LogKeys::new(signed.cloned().collect()).map_err(|error| CliError::Answer(error.to_string()))
}

/// A manifest's salt.
fn new_salt() -> Result<String, CliError> {
    let mut salt = [0; 32];
    let random = runtime::tls::provider().secure_random;
    random.fill(&mut salt).map_err(|_| CliError::CantWrite("the system has no random numbers".into()))?;
    Ok(Digest(salt).hex())
}

/// The manifest, the files that it vouches for, and what was gathered.
fn describe(
    gathered: Gathered,
    Asked { query, policy, .. }: &Asked<'_>,
    keys: &LogKeys,
    salt: String,
) -> (Manifest, BTreeMap<String, Vec<u8>>, spool::Reader) {
    let Gathered { scope, size, tally, spool, joined } = gathered;
    let created = Timestamp::now();
    let told = tally.told_time(query.since, query.until);
    let nothing = query.since.unwrap_or(created);
    let Period { from, to } = told.unwrap_or(Period { from: nothing, to: nothing });
    // What was so at the last entry went on until now, as far as anybody knows.
    let period = Period { from, to: query.until.map_or(created, |until| until.min(created)).max(to) };
    let authority = tally.authority().clone();
    let mut manifest = Manifest {
        format: FORMAT.into(),
        log: keys.name().into(),
        salt: Some(salt),
        created,
        program: PROGRAM.into(),
        scope,
        period,
        size,
        contents: tally.settle(period),
        files: BTreeMap::new(),
    };
    let mut files: BTreeMap<_, _> = [
        (LOG_KEY.to_owned(), format!("{keys}\n").into_bytes()),
        (README.to_owned(), readme::text(keys).into_bytes()),
        (PAGE.to_owned(), page(&manifest, &authority, &joined.calls()).into_bytes()),
    ]
    .into();
    files.extend(policy.map(|(_, text)| (POLICY.to_owned(), text.clone().into_bytes())));
    manifest.files = files.iter().map(|(name, content)| (name.clone(), Digest::of(content))).collect();
    (manifest, files, spool)
}

/// The newest checkpoint, once it covers the entry at `index`.
fn checkpoint_above(
    log: &Served<'_>,
    index: u64,
    Asked { policy, .. }: &Asked<'_>,
    keys: &LogKeys,
) -> Result<(Checkpoint, Vec<u8>), CliError> {
    let deadline = Instant::now() + CHECKPOINT_LIMIT;
    loop {
        let bytes = match policy {
            Some(_) => log.witnessed()?,
            None => log.checkpoint()?,
        };
        let checkpoint = Checkpoint::verify(&bytes, keys)?;
        let note = Note::parse(&bytes).map_err(BadCheckpoint::from)?;
        let policy = policy.map(|(policy, _)| policy);
        let witnessed =
            policy.is_none_or(|policy| policy.check(&note).is_ok_and(|witnessed| witnessed.enough));
        if checkpoint.size > index && witnessed {
            // Lines that nobody here can check stay out.
            let note = note.with_signers(|name, id| {
                let mut witnesses = policy.into_iter().flat_map(|policy| policy.witnesses().values());
                keys.signs_as(name, id)
                    || witnesses.any(|witness| (name, id) == (witness.key.name(), witness.key.id()))
            });
            return Ok((checkpoint, note.into_bytes()));
        }
        if Instant::now() > deadline {
            return Err(CliError::NoCheckpoint(CHECKPOINT_LIMIT));
        }
        std::thread::sleep(CHECKPOINT_PAUSE);
    }
}

fn write(
    file: &File,
    head: &Head<'_>,
    checkpoint: &Checkpoint,
    tiles: &Tiles<'_>,
    mut spool: spool::Reader,
    (index, leaf): (u64, &[u8]),
) -> Result<(), CliError> {
    let failed = |error: CantWrite<CliError>| match error {
        CantWrite::Source(error) => error,
        CantWrite::Edge(_) | CantWrite::Step { .. } => CliError::Unverified(error.to_string()),
        other => CliError::CantWrite(other.to_string()),
    };
    let mut writer = BundleWriter::begin(BufWriter::new(file), head, checkpoint, tiles).map_err(failed)?;
    while let Some(group) = spool.next()? {
        let entries: Vec<_> = group.entries.iter().map(|(index, leaf)| (*index, &leaf[..])).collect();
        writer.group(group.index, &entries, &group.blobs).map_err(failed)?;
    }
    writer.finish(index, leaf).map_err(failed)?;
    Ok(())
}

/// Nothing is handed out that an auditor would refuse.
fn check(path: &Path, Asked { policy, .. }: &Asked<'_>, keys: &LogKeys) -> Result<Report, CliError> {
    let trust = Trust { keys, policy: policy.map(|(policy, _)| policy) };
    let file = File::open(path).map_err(|error| CliError::File { path: path.into(), error })?;
    let report = verify_bundle(BufReader::new(file), trust, &mut ())
        .map_err(|error| CliError::Unverified(error.to_string()))?;
    Ok(report)
}

/// The served log's tiles, each of which a bundle asks for once.
struct Tiles<'a>(&'a Served<'a>);

impl TileSource for Tiles<'_> {
    type Error = CliError;

    fn hashes(&self, tile: Tile) -> Result<Vec<Hash>, CliError> {
        let bytes = self.0.tile(tile)?.ok_or_else(|| CliError::Answer(format!("{tile} is not there")))?;
        parse_hashes(tile, &bytes).map_err(|error| CliError::Answer(format!("{tile}: {error}")))
    }
}
