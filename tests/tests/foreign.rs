//! Our logs, proofs and notes, and Go's `golang.org/x/mod/sumdb`: each believes the other, and not when a byte is changed.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use bqwitness_tests::agent::Finished;
use bqwitness_tests::foreign::{Foreign, check_log_dir};
use ledger::checkpoint::Checkpoint;
use ledger::entry::MAX_ENTRY;
use ledger::note::{Note, SigningNoteKey, VerifierKey};
use ledger::proof::{TileSource, prove_inclusion};
use ledger::tile::{Level, Tile, parse_hashes, push_entry};
use ledger::tlog_proof::TlogProof;
use ledger::tree::{Frontier, Hash, leaf_hash};
use tempfile::TempDir;

const ORIGIN: &str = "example.com/log";

/// Enough for a third level of tiles.
const LARGE: usize = 66_000;

/// A log in a directory, as a recorder lays it out.
struct Log {
    folder: TempDir,
    entries: Vec<Vec<u8>>,
}

fn key(seed: u8) -> SigningNoteKey {
    SigningNoteKey::from_seed(ORIGIN, &[seed; 32]).unwrap()
}

fn vkey() -> String {
    key(1).verifier().to_string()
}

/// Some of all lengths: none, a few bytes, all that fit.
fn entry(number: usize) -> Vec<u8> {
    match number {
        3 => Vec::new(),
        5 => vec![b'x'; MAX_ENTRY],
        _ => format!("{{\"entry\":{number}}}").into_bytes(),
    }
}

impl Log {
    fn of(size: usize) -> Self {
        let log = Self { folder: tempfile::tempdir().unwrap(), entries: (0..size).map(entry).collect() };
        let root = log.write_tiles();
        log.write_bundles();
        let checkpoint = Checkpoint { origin: ORIGIN.into(), size: size as u64, root };
        log.write("checkpoint", checkpoint.sign(&key(1)).as_bytes());
        log
    }

    fn write_tiles(&self) -> Hash {
        let mut frontier = Frontier::default();
        for entry in &self.entries {
            frontier.push(leaf_hash(entry), |tile, row| {
                self.write(&tile.to_string(), row.as_flattened());
            });
        }
        for (tile, row) in frontier.partial_tiles() {
            self.write(&tile.to_string(), row.as_flattened());
        }
        frontier.root()
    }

    fn write_bundles(&self) {
        for (number, entries) in self.entries.chunks(256).enumerate() {
            let mut bundle = Vec::new();
            entries.iter().for_each(|entry| push_entry(&mut bundle, entry));
            let tile = Tile::at(Level::Entries, number as u64, self.entries.len() as u64).unwrap();
            self.write(&tile.to_string(), &bundle);
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// What Go says of it when `change` was done to the file `name`, which then is as before.
    fn changed(&self, go: &Foreign, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Finished {
        let whole = fs::read(self.path(name)).unwrap();
        let mut bytes = whole.clone();
        change(&mut bytes);
        assert_ne!(bytes, whole, "{name} was changed");
        self.write(name, &bytes);
        let checked = go.log(self.folder.path(), &vkey()).unwrap();
        self.write(name, &whole);
        checked
    }

    fn prove(&self, index: u64) -> TlogProof {
        let hashes = prove_inclusion(self, index, self.entries.len() as u64).unwrap();
        TlogProof { index, hashes, checkpoint: fs::read_to_string(self.path("checkpoint")).unwrap() }
    }
}

impl TileSource for Log {
    type Error = std::io::Error;
    fn hashes(&self, tile: Tile) -> Result<Vec<Hash>, Self::Error> {
        Ok(parse_hashes(tile, &fs::read(self.path(&tile.to_string()))?).unwrap())
    }
}

#[track_caller]
fn assert_refused(checked: &Finished, what: &str) {
    assert_eq!(checked.code, Some(1), "{what}: {}", checked.said());
    assert!(checked.stderr.starts_with("NOT VERIFIED: "), "{what}: {}", checked.said());
    assert_eq!(checked.stdout, "", "{what}");
}

#[track_caller]
fn assert_unable(checked: &Finished) {
    assert_eq!((checked.code, checked.stdout.as_str()), (Some(2), ""), "{}", checked.said());
}

#[test]
fn go_accepts_our_logs_of_many_sizes() {
    let Some(go) = Foreign::find().unwrap() else { return };
    for size in [0, 1, 2, 3, 255, 256, 257, 512, 1_003, LARGE] {
        let log = Log::of(size);
        let checkpoint = fs::read_to_string(log.path("checkpoint")).unwrap();
        let root = checkpoint.lines().nth(2).unwrap();
        let checked = go.log(log.folder.path(), &vkey()).unwrap();
        assert!(checked.success(), "{size}: {}", checked.said());
        let proofs = format!("{} inclusion proofs", size.min(1_000));
        assert!(
            checked.stdout.starts_with(&format!("verified {size} entries, root {root} (")),
            "{}",
            checked.stdout
        );
        assert!(checked.stdout.contains(&proofs), "{}", checked.stdout);
    }
}

/// All its files, each changed at its start, in its middle and at its end.
#[test]
fn go_refuses_a_log_with_one_flipped_byte_in_any_file() {
    let Some(go) = Foreign::find().unwrap() else { return };
    let log = Log::of(257);
    for name in [
        "checkpoint",
        "tile/0/000",
        "tile/0/001.p/1",
        "tile/1/000.p/1",
        "tile/entries/000",
        "tile/entries/001.p/1",
    ] {
        let length = fs::read(log.path(name)).unwrap().len();
        for at in [0, 1, length / 2, length - 1] {
            let checked = log.changed(&go, name, |bytes| bytes[at] ^= 1);
            assert_refused(&checked, &format!("{name} at {at}"));
        }
    }
    assert!(go.log(log.folder.path(), &vkey()).unwrap().success(), "all is as before");
}

#[test]
fn go_refuses_a_large_log_with_one_flipped_byte_and_names_the_place() {
    let Some(go) = Foreign::find().unwrap() else { return };
    let log = Log::of(LARGE);
    for (name, named) in [
        ("tile/0/100", "tile/0/100"),
        ("tile/1/000", "tile/1/000"),
        ("tile/entries/100", "entry 25600 "),
        // Any hash of the tree's right edge makes the root another: Go says so at the first tile that it reads.
        ("tile/0/257.p/208", "tile/2/000.p/1"),
        ("tile/1/001.p/1", "tile/2/000.p/1"),
        ("tile/2/000.p/1", "tile/2/000.p/1"),
        ("tile/entries/257.p/208", "entry 65792 "),
    ] {
        let checked = log.changed(&go, name, |bytes| bytes[10] ^= 0x10); // in a bundle: of its first entry
        assert_refused(&checked, name);
        assert!(checked.stderr.contains(named), "{name}: {}", checked.stderr);
    }
}

#[test]
fn go_refuses_files_that_are_absent_cut_or_too_long() {
    let Some(go) = Foreign::find().unwrap() else { return };
    let log = Log::of(300);
    for name in
        ["tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1", "tile/entries/000", "tile/entries/001.p/44"]
    {
        let cut = log.changed(&go, name, |bytes| bytes.truncate(bytes.len() - 1));
        assert_refused(&cut, name);
        let longer = log.changed(&go, name, |bytes| bytes.push(0));
        assert_refused(&longer, name);
        let aside = log.path("aside");
        fs::rename(log.path(name), &aside).unwrap();
        assert_refused(&go.log(log.folder.path(), &vkey()).unwrap(), name);
        fs::rename(&aside, log.path(name)).unwrap();
    }
}

#[test]
fn go_refuses_a_checkpoint_that_is_not_this_logs() {
    let Some(go) = Foreign::find().unwrap() else { return };
    let log = Log::of(257);
    let root = log.write_tiles();
    let signed_by = |key: SigningNoteKey, origin: &str, size| {
        let checkpoint = Checkpoint { origin: origin.into(), size, root }.sign(&key).into_bytes();
        log.changed(&go, "checkpoint", |bytes| *bytes = checkpoint)
    };
    assert_refused(&signed_by(key(2), ORIGIN, 257), "another key");
    assert_refused(&signed_by(key(1), "example.com/other", 257), "another origin");
    assert_refused(&signed_by(key(1), ORIGIN, 256), "a smaller size");
    assert_refused(&signed_by(key(1), ORIGIN, 258), "a greater size");
    assert_refused(&signed_by(key(1), ORIGIN, 0), "no entries");
}

#[test]
fn go_says_when_it_could_not_check() {
    let Some(go) = Foreign::find().unwrap() else { return };
    let log = Log::of(1);
    assert_unable(&go.log(&log.path("nowhere"), &vkey()).unwrap());
    assert_unable(&go.log(log.folder.path(), "example.com/log+00000000+AAAA").unwrap());
    assert_unable(&go.proof(&log.path("nowhere"), &log.path("checkpoint"), &vkey()).unwrap());
}

#[test]
fn go_accepts_our_proofs_and_no_others() {
    let Some(go) = Foreign::find().unwrap() else { return };
    let log = Log::of(LARGE);
    let check = |proof: &str, entry: &[u8]| {
        go.proof(&log.write("proof", proof.as_bytes()), &log.write("entry", entry), &vkey()).unwrap()
    };
    for index in [0, 3, 5, 255, 256, 65_535, 65_536, LARGE - 1] {
        let proof = log.prove(index as u64).to_string();
        let checked = check(&proof, &log.entries[index]);
        assert!(checked.success(), "{index}: {}", checked.said());
        assert!(checked.stdout.starts_with(&format!("verified entry {index} of {LARGE}, root ")));
        assert_refused(&check(&proof, &log.entries[index ^ 1]), "another entry");
    }
    let (proof, entry) = (log.prove(700).to_string(), &log.entries[700]);
    assert!(check(&proof.replacen("index", "extra aGk=\nindex", 1), entry).success());
    for (what, from, to) in [
        ("another version", "@v1", "@v2"),
        ("another index", "index 700", "index 701"),
        ("another spelling of the index", "index 700", "index 0700"),
        ("an index beyond the log", "index 700", "index 66700"),
        ("another size", "\n66000\n", "\n66001\n"),
        ("no checkpoint", "\n\n", "\n"),
    ] {
        assert!(proof.contains(from), "{what}");
        assert_refused(&check(&proof.replacen(from, to, 1), entry), what);
    }
    let hash = proof.lines().nth(4).unwrap();
    assert_refused(&check(&proof.replacen(&format!("{hash}\n"), "", 1), entry), "a hash left out");
}

#[test]
fn we_accept_gos_notes_and_keys() {
    let Some(go) = Foreign::find().unwrap() else { return };
    let folder = tempfile::tempdir().unwrap();
    let made = go.key(ORIGIN).unwrap();
    assert!(made.success(), "{}", made.said());
    let (secret, vkey) = made.stdout.trim().split_once('\n').unwrap();
    let theirs = SigningNoteKey::from_secret_text(secret).unwrap();
    assert_eq!(theirs.verifier(), &vkey.parse::<VerifierKey>().unwrap());
    assert_eq!((theirs.to_secret_text().as_str(), theirs.verifier().to_string().as_str()), (secret, vkey));

    let text = Checkpoint { origin: ORIGIN.into(), size: 70_000, root: [5; 32] }.text();
    for key in [theirs, key(1)] {
        let signed = go.sign(&written_key(folder.path(), &key), &text).unwrap();
        assert!(signed.success(), "{}", signed.said());
        assert_eq!(signed.stdout, key.sign(&text), "Ed25519 signs the same text in one way only");
        let note = Note::parse(signed.stdout.as_bytes()).unwrap();
        assert_eq!(note.verify(key.verifier()), Ok(text.as_str()));
        assert_eq!(Checkpoint::verify(signed.stdout.as_bytes(), key.verifier()).unwrap().size, 70_000);
        let changed = signed.stdout.replacen("70000", "70001", 1);
        assert!(Checkpoint::verify(changed.as_bytes(), key.verifier()).is_err());
    }
}

fn written_key(folder: &Path, key: &SigningNoteKey) -> PathBuf {
    let path = folder.join("key");
    fs::write(&path, key.to_secret_text()).unwrap();
    path
}

/// What the whole story calls with the directory that a recorder wrote.
#[test]
fn a_log_directory_is_checked_in_one_call() {
    let log = Log::of(20);
    let Some(said) = check_log_dir(log.folder.path(), &format!("{}\n", vkey())).unwrap() else { return };
    assert!(said.starts_with("verified 20 entries, root "), "{said}");
    log.write("tile/entries/000.p/20", b"");
    let refused = check_log_dir(log.folder.path(), &vkey()).unwrap_err().to_string();
    assert!(refused.contains("NOT VERIFIED") && refused.contains("tile/entries/000.p/20"), "{refused}");
}
