//! A long log: calls of many pods by turns, most of them alike and some rare, each tenth with its SQL.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bqwitness_recorder::metrics::Metrics;
use bqwitness_recorder::store::files::LocalFiles;
use bqwitness_recorder::store::recover::{self, Opened};
use jiff::Timestamp;
use ledger::blob::Blob;
use ledger::call::{Access, CallResult, HttpTarget, Intent, JobReference, Outcome, Reported, TableUse};
use ledger::digest::Digest;
use ledger::entry::{Envelope, Role, Subject, Workload, encode};
use ledger::statement::{Body, Claimed, Connection, Observed, SessionStart, Statement, VERSION, kind};
use prometheus::Registry;
use uuid::Uuid;

use super::figure;
use crate::bench::figure::Figure;
use crate::programs::CLUSTER;
use crate::trouble::{Doing as _, Result};

/// Pods, each with one session.
pub(super) const PODS: u64 = 200;

/// Entries that are published together.
const PUBLISHED: u64 = 32 * 1024;

/// One call in so many has its SQL; each is a file.
const WITH_SQL: u64 = 10;

/// A log that was written.
pub(super) struct Written {
    /// Its entries.
    pub(super) size: u64,
    /// When its first calls were received, and its last.
    pub(super) period: (Timestamp, Timestamp),
    /// Sessions of the pods, in their order.
    pub(super) sessions: Vec<Uuid>,
    /// Entries a second of a bare SHA-256 of their bytes.
    pub(super) hashed: f64,
}

impl Written {
    pub(super) fn figure(&self) -> Figure {
        figure("bare SHA-256 of the leaves", self.hashed, "/s")
    }
}

/// Leaves, and the texts that they name.
type Said = (Vec<Arc<[u8]>>, Vec<Arc<Blob>>);

/// One pod's session.
struct Session {
    id: Uuid,
    workload: Workload,
    number: u64,
    seq: u64,
    prev: Option<Digest>,
}

pub(super) fn open(data: &Path, origin: &str) -> Result<Opened> {
    let files = LocalFiles::open(data).doing("opening the log's folder")?;
    recover::open(Arc::new(files), origin, metrics()?).doing("opening the log")
}

pub(super) fn metrics() -> Result<Arc<Metrics>> {
    Ok(Arc::new(Metrics::new(&Registry::new()).doing("making metrics")?))
}

/// Writes a log of at least so many entries.
pub(super) fn write(data: &Path, origin: &str, entries: u64) -> Result<Written> {
    let Opened { tail, mut publisher, .. } = open(data, origin)?;
    let mut sessions: Vec<_> = (0..PODS).map(Session::new).collect();
    let (first, mut number, mut unpublished, mut hashing) = (Timestamp::now(), 0, 0, Duration::ZERO);
    while tail.size() < entries {
        for session in &mut sessions {
            let (leaves, blobs) = session.next(number)?;
            number += 1;
            unpublished += leaves.len() as u64;
            let begun = Instant::now();
            let mixed = leaves.iter().fold(0, |mixed, leaf| mixed ^ Digest::of(leaf).0[0]);
            hashing += begun.elapsed();
            std::hint::black_box(mixed);
            tail.add(leaves, blobs);
        }
        if unpublished >= PUBLISHED {
            publisher.publish(&tail).doing("publishing")?;
            unpublished = 0;
        }
    }
    publisher.publish(&tail).doing("publishing")?;
    let (size, last) = (tail.size(), Timestamp::now());
    let sessions = sessions.iter().map(|session| session.id).collect();
    Ok(Written { size, period: (first, last), sessions, hashed: size as f64 / hashing.as_secs_f64() })
}

pub(super) fn agent(pod: u64) -> (String, String) {
    (format!("team-{}", pod % 8), format!("agent-{}", pod % 40))
}

pub(super) fn job(call: u64) -> String {
    format!("job_{call}")
}

pub(super) fn table(call: u64) -> (String, String) {
    let table = call % 499;
    (format!("dataset_{}", table % 25), format!("table_{table}"))
}

impl Session {
    fn new(number: u64) -> Self {
        let (namespace, service_account) = agent(number);
        let workload = Workload {
            cluster: CLUSTER.into(),
            namespace,
            service_account,
            pod: format!("pod-{number}"),
            pod_uid: Uuid::from_u128(number.into()).to_string(),
            node: Some("node-1".into()),
        };
        Self { id: Uuid::now_v7(), workload, number, seq: 0, prev: None }
    }

    /// Its beginning, or its next call with an outcome.
    fn next(&mut self, call: u64) -> Result<Said> {
        if self.seq == 0 {
            let start =
                SessionStart { version: "bench".into(), heartbeat_seconds: 300, ..SessionStart::default() };
            let start = Body { start: Some(start), ..Body::default() };
            return Ok((vec![self.say(kind::SESSION_START, start, None)?], Vec::new()));
        }
        let sql = call.is_multiple_of(WITH_SQL).then(|| sql(call)).transpose()?;
        let place = self.seq;
        let intent = Body { intent: Some(intent(call)), ..Body::default() };
        let mut leaves = vec![self.say(kind::CALL_INTENT, intent, sql.as_ref())?];
        // A few calls never end.
        if !call.is_multiple_of(997) {
            let outcome = Body { outcome: Some(outcome(place, call)), ..Body::default() };
            leaves.push(self.say(kind::CALL_OUTCOME, outcome, None)?);
        }
        Ok((leaves, sql.into_iter().map(Arc::new).collect()))
    }

    fn say(&mut self, kind: &str, body: Body, sql: Option<&Blob>) -> Result<Arc<[u8]>> {
        let statement = Statement {
            v: VERSION,
            kind: kind.into(),
            time: Timestamp::now(),
            connection: Some(Connection {
                namespace: self.workload.namespace.clone(),
                name: format!("warehouse-{}", self.number % 3),
                uid: String::new(),
                generation: 1,
                spec_digest: None,
            }),
            session: self.id,
            seq: self.seq,
            prev: self.prev,
            observed: Observed::default(),
            claimed: Claimed { user_agent: Some("bench/1.0".into()), ..Claimed::default() },
            blobs: sql.map(|sql| BTreeMap::from([("sql".into(), sql.reference())])).unwrap_or_default(),
            body,
        };
        let bytes = statement.to_bytes().doing("writing a statement")?;
        (self.seq, self.prev) = (self.seq + 1, Some(Digest::of(&bytes)));
        let (received, subject) = (Timestamp::now(), Subject::Workload(self.workload.clone()));
        let leaf = encode(&Envelope { received, subject, role: Role::Sidecar }, &bytes);
        Ok(leaf.doing("writing an entry")?.into())
    }
}

fn sql(call: u64) -> Result<Blob> {
    let (dataset, table) = table(call);
    let text = format!(
        "SELECT account_id, SUM(amount) AS total FROM {dataset}.{table} WHERE account_id = {call} AND region = 'region_{}' \
         GROUP BY account_id ORDER BY total DESC",
        call % 1_009
    );
    Blob::new(Digest::of(&call.to_be_bytes()).0, text.as_bytes()).doing("making a text")
}

fn intent(call: u64) -> Intent {
    let (dataset, table) = table(call);
    let rare = call.is_multiple_of(1_013);
    Intent {
        method: if rare { "jobs.insert" } else { "jobs.query" }.into(),
        http: HttpTarget {
            verb: "POST".into(),
            host: "bigquery.googleapis.com".into(),
            path: "/bigquery/v2/projects/acme-data/queries?prettyPrint=false".into(),
        },
        project: Some("acme-data".into()),
        job: Some(JobReference {
            project: Some("acme-data".into()),
            id: job(call),
            location: Some("EU".into()),
        }),
        statement_kind: Some(if rare { "DELETE" } else { "SELECT" }.into()),
        tables: vec![TableUse { project: None, dataset: Some(dataset), table, access: Access::Read }],
        refused: call.is_multiple_of(1_019).then(|| "unknown_method".into()),
        ..Intent::default()
    }
}

fn outcome(place: u64, call: u64) -> Outcome {
    let result = match call {
        call if call.is_multiple_of(1_019) => CallResult::Refused,
        call if call.is_multiple_of(1_021) => CallResult::Failed,
        _ => CallResult::Answered,
    };
    Outcome {
        call: place,
        result,
        forwarded: result != CallResult::Refused,
        status: Some(200),
        reported: Some(Reported { total_rows: Some(call % 100), ..Reported::default() }),
        duration_micros: 1_000,
        ..Outcome::default()
    }
}
