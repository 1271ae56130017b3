//! What it costs to write and to verify a bundle of everything, beside a bare SHA-256 of the same leaves; and how much memory
//! verifying takes. `cargo bench -p bqwitness-ledger --bench bundle -- [ENTRIES]`

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench")]

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::Path;
use std::time::Instant;

use bqwitness_ledger as ledger;
use jiff::Timestamp;
use ledger::bundle::manifest::{FORMAT, Manifest, Range, Scope};
use ledger::bundle::verify::{Trust, verify_bundle};
use ledger::bundle::write::{BundleWriter, Head};
use ledger::bundle::{LOG_KEY, Tally};
use ledger::call::{CallResult, HttpTarget, Intent, Outcome};
use ledger::checkpoint::Checkpoint;
use ledger::coverage::Period;
use ledger::digest::Digest;
use ledger::entry::{Entry, Envelope, Role, Subject, Workload, encode};
use ledger::note::SigningNoteKey;
use ledger::proof::TileSource;
use ledger::statement::{Body, Claimed, Observed, ReadExport, SessionStart, Statement, VERSION, kind};
use ledger::tile::{TILE_WIDTH, Tile};
use ledger::tree::{Frontier, Hash, leaf_hash};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

const ORIGIN: &str = "example.com/bench";

/// Statements of a session.
const SESSION: u64 = 1_000;

#[derive(Default)]
struct Tiles(HashMap<Tile, Vec<Hash>>);

impl TileSource for Tiles {
    type Error = Infallible;
    fn hashes(&self, tile: Tile) -> Result<Vec<Hash>, Infallible> {
        Ok(self.0[&tile].clone())
    }
}

fn key() -> SigningNoteKey {
    SigningNoteKey::from_seed(ORIGIN, &[1; 32]).unwrap()
}

fn time(index: u64) -> Timestamp {
    Timestamp::from_millisecond(1_790_000_000_000 + i64::try_from(index).unwrap()).unwrap()
}

/// Makes leaves, one after the other: sessions of a start, and calls with their outcomes.
#[derive(Default)]
struct Leaves {
    index: u64,
    prev: Option<Digest>,
}

impl Leaves {
    fn next(&mut self) -> Vec<u8> {
        let (session, seq) = (self.index / SESSION, self.index % SESSION);
        let (kind, body) = match seq {
            0 => (kind::SESSION_START, start()),
            seq if seq % 2 == 1 => (kind::CALL_INTENT, intent()),
            seq => (kind::CALL_OUTCOME, outcome(seq - 1)),
        };
        self.leaf(Uuid::from_u128(u128::from(session)), seq, kind, body, workload(), Role::Sidecar)
    }

    fn leaf(
        &mut self,
        session: Uuid,
        seq: u64,
        kind: &str,
        body: Body,
        subject: Subject,
        role: Role,
    ) -> Vec<u8> {
        let statement = Statement {
            v: VERSION,
            kind: kind.into(),
            time: time(self.index),
            connection: None,
            session,
            seq,
            prev: self.prev.filter(|_| seq > 0),
            observed: Observed::default(),
            claimed: Claimed { user_agent: Some("x".repeat(150)), ..Claimed::default() },
            blobs: BTreeMap::new(),
            body,
        };
        let bytes = statement.to_bytes().unwrap();
        self.prev = Some(Digest::of(&bytes));
        let envelope = Envelope { received: time(self.index), subject, role };
        self.index += 1;
        encode(&envelope, &bytes).unwrap()
    }
}

fn workload() -> Subject {
    Subject::Workload(Workload {
        cluster: "prod".into(),
        namespace: "agents".into(),
        service_account: "billing".into(),
        pod: "billing-7d4b9c6f5-abcde".into(),
        pod_uid: "6f1c2c52-6b1d-4c0a-9a51-2f3a51d1a9c0".into(),
        node: Some("node-17".into()),
    })
}

fn start() -> Body {
    let start = SessionStart { version: "1".into(), heartbeat_seconds: 60, ..SessionStart::default() };
    Body { start: Some(start), ..Body::default() }
}

fn intent() -> Body {
    let http = HttpTarget {
        verb: "POST".into(),
        host: "bigquery.googleapis.com".into(),
        path: "/bigquery/v2/projects/acme-data/queries?prettyPrint=false".into(),
    };
    let intent = Intent { method: "jobs.query".into(), http, ..Intent::default() };
    Body { intent: Some(intent), ..Body::default() }
}

fn outcome(call: u64) -> Body {
    let outcome = Outcome {
        call,
        result: CallResult::Answered,
        forwarded: true,
        status: Some(200),
        reason: None,
        reported: None,
        sent: None,
        rows: None,
        upload: None,
        answer: None,
        duration_micros: 1,
    };
    Body { outcome: Some(outcome), ..Body::default() }
}

/// Processor time of this process so far, and the most memory that it had, in MiB.
fn used() -> (f64, u64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |field: usize| fields[field].parse::<f64>().unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    ((ticks(11) + ticks(12)) / 100.0, peak / 1024)
}

/// Runs `work`; says how many of `entries` it did in a second of processor time.
fn measure<T>(what: &str, entries: u64, work: impl FnOnce() -> T) -> (T, f64) {
    let (before, begun) = (used().0, Instant::now());
    let done = work();
    let seconds = used().0 - before;
    #[allow(clippy::cast_precision_loss, reason = "a figure")]
    let rate = entries as f64 / seconds.max(0.01);
    println!(
        "{what:32} {rate:>10.0} entries per second of processor time ({:.1?} by the clock)",
        begun.elapsed()
    );
    (done, rate)
}

fn write(file: &Path, entries: u64) {
    let (mut frontier, mut tiles, mut leaves) = (Frontier::default(), Tiles::default(), Leaves::default());
    let range = Range { from: 0, to: entries, since: None, until: None };
    let scope = Scope::Everything(range);
    let mut tally = Tally::new(&scope);
    let mut push = |leaf: &[u8], tiles: &mut Tiles| {
        frontier.push(leaf_hash(leaf), |tile, hashes| {
            tiles.0.insert(tile, hashes.to_vec());
        });
    };
    for index in 0..entries {
        let leaf = leaves.next();
        push(&leaf, &mut tiles);
        let entry = Entry::parse(&leaf).unwrap();
        let statement = Statement::parse(entry.statement).unwrap();
        assert!(tally.entry(index, &leaf_hash(&leaf), &entry, &statement).is_empty());
    }
    let period = Period { from: time(0), to: time(entries) };
    let files: BTreeMap<_, _> = [(LOG_KEY.to_owned(), format!("{}\n", key().verifier()).into_bytes())].into();
    let manifest = Manifest {
        format: FORMAT.into(),
        log: ORIGIN.into(),
        salt: None,
        created: time(entries),
        program: "bench".into(),
        scope,
        period,
        size: entries,
        contents: tally.settle(period),
        files: files.iter().map(|(name, content)| (name.clone(), Digest::of(content))).collect(),
    };
    let bytes = serde_json::to_vec(&manifest).unwrap();
    let export = ReadExport {
        cluster: String::new(),
        reader: "audit/auditor".into(),
        manifest: Digest::of(&bytes),
        filter: String::new(),
        entries,
    };
    let body = Body { export: Some(export), ..Body::default() };
    let log = Subject::Log { log: ORIGIN.into() };
    let export = leaves.leaf(Uuid::from_u128(1 << 100), 0, kind::READ_EXPORT, body, log, Role::Recorder);
    push(&export, &mut tiles);
    tiles.0.extend(frontier.partial_tiles().map(|(tile, hashes)| (tile, hashes.to_vec())));
    let checkpoint = Checkpoint { origin: ORIGIN.into(), size: entries + 1, root: frontier.root() };
    let note = checkpoint.sign(&key());
    let head = Head { manifest: &bytes, files: &files, checkpoint: note.as_bytes() };
    let out = BufWriter::new(File::create(file).unwrap());
    let mut writer = BundleWriter::begin(out, &head, &checkpoint, &tiles).unwrap();
    let mut leaves = Leaves::default();
    for tile in 0..entries.div_ceil(TILE_WIDTH) {
        let places = tile * TILE_WIDTH..((tile + 1) * TILE_WIDTH).min(entries);
        let group: Vec<_> = places.map(|place| (place, leaves.next())).collect();
        let group: Vec<_> = group.iter().map(|(place, leaf)| (*place, &leaf[..])).collect();
        writer.group(tile, &group, &BTreeMap::new()).unwrap();
    }
    writer.finish(entries, &export).unwrap();
}

/// In a process of its own, so that what it takes is what verifying takes.
fn verify(file: &Path) {
    let before = used().0;
    let trust = key();
    let input = BufReader::with_capacity(1 << 18, File::open(file).unwrap());
    let report =
        verify_bundle(input, Trust { keys: &trust.verifier().clone().into(), policy: None }, &mut ())
            .unwrap();
    assert!(report.is_verified(), "{:?}", report.findings);
    let (after, peak) = used();
    let entries = report.manifest.contents.entries;
    #[allow(clippy::cast_precision_loss, reason = "a figure")]
    let rate = entries as f64 / (after - before).max(0.01);
    println!(
        "{:32} {rate:>10.0} entries per second of processor time; at most {peak} MiB of memory",
        "verify"
    );
    println!(
        "{} leaf hashes, {} hash tiles of up to 255 node hashes, {} MiB",
        entries + 1,
        report.tiles,
        report.bytes >> 20
    );
}

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [word, file] = &arguments[..]
        && word == "verify"
    {
        return verify(Path::new(file));
    }
    let entries: u64 = arguments.first().map_or(100_000, |count| count.parse().unwrap());
    let mut leaves = Leaves::default();
    let sample: Vec<_> = (0..entries.min(100_000)).map(|_| leaves.next()).collect();
    let bytes: usize = sample.iter().map(Vec::len).sum();
    println!("{entries} entries of {} bytes on average", bytes / sample.len());
    measure("bare SHA-256 of the leaves", sample.len() as u64, || {
        sample.iter().fold(0, |sum, leaf| sum ^ Sha256::digest(leaf)[0])
    });
    drop(sample);
    let file = std::env::temp_dir().join(format!("bundle-{}.bqw", std::process::id()));
    measure("make entries and write", entries, || write(&file, entries));
    let status =
        std::process::Command::new(std::env::current_exe().unwrap()).arg("verify").arg(&file).status();
    std::fs::remove_file(&file).unwrap();
    assert!(status.unwrap().success());
}
