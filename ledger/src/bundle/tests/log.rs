//! A log, and bundles of it, as a recorder and an exporter would have written them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;

use jiff::Timestamp;
use uuid::Uuid;

use super::super::contents::{self, Named, name_blobs};
use super::super::manifest::{FORMAT, Manifest, Range, Scope};
use super::super::write::{BundleWriter, Head};
use super::super::*;
use super::policy_of;
use crate::blob::Blob;
use crate::call::{CallResult, HttpTarget, Intent, Outcome};
use crate::checkpoint::Checkpoint;
use crate::cosignature::WitnessSigner;
use crate::coverage::Period;
use crate::entry::tests::envelope;
use crate::entry::{self, Envelope, Role, Subject, Workload};
use crate::log_keys::LogSigners;
use crate::note::SigningNoteKey;
use crate::operator::{Accepted, CoverageState, PodCoverage, Requester};
use crate::proof::TileSource;
use crate::statement::{
    Body, Claimed, Connection, Observed, ReadExport, SessionEnd, SessionStart, Statement, VERSION, kind,
};
use crate::tile::TILE_WIDTH;
use crate::tree::{Frontier, Hash, leaf_hash};

pub(super) const ORIGIN: &str = "example.com/log";

pub(super) fn key() -> SigningNoteKey {
    signing(7)
}

pub(super) fn signing(seed: u8) -> SigningNoteKey {
    SigningNoteKey::from_seed(ORIGIN, &[seed; 32]).expect("a fine name")
}

pub(super) fn at(second: usize) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + i64::try_from(second).expect("small")).expect("in range")
}

/// The connection of all sessions.
fn connection() -> Connection {
    let (namespace, name, uid) = ("agents".into(), "billing".into(), "u".into());
    let spec_digest = Some(accepted().spec_digest());
    Connection { namespace, name, uid, generation: 2, spec_digest }
}

fn accepted() -> Accepted {
    let by = Requester { user: "analyst-a".into(), ..Requester::default() };
    Accepted { spec: serde_json::json!({"project": "acme"}), by: Some(by), superseded: false }
}

/// A log as a recorder would have written it: sessions one after the other, of a start, calls with blobs, and an end.
pub(super) struct Log {
    pub(super) leaves: Vec<Vec<u8>>,
    pub(super) blobs: BTreeMap<Digest, Blob>,
    tiles: RefCell<BTreeMap<Tile, Vec<Hash>>>,
    pub(super) witnesses: Vec<WitnessSigner>,
    /// The keys that it signs with now.
    pub(super) keys: LogSigners,
}

impl TileSource for Log {
    type Error = Infallible;
    fn hashes(&self, tile: Tile) -> Result<Vec<Hash>, Infallible> {
        Ok(self.tiles.borrow().get(&tile).cloned().unwrap_or_default())
    }
}

/// One session's chain.
pub(super) struct Chain {
    session: Uuid,
    seq: u64,
    prev: Option<Digest>,
    connection: Option<Connection>,
}

impl Chain {
    fn say(&mut self, log: &mut Log, kind: &str, body: Body, blobs: &[Blob], by: &Envelope) {
        let blobs_named =
            blobs.iter().zip(0..).map(|(blob, n)| (format!("b{n}"), blob.reference())).collect();
        let statement = Statement {
            v: VERSION,
            kind: kind.into(),
            time: at(log.leaves.len()),
            connection: self.connection.clone(),
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
    pub(super) fn of(sessions: u8, calls: u8) -> Self {
        let mut log = Self {
            leaves: Vec::new(),
            blobs: BTreeMap::new(),
            tiles: RefCell::default(),
            witnesses: Vec::new(),
            keys: key().into(),
        };
        (0..sessions).for_each(|number| log.calls_of(number, calls));
        log
    }

    /// A session of so many calls.
    pub(super) fn calls_of(&mut self, number: u8, calls: u8) {
        let session = Uuid::from_u128(u128::from(number));
        let mut chain = Chain { session, seq: 0, prev: None, connection: Some(connection()) };
        let start = SessionStart { version: "1".into(), heartbeat_seconds: 60, ..SessionStart::default() };
        chain.say(
            self,
            kind::SESSION_START,
            Body { start: Some(start), ..Body::default() },
            &[],
            &envelope(),
        );
        for call in 0..calls {
            let sql =
                Blob::new([number ^ call; 32], format!("SELECT {number}, {call}").as_bytes()).expect("small");
            let intent =
                Intent { method: "jobs.query".into(), http: HttpTarget::default(), ..Intent::default() };
            let open = chain.seq;
            chain.say(
                self,
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
                self,
                kind::CALL_OUTCOME,
                Body { outcome: Some(outcome), ..Body::default() },
                &[],
                &envelope(),
            );
        }
        let end = SessionEnd { reason: "shutdown".into(), ..SessionEnd::default() };
        chain.say(self, kind::SESSION_END, Body { end: Some(end), ..Body::default() }, &[], &envelope());
    }

    pub(super) fn size(&self) -> u64 {
        self.leaves.len() as u64
    }

    /// The checkpoint of all there is now, whose tiles can be read from then on.
    pub(super) fn checkpoint(&self) -> Checkpoint {
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

    pub(super) fn everything(&self) -> Scope {
        Scope::Everything(Range { from: 0, to: self.size(), since: None, until: None })
    }

    pub(super) fn export(&mut self, scope: Scope, indexes: &[u64]) -> Vec<u8> {
        self.export_as(scope, indexes, |_| ())
    }

    /// A bundle of these entries; `lie` may change what the manifest says.
    pub(super) fn export_as(
        &mut self,
        scope: Scope,
        indexes: &[u64],
        lie: impl FnOnce(&mut Manifest),
    ) -> Vec<u8> {
        let period = Period { from: at(0), to: at(self.leaves.len()) };
        let mut files: BTreeMap<String, Vec<u8>> = [
            (LOG_KEY.to_owned(), format!("{}\n", self.keys.verifiers()).into_bytes()),
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
            salt: None,
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
        let note = format!("{}{}", checkpoint.sign(&self.keys), self.cosign(&checkpoint));
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

    /// What the recorder says, in a session of its own.
    pub(super) fn recorder_says(&mut self, session: u128, kind: &str, body: Body) {
        let by =
            Envelope { received: at(0), subject: Subject::Log { log: ORIGIN.into() }, role: Role::Recorder };
        let session = Uuid::from_u128(session << 64);
        let mut chain = Chain { session, seq: 0, prev: None, connection: None };
        chain.say(self, kind, body, &[], &by);
    }

    /// What an operator says in its session, of which statements up to `seq` lie before: that a spec was accepted, and that a pod runs
    /// without a sidecar.
    pub(super) fn operator_says(&mut self, seq: u64) {
        let Subject::Workload(workload) = envelope().subject else { panic!("a workload") };
        let subject = Subject::Workload(Workload { pod: "operator-0".into(), ..workload });
        let by = Envelope { received: at(0), subject, role: Role::Operator };
        let prev = (seq > 0).then_some(Digest([1; 32]));
        let session = Uuid::from_u128(7 << 32);
        let mut chain = Chain { session, seq, prev, connection: Some(connection()) };
        let body = Body { accepted: Some(accepted()), ..Body::default() };
        chain.say(self, kind::CONNECTION_ACCEPTED, body, &[], &by);
        let coverage = PodCoverage {
            namespace: "agents".into(),
            pod: "early".into(),
            pod_uid: "e".into(),
            service_account: "billing".into(),
            created: at(0),
            since: at(0),
            state: CoverageState::Uncovered,
            reason: Some("no_sidecar".into()),
        };
        let body = Body { coverage: Some(coverage), ..Body::default() };
        chain.say(self, kind::COVERAGE_POD, body, &[], &by);
    }

    fn enter_export(&mut self, manifest: &Manifest, digest: Digest) -> u64 {
        let export = ReadExport {
            cluster: String::new(),
            reader: "audit/auditor".into(),
            manifest: digest,
            filter: manifest.scope.to_entered_filter(),
            entries: manifest.contents.entries,
        };
        self.recorder_says(1, kind::READ_EXPORT, Body { export: Some(export), ..Body::default() });
        self.size() - 1
    }
}
