use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;

use jiff::Timestamp;
use proptest::prelude::*;
use uuid::Uuid;

use super::archive::BLOCK;
use super::contents::{self, Named, name_blobs};
use super::manifest::{FORMAT, Manifest, Range, Scope};
use super::verify::{Observer, Report, Trust, verify_bundle};
use super::write::{BundleWriter, Head};
use super::*;
use crate::blob::Blob;
use crate::call::{CallResult, HttpTarget, Intent, Outcome};
use crate::checkpoint::Checkpoint;
use crate::cosignature::WitnessSigner;
use crate::coverage::Period;
use crate::entry::tests::envelope;
use crate::entry::{self, Entry, Envelope, Role, Subject};
use crate::note::SigningNoteKey;
use crate::policy::Policy;
use crate::proof::TileSource;
use crate::search::Query;
use crate::statement::{
    Body, Claimed, Observed, ReadExport, SessionEnd, SessionStart, Statement, VERSION, kind,
};
use crate::tile::TILE_WIDTH;
use crate::tree::{Frontier, Hash, leaf_hash};

const ORIGIN: &str = "example.com/log";

fn key() -> SigningNoteKey {
    SigningNoteKey::from_seed(ORIGIN, &[7; 32]).expect("a fine name")
}

fn at(second: usize) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + i64::try_from(second).expect("small")).expect("in range")
}

/// A log as a recorder would have written it: sessions one after the other, of a start, calls with blobs, and an end.
#[derive(Default)]
struct Log {
    leaves: Vec<Vec<u8>>,
    blobs: BTreeMap<Digest, Blob>,
    tiles: RefCell<BTreeMap<Tile, Vec<Hash>>>,
    witnesses: Vec<WitnessSigner>,
}

impl TileSource for Log {
    type Error = Infallible;
    fn hashes(&self, tile: Tile) -> Result<Vec<Hash>, Infallible> {
        Ok(self.tiles.borrow().get(&tile).cloned().unwrap_or_default())
    }
}

/// One session's chain.
struct Chain {
    session: Uuid,
    seq: u64,
    prev: Option<Digest>,
}

impl Chain {
    fn say(&mut self, log: &mut Log, kind: &str, body: Body, blobs: &[Blob], by: &Envelope) {
        let blobs_named =
            blobs.iter().zip(0..).map(|(blob, n)| (format!("b{n}"), blob.reference())).collect();
        let statement = Statement {
            v: VERSION,
            kind: kind.into(),
            time: at(log.leaves.len()),
            connection: None,
            session: self.session,
            seq: self.seq,
            prev: self.prev,
            observed: Observed::default(),
            claimed: Claimed::default(),
            blobs: blobs_named,
            body,
        };
        let bytes = statement.to_bytes().expect("small");
        (self.seq, self.prev) = (self.seq + 1, Some(Digest::of(&bytes)));
        let envelope = Envelope { received: at(log.leaves.len()), ..by.clone() };
        log.leaves.push(entry::encode(&envelope, &bytes).expect("small"));
        log.blobs.extend(blobs.iter().map(|blob| (blob.digest(), blob.clone())));
    }
}

impl Log {
    /// So many sessions of so many calls.
    fn of(sessions: u8, calls: u8) -> Self {
        let mut log = Self::default();
        for number in 0..sessions {
            let mut chain = Chain { session: Uuid::from_u128(u128::from(number)), seq: 0, prev: None };
            let start =
                SessionStart { version: "1".into(), heartbeat_seconds: 60, ..SessionStart::default() };
            chain.say(
                &mut log,
                kind::SESSION_START,
                Body { start: Some(start), ..Body::default() },
                &[],
                &envelope(),
            );
            for call in 0..calls {
                let sql = Blob::new([number ^ call; 32], format!("SELECT {number}, {call}").as_bytes())
                    .expect("small");
                let intent =
                    Intent { method: "jobs.query".into(), http: HttpTarget::default(), ..Intent::default() };
                let open = chain.seq;
                chain.say(
                    &mut log,
                    kind::CALL_INTENT,
                    Body { intent: Some(intent), ..Body::default() },
                    &[sql],
                    &envelope(),
                );
                let outcome = Outcome {
                    call: open,
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
                chain.say(
                    &mut log,
                    kind::CALL_OUTCOME,
                    Body { outcome: Some(outcome), ..Body::default() },
                    &[],
                    &envelope(),
                );
            }
            let end = SessionEnd { reason: "shutdown".into(), ..SessionEnd::default() };
            chain.say(
                &mut log,
                kind::SESSION_END,
                Body { end: Some(end), ..Body::default() },
                &[],
                &envelope(),
            );
        }
        log
    }

    fn size(&self) -> u64 {
        self.leaves.len() as u64
    }

    /// The checkpoint of all there is now, whose tiles can be read from then on.
    fn checkpoint(&self) -> Checkpoint {
        let mut frontier = Frontier::default();
        let mut tiles = self.tiles.borrow_mut();
        for leaf in &self.leaves {
            frontier.push(leaf_hash(leaf), |tile, hashes| {
                tiles.insert(tile, hashes.to_vec());
            });
        }
        tiles.extend(frontier.partial_tiles().map(|(tile, hashes)| (tile, hashes.to_vec())));
        Checkpoint { origin: ORIGIN.into(), size: self.size(), root: frontier.root() }
    }

    fn everything(&self) -> Scope {
        Scope::Everything(Range { from: 0, to: self.size(), since: None, until: None })
    }

    fn export(&mut self, scope: Scope, indexes: &[u64]) -> Vec<u8> {
        self.export_as(scope, indexes, |_| ())
    }

    /// A bundle of these entries; `lie` may change what the manifest says.
    fn export_as(&mut self, scope: Scope, indexes: &[u64], lie: impl FnOnce(&mut Manifest)) -> Vec<u8> {
        let period = Period { from: at(0), to: at(self.leaves.len()) };
        let mut files: BTreeMap<String, Vec<u8>> = [
            (LOG_KEY.to_owned(), format!("{}\n", key().verifier()).into_bytes()),
            (README.to_owned(), b"read me\n".to_vec()),
        ]
        .into();
        if !self.witnesses.is_empty() {
            files.insert(POLICY.to_owned(), policy_of(&self.witnesses).into_bytes());
        }
        let mut tally = Tally::new(&scope);
        let groups: Vec<_> = indexes.chunk_by(|one, next| one / TILE_WIDTH == next / TILE_WIDTH).collect();
        let mut blobs_of = Vec::new();
        for group in &groups {
            let mut named = Named::new();
            for index in *group {
                let leaf = &self.leaves[usize::try_from(*index).expect("small")];
                let (entry, statement) = contents::read(leaf).expect("ours");
                let _wrong = tally.entry(*index, &leaf_hash(leaf), &entry, &statement);
                assert!(name_blobs(&mut named, &statement));
            }
            let here: BTreeMap<_, _> =
                named.keys().filter_map(|digest| Some((*digest, self.blobs.get(digest)?.clone()))).collect();
            named.keys().for_each(|digest| tally.blob(digest, here.contains_key(digest)));
            blobs_of.push(here);
        }
        let mut manifest = Manifest {
            format: FORMAT.into(),
            log: ORIGIN.into(),
            created: at(0),
            program: "test".into(),
            period,
            size: self.size(),
            contents: tally.settle(period),
            files: files.iter().map(|(name, content)| (name.clone(), Digest::of(content))).collect(),
            scope,
        };
        lie(&mut manifest);
        let bytes = serde_json::to_vec(&manifest).expect("plain");
        let export = self.enter_export(&manifest, Digest::of(&bytes));
        let checkpoint = self.checkpoint();
        let note = format!("{}{}", checkpoint.sign(&key()), self.cosign(&checkpoint));
        let head = Head { manifest: &bytes, files: &files, checkpoint: note.as_bytes() };
        let mut writer = BundleWriter::begin(Vec::new(), &head, &checkpoint, &*self).expect("a whole log");
        for (group, blobs) in groups.iter().zip(&blobs_of) {
            let leaf = |index: &u64| (*index, &self.leaves[usize::try_from(*index).expect("small")][..]);
            let entries: Vec<_> = group.iter().map(leaf).collect();
            writer.group(group[0] / TILE_WIDTH, &entries, blobs).expect("a whole log");
        }
        writer.finish(export, &self.leaves[usize::try_from(export).expect("small")]).expect("a whole log")
    }

    /// The lines of its witnesses.
    fn cosign(&self, checkpoint: &Checkpoint) -> String {
        self.witnesses.iter().map(|witness| witness.cosign(&checkpoint.text(), at(0))).collect()
    }

    fn enter_export(&mut self, manifest: &Manifest, digest: Digest) -> u64 {
        let by =
            Envelope { received: at(0), subject: Subject::Log { log: ORIGIN.into() }, role: Role::Recorder };
        let export = ReadExport {
            reader: "audit/auditor".into(),
            manifest: digest,
            filter: manifest.scope.to_query_string(),
            entries: manifest.contents.entries,
        };
        let mut chain = Chain { session: Uuid::from_u128(1 << 64), seq: 0, prev: None };
        chain.say(self, kind::READ_EXPORT, Body { export: Some(export), ..Body::default() }, &[], &by);
        self.size() - 1
    }
}

fn trust(key: &SigningNoteKey) -> Trust<'_> {
    Trust { key: key.verifier(), policy: None }
}

fn verify(bytes: &[u8]) -> Result<Report, BadBundle> {
    verify_bundle(bytes, trust(&key()), &mut ())
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
    let report = verify_bundle(&bytes[..], trust(&key()), &mut heard).expect("a whole bundle");
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

#[test]
fn a_deleted_blob_is_named_absent() {
    let mut log = Log::of(1, 3);
    let digest = *log.blobs.keys().next().expect("three");
    log.blobs.remove(&digest);
    let scope = log.everything();
    let bytes = log.export(scope, &(0..8).collect::<Vec<_>>());
    let contents = verify(&bytes).expect("a bundle").manifest.contents;
    assert_eq!((contents.blobs, contents.blobs_absent), (2, 1));
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
        verify_bundle(&bytes[..], Trust { policy: Some(&policy), ..trust(&key()) }, &mut ())
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

/// Every way to change a bundle without the key.
mod alterations {
    use super::*;

    fn small() -> Vec<u8> {
        let mut log = Log::of(2, 2);
        let scope = log.everything();
        log.export(scope, &(0..12).collect::<Vec<_>>())
    }

    /// Two full tiles, a tile above them, and the tree's edge.
    fn large() -> Vec<u8> {
        let mut log = Log::of(60, 6);
        let scope = Scope::Calls { filter: Box::default() };
        log.export(scope, &[0, 1, 2, 300, 301, 302, 838])
    }

    /// Four entries.
    fn tiny() -> Vec<u8> {
        let mut log = Log::of(1, 1);
        let scope = log.everything();
        log.export(scope, &[0, 1, 2, 3])
    }

    #[test]
    fn any_byte() {
        let bytes = tiny();
        assert!(verify(&bytes).is_ok());
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            assert!(verify(&changed).is_err(), "byte {place}");
        }
    }

    #[test]
    fn any_tail_cut_off() {
        let bytes = tiny();
        for length in (0..bytes.len()).step_by(17).chain([bytes.len() - 1]) {
            let error = refused(&bytes[..length]);
            assert!(matches!(error, BadBundle::Truncated { .. }), "{length}: {error}");
        }
    }

    #[test]
    fn something_after_its_end() {
        for more in [&[0][..], &[0; BLOCK][..], &small()[..]] {
            let error = refused(&[&small()[..], more].concat());
            assert!(matches!(error, BadBundle::Trailing { .. }), "{error}");
        }
    }

    #[test]
    fn a_member_dropped_doubled_or_moved() {
        for bytes in [small(), large()] {
            let count = members(&bytes).len() - 1;
            for one in 0..count {
                let _dropped = refused(&arranged(&bytes, (0..count).filter(|number| *number != one)));
                let doubled =
                    (0..count).flat_map(|number| std::iter::repeat_n(number, 1 + usize::from(number == one)));
                let _doubled = refused(&arranged(&bytes, doubled));
                for other in one + 1..count {
                    let mut order: Vec<_> = (0..count).collect();
                    order.swap(one, other);
                    let _swapped = refused(&arranged(&bytes, order));
                }
            }
        }
    }

    #[test]
    fn members_of_another_bundle() {
        // Two bundles of one log, of the same shape: each member of one in place of the other's.
        let mut log = Log::of(60, 6);
        let scope = Scope::Calls { filter: Box::default() };
        let one = log.export(scope.clone(), &[0, 1, 2, 300, 301, 302]);
        let other = log.export(scope, &[0, 3, 4, 300, 303, 304]);
        let (ones, others) = (members(&one), members(&other));
        assert!(verify(&one).is_ok() && verify(&other).is_ok());
        for (number, (start, name)) in ones.iter().enumerate().take(ones.len() - 1) {
            let Some(theirs) = others.iter().position(|(_, other)| other == name) else { continue };
            let swapped =
                [&one[..*start], &other[others[theirs].0..others[theirs + 1].0], &one[ones[number + 1].0..]]
                    .concat();
            if swapped != one {
                let _refused = refused(&swapped);
            }
        }
    }

    #[test]
    fn an_older_checkpoint() {
        let mut log = Log::of(2, 2);
        let scope = log.everything();
        let older = log.checkpoint().sign(&key());
        let bytes = log.export(scope, &(0..12).collect::<Vec<_>>());
        let members = members(&bytes);
        let number = members.iter().position(|(_, name)| name == CHECKPOINT).expect("it has one");
        let mut archive = archive::ArchiveWriter::new(bytes[..members[number].0].to_vec());
        archive.member(CHECKPOINT, older.as_bytes()).expect("memory");
        let mut changed = archive.finish().expect("memory");
        changed.truncate(changed.len() - 2 * BLOCK);
        changed.extend_from_slice(&bytes[members[number + 1].0..]);
        assert!(matches!(refused(&changed), BadBundle::Unexpected { .. } | BadBundle::Step { .. }));
    }

    #[test]
    fn another_log() {
        let bytes = small();
        let other = SigningNoteKey::from_seed("example.com/other", &[7; 32]).expect("a fine name");
        assert!(matches!(verify_bundle(&bytes[..], trust(&other), &mut ()), Err(BadBundle::Key { .. })));
        let other = SigningNoteKey::from_seed(ORIGIN, &[8; 32]).expect("a fine name");
        assert!(matches!(verify_bundle(&bytes[..], trust(&other), &mut ()), Err(BadBundle::Key { .. })));
    }

    #[test]
    fn a_checkpoint_with_a_line_that_nobody_checks() {
        let bytes = small();
        let members = members(&bytes);
        let number = members.iter().position(|(_, name)| name == CHECKPOINT).expect("it has one");
        let (start, next) = (members[number].0, members[number + 1].0);
        let note: Vec<u8> =
            bytes[start + BLOCK..next].iter().copied().take_while(|byte| *byte != 0).collect();
        let mut archive = archive::ArchiveWriter::new(bytes[..start].to_vec());
        let more = [&note[..], "\u{2014} other.example AAAAAAECAwQ=\n".as_bytes()].concat();
        archive.member(CHECKPOINT, &more).expect("memory");
        let mut changed = archive.finish().expect("memory");
        changed.truncate(changed.len() - 2 * BLOCK);
        changed.extend_from_slice(&bytes[next..]);
        assert!(matches!(refused(&changed), BadBundle::Signer(name) if name == "other.example"));
    }

    #[test]
    fn paths_that_lead_elsewhere_and_absurd_lengths() {
        let mut archive = archive::ArchiveWriter::new(Vec::new());
        archive.member("../../etc/passwd", b"root").expect("memory");
        assert!(matches!(refused(&archive.finish().expect("memory")), BadBundle::Unexpected { .. }));
        // A header that promises eight gigabytes, and a file that has nothing.
        let header = |name: &str, size: u64| {
            let mut header = [0; BLOCK];
            let member = archive::Member { name: name.into(), size };
            header.copy_from_slice(&member.header().expect("it fits"));
            header.to_vec()
        };
        assert!(matches!(refused(&header(MANIFEST, 0o77_777_777_777)), BadBundle::Large { .. }));
        assert!(matches!(refused(&header(MANIFEST, MAX_MANIFEST as u64)), BadBundle::Truncated { .. }));
        let small = small();
        for (start, name) in &members(&small)[..] {
            if !name.is_empty() {
                let _refused = refused(&[&small[..*start], &header(name, 0o77_777_777_777)[..]].concat());
            }
        }
    }

    #[test]
    fn a_manifest_that_lies() {
        let lies: [fn(&mut Manifest); 12] = [
            |manifest| manifest.format = "bqwitness.dev/bundle/v2".into(),
            |manifest| manifest.log = "example.com/other".into(),
            |manifest| manifest.contents.entries += 1,
            |manifest| manifest.contents.calls -= 1,
            |manifest| manifest.contents.blobs_absent += 1,
            |manifest| manifest.contents.coverage.clear(),
            |manifest| manifest.contents.listing = Digest([0; 32]),
            |manifest| manifest.period.to = at(5),
            |manifest| manifest.size += 2,
            |manifest| manifest.files.clear(),
            |manifest| {
                manifest.files.insert("more.txt".into(), Digest([0; 32]));
            },
            |manifest| {
                manifest.scope = Scope::Everything(Range { from: 0, to: 11, since: None, until: None });
            },
        ];
        for (number, lie) in lies.into_iter().enumerate() {
            let mut log = Log::of(2, 2);
            let scope = log.everything();
            let bytes = log.export_as(scope, &(0..12).collect::<Vec<_>>(), lie);
            assert!(verify(&bytes).is_err(), "lie {number}");
        }
    }

    #[test]
    fn a_chain_that_is_broken() {
        // The recorder itself leaves out a statement, and signs what is left.
        let mut log = Log::of(2, 2);
        log.leaves.remove(2);
        let scope = log.everything();
        let report = verify(&log.export(scope, &(0..11).collect::<Vec<_>>())).expect("a bundle");
        assert!(!report.is_verified() && report.findings[0].message.contains("seq 3 where 2 was next"));
    }

    #[test]
    fn an_export_that_the_log_does_not_have() {
        let mut log = Log::of(2, 2);
        let scope = log.everything();
        let one = log.export(scope, &(0..12).collect::<Vec<_>>());
        // The entry of another export in its place: it is in the log, and of another manifest.
        let scope = Scope::Calls { filter: Box::default() };
        let other = log.export(scope, &(0..12).collect::<Vec<_>>());
        let (ones, others) = (members(&one), members(&other));
        let mixed = [&other[..others[others.len() - 2].0], &one[ones[ones.len() - 2].0..]].concat();
        assert!(matches!(refused(&mixed), BadBundle::Export(_)), "{:?}", verify(&mixed));
    }

    proptest! {
        #[test]
        fn any_bytes(bytes: Vec<u8>) {
            let _error = refused(&bytes);
        }

        #[test]
        fn any_byte_of_a_large_one(place: prop::sample::Index, to: u8) {
            thread_local!(static LARGE: Vec<u8> = large());
            LARGE.with(|large| {
                let mut changed = large.clone();
                let place = place.index(changed.len());
                prop_assume!(changed[place] != to);
                changed[place] = to;
                prop_assert!(verify(&changed).is_err(), "byte {}", place);
                Ok(())
            })?;
        }
    }
}
