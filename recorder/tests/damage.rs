//! A damaged data directory: the recorder names file and place, and does not start. A torn last record is cut off.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bqwitness_recorder::metrics::Metrics;
use bqwitness_recorder::sequencer::Sequencer;
use bqwitness_recorder::store::error::StoreError;
use bqwitness_recorder::store::files::LocalFiles;
use bqwitness_recorder::store::recover::{self, Opened};
use common::bare::{record, start};
use common::{ORIGIN, Speaker, copy, join};
use jiff::{SignedDuration, Timestamp};
use ledger::call::Access;
use ledger::entry::Entry;
use ledger::statement::LogEvent;
use prometheus::Registry;
use tempfile::TempDir;
use tokio::sync::oneshot;

fn open(data: &Path) -> Result<Opened, StoreError> {
    let metrics = Arc::new(Metrics::new(&Registry::new()).unwrap());
    recover::open(Arc::new(LocalFiles::open(data).unwrap()), ORIGIN, metrics)
}

/// A directory with full and partial tiles, blobs, and a write-ahead log that holds acknowledged entries: as after a crash
/// right behind a checkpoint.
fn directory_with_everything() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut recorder = start(Arc::new(LocalFiles::open(&data).unwrap())).unwrap();
    let mut speaker = Speaker::new(String::new());
    let first = join([speaker.start(60)].into_iter().chain((0..299).map(|_| speaker.heartbeat())));
    let last = speaker.intent("SELECT 1", "SELECT", "a.b", Access::Read);
    for batch in [first, last] {
        assert!(record(&recorder, &batch, &mut Vec::new()));
        recorder.publisher.publish(&recorder.tail).unwrap();
    }
    // The write-ahead log keeps its last segment while the recorder runs.
    let whole = dir.path().join("copy");
    copy(&data, &whole);
    recorder.queue.stop();
    recorder.sequencer.join().unwrap().unwrap();
    (dir, whole)
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[test]
fn a_flipped_byte_in_any_file_is_named() {
    let (_dir, whole) = directory_with_everything();
    assert!(open(&whole).is_ok(), "the copy itself is good");
    let mut checked = 0;
    for file in files_below(&whole) {
        let name = file.strip_prefix(&whole).unwrap().to_str().unwrap().to_owned();
        // Neither evidence nor needed: rewritten, or rebuilt, at each start. Partial tiles of older checkpoints are not read.
        let current = ["log/tile/0/001.p/", "log/tile/1/000.p/", "log/tile/entries/001.p/"];
        let newest = |dir: &&str| {
            let newest = std::fs::read_dir(whole.join(dir)).unwrap();
            let newest =
                newest.filter_map(|e| e.unwrap().file_name().to_str().unwrap().parse::<u32>().ok()).max();
            newest.map(|width| format!("{dir}{width}"))
        };
        let needed = !name.contains(".p/") || current.iter().filter_map(newest).any(|path| path == name);
        if name == "lock" || name == "log.vkey" || name.starts_with("index.sqlite") || !needed {
            continue;
        }
        let bytes = std::fs::read(&file).unwrap();
        for at in [0, bytes.len() / 2, bytes.len() - 2] {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            std::fs::write(&file, &changed).unwrap();
            let error =
                open(&whole).err().unwrap_or_else(|| panic!("{name}, byte {at}: not found")).to_string();
            let named =
                error.starts_with(&format!("{name}, byte ")) || error.starts_with(&format!("{name}:"));
            let beside = error.starts_with("log/tile/entries/") && name.starts_with("log/tile/0/");
            assert!(named || beside && error.contains(&name), "{name}, byte {at}: {error}");
            checked += 1;
        }
        std::fs::write(&file, &bytes).unwrap();
    }
    assert!(checked >= 3 * 8, "{checked} places are too few: key, checkpoint, tiles, bundles, blob");
    assert!(open(&whole).is_ok(), "put right again");
}

#[test]
fn a_torn_last_record_is_cut_off_and_counted() {
    let (_dir, whole) = directory_with_everything();
    // As after a crash: the last segment goes on with half a record.
    let segment = std::fs::read_dir(whole.join("wal")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&segment).unwrap();
    let half = bytes[..bytes.len() / 2].to_vec();
    bytes.extend(&half[..20]);
    std::fs::write(&segment, bytes).unwrap();
    let opened = open(&whole).unwrap();
    assert_eq!((opened.torn_bytes, opened.tail.bytes()), (20, 0));
    assert_eq!(std::fs::read_dir(whole.join("wal")).unwrap().count(), 0, "a checkpoint covers it all");
}

#[test]
fn what_is_missing_is_not_made_anew() {
    let (_dir, whole) = directory_with_everything();
    let category = |data: &Path| open(data).err().map(|error| error.category());
    std::fs::rename(whole.join("log.key"), whole.join("elsewhere")).unwrap();
    assert_eq!(category(&whole), Some("key_missing"));
    std::fs::rename(whole.join("elsewhere"), whole.join("log.key")).unwrap();
    let blob = files_below(&whole.join("blobs")).remove(0);
    let blob = blob.strip_prefix(&whole).unwrap().to_str().unwrap();
    for missing in ["log/checkpoint", "log/tile/0/000", "log/tile/entries/000", blob] {
        let bytes = std::fs::read(whole.join(missing)).unwrap();
        std::fs::remove_file(whole.join(missing)).unwrap();
        assert_eq!(category(&whole), Some("corrupt"), "{missing}");
        std::fs::write(whole.join(missing), bytes).unwrap();
    }
    assert_eq!(category(&whole), None);
    let metrics = Arc::new(Metrics::new(&Registry::new()).unwrap());
    let other = recover::open(Arc::new(LocalFiles::open(&whole).unwrap()), "other.example.com/log", metrics);
    assert_eq!(other.err().map(|error| error.category()), Some("wrong_origin"));
}

/// The clock was an hour ahead when the last entry came.
#[test]
fn received_never_goes_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path()).unwrap();
    let ahead = Timestamp::now() + SignedDuration::from_hours(1);
    opened.history.received = ahead;
    let Opened { wal, tail, mut publisher, reader, history, .. } = opened;
    let metrics = Arc::new(Metrics::new(&Registry::new()).unwrap());
    let (sequencer, queue) = Sequencer::new(wal, tail.clone(), reader.clone(), history, ORIGIN, metrics);
    queue.stop();
    sequencer.run(LogEvent::default(), oneshot::channel().0).unwrap();
    publisher.publish(&tail).unwrap();
    for index in 0..2 {
        let leaf = reader.entry(index).unwrap().unwrap();
        assert_eq!(Entry::parse(&leaf).unwrap().envelope.received, ahead);
    }
}
