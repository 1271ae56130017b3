//! What a sidecar says: one session of one workload.

use std::collections::BTreeMap;

use jiff::Timestamp;
use ledger::batch::Batch;
use ledger::blob::{Blob, BlobRef};
use ledger::call::{Access, CallResult, Intent, Outcome, Reported, TableUse};
use ledger::digest::Digest;
use ledger::statement::{
    Body, Claimed, Connection, Observed, SessionEnd, SessionStart, Statement, VERSION, kind,
};
use uuid::Uuid;

/// One session of one workload.
#[derive(Clone)]
pub struct Speaker {
    pub token: String,
    pub session: Uuid,
    pub seq: u64,
    pub prev: Option<Digest>,
}

impl Speaker {
    pub fn new(token: String) -> Self {
        Self { token, session: Uuid::now_v7(), seq: 0, prev: None }
    }

    /// The next statement's bytes.
    pub fn say(&mut self, kind: &str, body: Body, blobs: BTreeMap<String, BlobRef>) -> Vec<u8> {
        let statement = Statement {
            v: VERSION,
            kind: kind.into(),
            time: Timestamp::now(),
            connection: Some(Connection {
                namespace: "agents".into(),
                name: "main".into(),
                uid: String::new(),
                generation: 0,
                spec_digest: None,
            }),
            session: self.session,
            seq: self.seq,
            prev: self.prev,
            observed: Observed::default(),
            claimed: Claimed::default(),
            blobs,
            body,
        };
        let bytes = statement.to_bytes().unwrap();
        (self.seq, self.prev) = (self.seq + 1, Some(Digest::of(&bytes)));
        bytes
    }

    pub fn start(&mut self, heartbeat_seconds: u64) -> Batch {
        let start = SessionStart { version: "test".into(), heartbeat_seconds, ..SessionStart::default() };
        only(self.say(kind::SESSION_START, Body { start: Some(start), ..Body::default() }, BTreeMap::new()))
    }

    pub fn end(&mut self) -> Batch {
        let end = SessionEnd { reason: "shutdown".into(), ..SessionEnd::default() };
        only(self.say(kind::SESSION_END, Body { end: Some(end), ..Body::default() }, BTreeMap::new()))
    }

    pub fn heartbeat(&mut self) -> Batch {
        let heartbeat = Some(ledger::statement::Heartbeat::default());
        only(self.say(kind::SESSION_HEARTBEAT, Body { heartbeat, ..Body::default() }, BTreeMap::new()))
    }

    /// An intent with its SQL.
    pub fn intent(&mut self, sql: &str, kind_of: &str, table: &str, access: Access) -> Batch {
        let blob = Blob::new(Digest::of(Uuid::now_v7().as_bytes()).0, sql.as_bytes()).unwrap();
        let (dataset, table) = table.split_once('.').unwrap();
        let intent = Intent {
            method: "jobs.query".into(),
            project: Some("acme".into()),
            statement_kind: Some(kind_of.into()),
            tables: vec![TableUse {
                project: None,
                dataset: Some(dataset.into()),
                table: table.into(),
                access,
            }],
            ..Intent::default()
        };
        let body = Body { intent: Some(intent), ..Body::default() };
        let statement = self.say(kind::CALL_INTENT, body, BTreeMap::from([("sql".into(), blob.reference())]));
        Batch { blobs: vec![blob], statements: vec![statement] }
    }

    pub fn outcome(&mut self, call: u64, rows: u64) -> Batch {
        let reported = Reported { total_rows: Some(rows), ..Reported::default() };
        let outcome = Outcome {
            call,
            result: CallResult::Answered,
            forwarded: true,
            status: Some(200),
            reported: Some(reported),
            duration_micros: 1234,
            ..Outcome::default()
        };
        only(self.say(
            kind::CALL_OUTCOME,
            Body { outcome: Some(outcome), ..Body::default() },
            BTreeMap::new(),
        ))
    }
}

pub fn only(statement: Vec<u8>) -> Batch {
    Batch { blobs: Vec::new(), statements: vec![statement] }
}

pub fn join(batches: impl IntoIterator<Item = Batch>) -> Batch {
    let mut joined = Batch::default();
    for batch in batches {
        joined.blobs.extend(batch.blobs);
        joined.statements.extend(batch.statements);
    }
    joined
}
