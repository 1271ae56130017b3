use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::call::{CallResult, Intent, Outcome};
use crate::entry::{self, Envelope, Role, Subject, Workload};
use crate::note::SigningNoteKey;
use crate::statement::{Body, Claimed, Heartbeat, Observed, SessionEnd, SessionStart, VERSION};

/// A log in memory, written the way a recorder writes it.
struct Log {
    files: BTreeMap<String, Vec<u8>>,
    blobs: HashMap<Digest, Vec<u8>>,
    leaves: Vec<Vec<u8>>,
    unreadable: bool,
}

fn key() -> SigningNoteKey {
    SigningNoteKey::from_seed("example.com/log", &[1; 32]).unwrap()
}

impl LogSource for Log {
    type Error = String;
    fn checkpoint(&self) -> Result<Vec<u8>, String> {
        self.files.get("checkpoint").cloned().ok_or_else(|| "not there".into())
    }
    fn tile(&self, tile: Tile) -> Result<Option<Vec<u8>>, String> {
        if self.unreadable {
            Err("permission denied".into())
        } else {
            Ok(self.files.get(&tile.to_string()).cloned())
        }
    }
    fn blob(&self, digest: Digest) -> Result<Option<Vec<u8>>, String> {
        Ok(self.blobs.get(&digest).cloned())
    }
}

impl Log {
    fn of(leaves: Vec<Vec<u8>>, blobs: HashMap<Digest, Vec<u8>>) -> Self {
        let mut log = Self { files: BTreeMap::new(), blobs, leaves, unreadable: false };
        log.publish();
        log
    }

    fn publish(&mut self) {
        let mut frontier = Frontier::default();
        let mut hashes = Vec::new();
        for leaf in &self.leaves {
            frontier.push(leaf_hash(leaf), |tile, row| hashes.push((tile, row.concat())));
        }
        hashes.extend(frontier.partial_tiles().map(|(tile, row)| (tile, row.concat())));
        self.files.extend(hashes.into_iter().map(|(tile, bytes)| (tile.to_string(), bytes)));
        let size = self.leaves.len() as u64;
        for (number, bundle) in self.leaves.chunks(256).enumerate() {
            let tile = Tile::at(Level::Entries, number as u64, size).unwrap();
            let mut bytes = Vec::new();
            bundle.iter().for_each(|leaf| tile::push_entry(&mut bytes, leaf));
            self.files.insert(tile.to_string(), bytes);
        }
        let checkpoint = Checkpoint { origin: "example.com/log".into(), size, root: frontier.root() };
        self.files.insert("checkpoint".into(), checkpoint.sign(&key()).into_bytes());
    }

    fn verify(&self) -> Report {
        verify_log(self, key().verifier(), |_| ()).unwrap()
    }
}

/// Says statements of one session, with their chain right.
struct Speaker {
    session: Uuid,
    pod: &'static str,
    seq: u64,
    prev: Option<Digest>,
}

impl Speaker {
    fn new(session: u128, pod: &'static str) -> Self {
        Self { session: Uuid::from_u128(session), pod, seq: 0, prev: None }
    }

    fn say(&mut self, body: Body, blobs: &[&Blob]) -> Vec<u8> {
        self.say_as(Role::Sidecar, body, blobs)
    }

    fn say_as(&mut self, role: Role, body: Body, blobs: &[&Blob]) -> Vec<u8> {
        let statement = Statement {
            v: VERSION,
            kind: body.kind().unwrap().into(),
            time: jiff::Timestamp::UNIX_EPOCH,
            connection: None,
            session: self.session,
            seq: self.seq,
            prev: self.prev,
            observed: Observed::default(),
            claimed: Claimed::default(),
            blobs: blobs.iter().enumerate().map(|(n, blob)| (format!("b{n}"), blob.reference())).collect(),
            body,
        };
        let bytes = statement.to_bytes().unwrap();
        self.seq += 1;
        self.prev = Some(Digest::of(&bytes));
        entry::encode(&self.envelope(role), &bytes).unwrap()
    }

    fn envelope(&self, role: Role) -> Envelope {
        let workload = Workload {
            cluster: "c".into(),
            namespace: "n".into(),
            service_account: "s".into(),
            pod: self.pod.into(),
            pod_uid: self.pod.into(),
            node: None,
        };
        Envelope { received: jiff::Timestamp::UNIX_EPOCH, subject: Subject::Workload(workload), role }
    }
}

fn start() -> Body {
    Body { start: Some(SessionStart::default()), ..Body::default() }
}

fn intent() -> Body {
    Body { intent: Some(Intent { method: "jobs.query".into(), ..Intent::default() }), ..Body::default() }
}

fn outcome(call: u64) -> Body {
    let outcome = Outcome {
        call,
        result: CallResult::Answered,
        forwarded: true,
        status: Some(200),
        duration_micros: 5,
        ..Outcome::default()
    };
    Body { outcome: Some(outcome), ..Body::default() }
}

/// A log of `calls` calls in two sessions, with a blob for every call.
fn sample(calls: u64) -> Log {
    let (mut one, mut two) = (Speaker::new(1, "one"), Speaker::new(2, "two"));
    let mut leaves = vec![one.say(start(), &[]), two.say(start(), &[])];
    let mut blobs = HashMap::new();
    for call in 0..calls {
        let speaker = if call % 3 == 0 { &mut two } else { &mut one };
        let blob = Blob::new([7; 32], format!("SELECT {call}").as_bytes()).unwrap();
        let seq = speaker.seq;
        leaves.push(speaker.say(intent(), &[&blob]));
        leaves.push(speaker.say(outcome(seq), &[]));
        blobs.insert(blob.digest(), blob.as_bytes().to_vec());
    }
    let end = SessionEnd { reason: "shutdown".into(), calls: 0, refused_unrecorded: 0 };
    leaves.push(one.say(Body { end: Some(end), ..Body::default() }, &[]));
    Log::of(leaves, blobs)
}

#[test]
fn a_whole_log_verifies() {
    let report = sample(400).verify();
    assert!(report.is_verified(), "{:?}", report.findings);
    assert_eq!((report.entries, report.sessions, report.open_sessions), (803, 2, 1));
    assert_eq!(
        (report.calls, report.open_calls, report.blobs_verified, report.blobs_absent),
        (400, 0, 400, 0)
    );
}

#[test]
fn an_empty_log_verifies() {
    assert!(Log::of(Vec::new(), HashMap::new()).verify().is_verified());
}

#[test]
fn a_missing_blob_and_a_changed_one_are_found() {
    let mut log = sample(5);
    let digests: Vec<_> = log.blobs.keys().copied().collect();
    let removed = log.blobs.remove(&digests[0]).unwrap();
    let report = log.verify();
    assert_eq!((report.blobs_absent, report.findings[0].what), (1, What::Blob));
    assert!(report.findings[0].message.contains(&digests[0].to_string()), "{:?}", report.findings);
    log.blobs.insert(digests[0], removed);
    assert!(log.verify().is_verified());
    log.blobs.get_mut(&digests[1]).unwrap()[39] ^= 1;
    assert_eq!(log.verify().findings[0].what, What::Blob);
}

#[test]
fn of_a_log_without_any_blob_it_is_said_that_they_were_not_checked() {
    let mut log = sample(5);
    let named = log.verify().blobs_verified;
    log.blobs.clear();
    let report = log.verify();
    assert!(report.is_verified() && report.has_no_blobs() && report.blobs_absent == named && named > 0);
}

/// Nothing is said against a log that can't be read.
#[test]
fn what_cannot_be_read_is_no_finding() {
    let mut log = sample(1);
    log.unreadable = true;
    let error = verify_log(&log, key().verifier(), |_| ()).unwrap_err();
    assert_eq!(error.to_string(), "tile/entries/000.p/5 can't be read: permission denied");
}

#[test]
fn another_key_verifies_nothing() {
    let other = SigningNoteKey::from_seed("example.com/log", &[2; 32]).unwrap();
    assert!(matches!(verify_log(&sample(1), other.verifier(), |_| ()), Err(VerifyError::Checkpoint(_))));
}

/// What a recorder with the key could do: rewrite the log and sign it anew. The sessions' chains still tell.
#[test]
fn a_rewritten_and_newly_signed_log_is_found_by_its_sessions() {
    let found = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut log = sample(9);
        change(&mut log.leaves);
        log.publish();
        let report = log.verify();
        (report.findings_total > 0).then(|| report.findings[0].clone())
    };
    let finding = found(&|leaves| drop(leaves.remove(4))).expect("an entry left out is found");
    assert_eq!(finding.what, What::Session, "{finding}");
    assert!(found(&|leaves| leaves.swap(2, 3)).is_some(), "reordered");
    assert!(
        found(&|leaves| {
            let again = leaves[4].clone();
            leaves.insert(5, again);
        })
        .is_some(),
        "twice"
    );
    let other_time = |leaves: &mut Vec<Vec<u8>>| {
        leaves[4] =
            String::from_utf8(leaves[4].clone()).unwrap().replace("1970-01-01", "1970-01-02").into_bytes();
    };
    assert!(found(&other_time).is_some(), "changed");
    assert!(found(&|_| ()).is_none());
}

#[test]
fn what_the_recorder_must_not_take_is_found() {
    let mut speaker = Speaker::new(1, "one");
    let mut wrong_role = vec![speaker.say(start(), &[])];
    wrong_role.push(speaker.say_as(Role::Operator, intent(), &[]));
    let report = Log::of(wrong_role, HashMap::new()).verify();
    assert_eq!(report.findings.iter().map(|f| f.what).collect::<Vec<_>>(), [What::Content]);

    let mut thief = Speaker::new(1, "thief");
    let leaves = vec![Speaker::new(1, "one").say(start(), &[]), {
        thief.say(start(), &[]);
        thief.say(Body { heartbeat: Some(Heartbeat::default()), ..Body::default() }, &[])
    }];
    let report = Log::of(leaves, HashMap::new()).verify();
    assert!(report.findings[0].message.contains("belongs to"), "{:?}", report.findings);

    let report = Log::of(vec![b"{}".to_vec()], HashMap::new()).verify();
    assert_eq!(report.findings[0].what, What::Content);
}

#[test]
fn a_hole_that_the_log_names_is_no_finding() {
    let (mut speaker, mut recorder) = (Speaker::new(1, "one"), Speaker::new(9, "recorder"));
    let mut leaves = vec![speaker.say(start(), &[])];
    speaker.say(intent(), &[]);
    let after = speaker.say(intent(), &[]);
    let hole = Hole { session: Uuid::from_u128(1), from: 1, to: 1 };
    leaves.push(recorder.say_as(Role::Recorder, Body { hole: Some(hole), ..Body::default() }, &[]));
    leaves.push(after);
    leaves.push(speaker.say(outcome(1), &[]));
    let report = Log::of(leaves.clone(), HashMap::new()).verify();
    assert!(report.is_verified(), "{:?}", report.findings);
    assert_eq!((report.holes, report.open_calls), (vec![hole], 1));
    let twice = [leaves.clone(), vec![speaker.say(outcome(2), &[]), speaker.say(outcome(2), &[])]].concat();
    assert_eq!(Log::of(twice, HashMap::new()).verify().findings[0].what, What::Session);
    leaves.remove(1);
    assert!(!Log::of(leaves, HashMap::new()).verify().is_verified());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Any byte of any file: found, or it makes no difference to what the key signed.
    #[test]
    fn one_changed_byte_is_found(file: prop::sample::Index, at: prop::sample::Index, flip in 1u8..=255) {
        let mut log = sample(150);
        let names: Vec<_> = log.files.keys().cloned().collect();
        let bytes = log.files.get_mut(&names[file.index(names.len())]).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let found = verify_log(&log, key().verifier(), |_| ()).map_or(true, |report| !report.is_verified());
        prop_assert!(found, "{} at {at}", names[file.index(names.len())]);
    }

    #[test]
    fn a_cut_or_missing_file_is_found(file: prop::sample::Index, cut: prop::sample::Index) {
        let mut log = sample(150);
        let names: Vec<_> = log.files.keys().cloned().collect();
        let name = names[file.index(names.len())].clone();
        let keep = cut.index(log.files[&name].len());
        log.files.get_mut(&name).unwrap().truncate(keep);
        prop_assert!(verify_log(&log, key().verifier(), |_| ()).map_or(true, |report| !report.is_verified()));
        log.files.remove(&name);
        prop_assert!(verify_log(&log, key().verifier(), |_| ()).map_or(true, |report| !report.is_verified()));
    }
}
