//! Bundles: what they prove. What can be done to them without the key is in [`alterations`].

mod alterations;
mod log;

use self::log::{Log, at, key, signing};
use super::archive::BLOCK;
use super::manifest::{Range, Scope};
use super::verify::{Observer, Report, Trust, verify_bundle};
use super::*;
use crate::authority::Standing;
use crate::blob::Blob;
use crate::cosignature::WitnessSigner;
use crate::entry::Entry;
use crate::log_keys::{LogKeys, LogSigners};
use crate::policy::Policy;
use crate::search::Query;
use crate::statement::{BlobDeleted, Body, Statement, kind};

fn keys() -> LogKeys {
    key().verifier().clone().into()
}

fn verify(bytes: &[u8]) -> Result<Report, BadBundle> {
    verify_by(bytes, &keys())
}

fn verify_by(bytes: &[u8], keys: &LogKeys) -> Result<Report, BadBundle> {
    verify_bundle(bytes, Trust { keys, policy: None }, &mut ())
}

/// The verdict of a bundle that must not be believed.
#[track_caller]
fn refused(bytes: &[u8]) -> BadBundle {
    match verify(bytes) {
        Err(error) => error,
        Ok(report) => panic!("believed: {report:?}"),
    }
}

/// Where each member begins, with its name, and where the archive's end begins.
fn members(bytes: &[u8]) -> Vec<(usize, String)> {
    let mut members = Vec::new();
    let mut start = 0;
    while bytes[start] != 0 {
        let name: Vec<u8> = bytes[start..].iter().copied().take_while(|byte| *byte != 0).collect();
        let size = std::str::from_utf8(&bytes[start + 124..start + 135]).expect("digits");
        let size = usize::from_str_radix(size, 8).expect("octal");
        members.push((start, String::from_utf8(name).expect("a name")));
        start += BLOCK + size.next_multiple_of(BLOCK);
    }
    members.push((start, String::new()));
    members
}

/// The members' bytes, in this order.
fn arranged(bytes: &[u8], order: impl IntoIterator<Item = usize>) -> Vec<u8> {
    let members = members(bytes);
    let end = members[members.len() - 1].0;
    let mut arranged = Vec::new();
    for number in order {
        arranged.extend_from_slice(&bytes[members[number].0..members[number + 1].0]);
    }
    arranged.extend_from_slice(&bytes[end..]);
    arranged
}

#[derive(Default)]
struct Heard {
    entries: Vec<u64>,
    sql: Vec<String>,
}

impl Observer for Heard {
    fn entry(&mut self, index: u64, _: &Entry<'_>, _: &Statement) {
        self.entries.push(index);
    }
    fn blob(&mut self, _: Digest, blob: &Blob) {
        self.sql.push(String::from_utf8_lossy(blob.content()).into_owned());
    }
}

#[test]
fn everything_is_proved_to_be_everything() {
    let mut log = Log::of(60, 6); // 840 entries: full tiles, a partial one, two levels
    let (scope, size) = (log.everything(), log.size());
    let bytes = log.export(scope, &(0..size).collect::<Vec<_>>());
    let mut heard = Heard::default();
    let report =
        verify_bundle(&bytes[..], Trust { keys: &keys(), policy: None }, &mut heard).expect("a whole bundle");
    assert!(report.is_verified(), "{:?}", report.findings);
    assert_eq!(heard.entries, (0..size).collect::<Vec<_>>());
    let contents = &report.manifest.contents;
    assert_eq!((contents.entries, contents.calls, contents.blobs, contents.sessions), (840, 360, 360, 60));
    assert_eq!(
        (report.reader.as_str(), report.export, report.bytes),
        ("audit/auditor", 840, bytes.len() as u64)
    );
    assert!(heard.sql.contains(&"SELECT 59, 5".to_owned()));
    assert_eq!(contents.coverage.len(), 1, "one pod");
}

#[test]
fn a_range_has_neighbours_that_prove_its_ends() {
    let mut log = Log::of(60, 6);
    let range = |since, until| Scope::Everything(Range { from: 300, to: 500, since, until });
    let scope = range(Some(at(300)), Some(at(500)));
    let bytes = log.export(scope.clone(), &(299..=500).collect::<Vec<_>>());
    assert!(verify(&bytes).expect("a whole range").is_verified());
    // One that claims more time than it has entries of.
    for (since, until) in [(at(299), at(500)), (at(301), at(500)), (at(300), at(501)), (at(300), at(499))] {
        let bytes = log.export(range(Some(since), Some(until)), &(299..=500).collect::<Vec<_>>());
        assert!(!verify(&bytes).expect("a bundle").is_verified(), "{since} {until}");
    }
    // One that leaves out an end, or something in between.
    for left_out in [299, 300, 400, 499, 500] {
        let indexes: Vec<_> = (299..=500).filter(|index| *index != left_out).collect();
        let verdict = verify(&log.export(scope.clone(), &indexes));
        assert!(verdict.is_err() || verdict.is_ok_and(|report| !report.is_verified()), "{left_out}");
    }
    let open = log.export(range(Some(at(300)), None), &(299..=500).collect::<Vec<_>>());
    assert!(matches!(refused(&open), BadBundle::Contents(_)), "an open range goes to the log's end");
}

#[test]
fn a_part_is_proved_to_be_in_the_log() {
    let mut log = Log::of(60, 6);
    let scope = Scope::Calls { filter: Box::new(Query { kind: Some("SELECT".into()), ..Query::default() }) };
    let bytes = log.export(scope, &[0, 1, 2, 13, 300, 301, 302, 838]);
    let report = verify(&bytes).expect("a bundle");
    assert!(report.is_verified(), "{:?}", report.findings);
    assert_eq!((report.manifest.contents.entries, report.manifest.contents.open_calls), (8, 0));
}

/// An operator's session lies in the bundle in parts: what it said of these connections and pods.
#[test]
fn sessions_come_with_what_operators_said_of_them() {
    let mut log = Log::of(2, 2);
    log.operator_says(5);
    let scope = Scope::Sessions { filter: Box::default() };
    let bytes = log.export(scope.clone(), &(0..14).collect::<Vec<_>>());
    let report = verify(&bytes).expect("a bundle");
    assert!(report.is_verified(), "{:?}", report.findings);
    let generations = report.authority.generations();
    assert_eq!((generations.len(), generations[0].calls), (1, 4));
    assert!(
        matches!(generations[0].standing(), Standing::Asked { by: "analyst-a", entry } if entry.index == 12)
    );
    assert_eq!((report.authority.connections(), report.authority.pods()), (1, 1));
    let early = report.manifest.contents.coverage.iter().find(|pod| pod.subject.pod == "early");
    assert_eq!(early.expect("its pods").gaps[0].why.as_deref(), Some("no_sidecar"));
    // An agent's session is here from its beginning, and so is an operator's that begins here.
    let bytes = log.export(scope.clone(), &(1..14).collect::<Vec<_>>());
    assert!(!verify(&bytes).expect("a bundle").is_verified(), "its session.start is missing");
    let mut log = Log::of(1, 1);
    log.operator_says(0);
    log.operator_says(3);
    let bytes = log.export(scope, &(0..8).collect::<Vec<_>>());
    let report = verify(&bytes).expect("a bundle");
    assert!(report.findings[0].message.contains("seq 3 where 2 was next"), "{:?}", report.findings);
}

/// What was so when a range began is in the bundle too: who had authorized it, and which pods had no sidecar.
#[test]
fn a_range_comes_with_what_operators_had_said_before() {
    let mut log = Log::of(1, 1); // 0 to 3
    log.operator_says(5); // 4 and 5
    log.calls_of(9, 2); // 6 to 11
    let scope = Scope::Everything(Range { from: 8, to: 12, since: Some(at(8)), until: None });
    let ahead = |more: &[u64]| more.iter().copied().chain(7..12).collect::<Vec<_>>();
    let report = verify(&log.export(scope.clone(), &ahead(&[4, 5]))).expect("a bundle");
    assert!(report.is_verified(), "{:?}", report.findings);
    let generations = report.authority.generations();
    assert!(matches!(generations[0].standing(), Standing::Asked { by: "analyst-a", .. }));
    assert!(report.manifest.contents.coverage.iter().any(|pod| pod.subject.pod == "early"));
    // Nothing else may stand there, and the range is as whole as without.
    log.leaves.truncate(12);
    let report = verify(&log.export(scope.clone(), &ahead(&[3]))).expect("a bundle");
    assert!(!report.is_verified(), "an agent's entry before the range");
    log.leaves.truncate(12);
    let report = verify(&log.export(scope, &[4, 5, 8, 9, 10, 11])).expect("a bundle");
    assert!(!report.is_verified(), "the neighbour is missing");
}

#[test]
fn a_deleted_blob_is_named_absent() {
    let mut log = Log::of(1, 3);
    let digest = *log.blobs.keys().next().expect("three");
    log.blobs.remove(&digest);
    let scope = log.everything();
    let bytes = log.export(scope, &(0..8).collect::<Vec<_>>());
    let contents = verify(&bytes).expect("a bundle").manifest.contents;
    assert_eq!((contents.blobs, contents.blobs_absent, contents.blobs_deleted), (2, 1, 0));
    // The log says that it was deleted in order: the bundle proves that too.
    let (by, reason) = ("security".to_owned(), "a customer asked".to_owned());
    let deleted = BlobDeleted { digest, by, reason, entries: vec![1], named: 1 };
    log.leaves.pop(); // the export's
    log.recorder_says(2, kind::LOG_DELETED, Body { deleted: Some(deleted), ..Body::default() });
    let scope = log.everything();
    let bytes = log.export(scope, &(0..9).collect::<Vec<_>>());
    let contents = verify(&bytes).expect("a bundle").manifest.contents;
    assert_eq!((contents.blobs, contents.blobs_absent, contents.blobs_deleted), (2, 1, 1));
    let deletion = &contents.deletions[0];
    assert_eq!((deletion.index, deletion.digest, deletion.by.as_str()), (8, digest, "security"));
}

fn witness(number: u8) -> WitnessSigner {
    WitnessSigner::from_seed(&format!("witness.example/{number}"), &[number; 32]).expect("a fine name")
}

fn policy_of(witnesses: &[WitnessSigner]) -> String {
    let named =
        witnesses.iter().zip(0..).map(|(witness, n)| format!("witness w{n} {}\n", witness.verifier()));
    let members: String = (0..witnesses.len()).map(|n| format!(" w{n}")).collect();
    format!("{}group all all{members}\nquorum all\n", named.collect::<String>())
}

#[test]
fn witnesses_are_named_and_the_verifiers_own_policy_decides() {
    let mut log = Log::of(2, 2);
    log.witnesses = vec![witness(1), witness(2)];
    let scope = log.everything();
    let bytes = log.export(scope, &(0..12).collect::<Vec<_>>());
    let report = verify(&bytes).expect("a bundle");
    assert_eq!((report.witnesses.len(), report.witnessed), (2, false), "named by the bundle alone");
    let check = |witnesses: &[WitnessSigner]| {
        let policy = Policy::parse(&policy_of(witnesses)).expect("a policy");
        verify_bundle(&bytes[..], Trust { keys: &keys(), policy: Some(&policy) }, &mut ())
    };
    let report = check(&[witness(2)]).expect("a bundle");
    assert_eq!((report.witnesses, report.witnessed), (vec![("w0".to_owned(), at(0))], true));
    assert!(matches!(check(&[witness(2), witness(3)]), Err(BadBundle::Quorum(_))));
    assert!(matches!(check(&[witness(3)]), Err(BadBundle::Quorum(_))));
    for place in 0..bytes.len() {
        if bytes[place..].starts_with(b" witness.example/1 ") {
            let mut changed = bytes.clone();
            changed[place + 40] ^= 1; // in its signature
            let _refused = refused(&changed);
        }
    }
}

/// While the log's key is changed it signs with both.
#[test]
fn a_bundle_of_two_keys_is_verified_by_either() {
    let mut log = Log::of(2, 2);
    let scope = Scope::Calls { filter: Box::default() };
    let before = log.export(scope.clone(), &(0..12).collect::<Vec<_>>());
    log.keys = LogSigners::new(vec![signing(8), key()]).expect("of one log");
    let between = log.export(scope.clone(), &(0..12).collect::<Vec<_>>());
    log.keys = signing(8).into();
    let after = log.export(scope, &(0..12).collect::<Vec<_>>());
    let (old, new, both): (LogKeys, LogKeys, _) = (keys(), signing(8).verifier().clone().into(), {
        LogKeys::new(vec![signing(8).verifier().clone(), key().verifier().clone()]).expect("of one log")
    });
    for (bundle, by, holds) in [
        (&before, &old, true),
        (&before, &new, false),
        (&before, &both, true),
        (&between, &old, true),
        (&between, &new, true),
        (&between, &both, true),
        (&after, &old, false),
        (&after, &new, true),
        (&after, &both, true),
    ] {
        let verdict = verify_by(bundle, by);
        assert_eq!(verdict.is_ok(), holds, "{verdict:?}");
        assert!(holds || matches!(verdict, Err(BadBundle::Key { .. })), "{verdict:?}");
    }
    // A line of the other key that does not hold is found, also by who does not trust it.
    let place = between.windows(4).position(|part| part == "\u{2014} ".as_bytes()).expect("signed");
    for line in [place + 30, place + 140] {
        let mut changed = between.clone();
        changed[line] ^= 1;
        assert!(verify_by(&changed, &old).is_err() && verify_by(&changed, &new).is_err(), "{line}");
    }
}
