//! What writers say: the statements of a session, made and encoded before the clock runs.

use std::collections::BTreeMap;

use jiff::Timestamp;
use ledger::batch::{Batch, MEDIA_TYPE};
use ledger::blob::{Blob, SALT_LEN};
use ledger::call::{Access, CallResult, HttpTarget, Intent, Outcome, TableUse};
use ledger::digest::Digest;
use ledger::entry::{Envelope, Role, Subject, Workload, encode};
use ledger::statement::{Body, Claimed, Connection, Observed, SessionStart, Statement, VERSION, kind};
use uuid::Uuid;

use crate::identity::Pod;
use crate::programs::CLUSTER;
use crate::trouble::{Doing as _, Result};

/// Length of an entry as it lies in the log, in bytes, give or take the digits of its numbers.
pub(crate) const ENTRY: usize = 1024;

/// Sessions are not to be closed while a phase is prepared.
const HEARTBEAT_SECONDS: u64 = 300;

/// One writer's session.
#[derive(Debug)]
pub(crate) struct Session {
    id: Uuid,
    token: String,
    next: u64,
    prev: Option<Digest>,
    /// The last intent's `seq`.
    call: u64,
    /// Bytes around a statement in its entry.
    framing: usize,
}

/// What the entries of a phase are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Intents and outcomes of about 1 KiB, by turns; no blobs.
    Calls,
    /// Intents with their SQL as a blob, and outcomes.
    CallsWithSql,
}

impl Session {
    /// A session of `pod`, which has this token.
    pub(crate) fn new(pod: &Pod, token: String) -> Result<Self> {
        let workload = Workload {
            cluster: CLUSTER.into(),
            namespace: pod.namespace.clone(),
            service_account: pod.service_account.clone(),
            pod: pod.name.clone(),
            pod_uid: pod.uid.to_string(),
            node: Some("node-1".into()),
        };
        let (received, subject) = (Timestamp::now(), Subject::Workload(workload));
        let framing =
            encode(&Envelope { received, subject, role: Role::Sidecar }, b"").doing("an envelope")?.len();
        Ok(Self { id: Uuid::now_v7(), token, next: 0, prev: None, call: 0, framing })
    }

    /// The request that begins the session.
    pub(crate) fn start(&mut self) -> Result<Vec<u8>> {
        let start = SessionStart {
            version: "bench".into(),
            heartbeat_seconds: HEARTBEAT_SECONDS,
            ..SessionStart::default()
        };
        let start = self.say(kind::SESSION_START, Body { start: Some(start), ..Body::default() }, &[])?;
        Ok(self.request(&Batch { blobs: vec![], statements: vec![start] }))
    }

    /// The next request, with a batch of `count` entries.
    pub(crate) fn batch(&mut self, content: Content, count: usize) -> Result<Vec<u8>> {
        let mut batch = Batch::default();
        for _ in 0..count {
            let intends = self.next % 2 == 1; // 0 was the start
            let blobs = match content {
                Content::Calls => vec![],
                _ if intends => vec![self.sql()?],
                _ => vec![],
            };
            let (kind, body) = match intends {
                true => (kind::CALL_INTENT, self.intent()),
                false => (kind::CALL_OUTCOME, self.outcome()),
            };
            batch.statements.push(self.say(kind, body, &blobs)?);
            batch.blobs.extend(blobs);
        }
        Ok(self.request(&batch))
    }

    /// Unlike any other, so that nothing is stored already.
    fn sql(&self) -> Result<Blob> {
        let number = self.next;
        let sql = format!(
            "SELECT account_id, status, SUM(amount) AS total_{number} FROM billing.invoices AS i JOIN billing.accounts AS a \
             USING (account_id) WHERE status = 'overdue' AND batch_id = {number} GROUP BY 1, 2 ORDER BY total_{number} DESC"
        );
        let mut salt = [0; SALT_LEN];
        salt[..16].copy_from_slice(self.id.as_bytes());
        salt[16..24].copy_from_slice(&number.to_be_bytes());
        Blob::new(salt, sql.as_bytes()).doing("a blob")
    }

    fn intent(&mut self) -> Body {
        self.call = self.next;
        let table = |table: &str| TableUse {
            project: None,
            dataset: Some("billing".into()),
            table: table.into(),
            access: Access::Read,
        };
        let intent = Intent {
            method: "jobs.query".into(),
            http: HttpTarget {
                verb: "POST".into(),
                host: "bigquery.googleapis.com".into(),
                path: "/bigquery/v2/projects/acme-data/queries?prettyPrint=false".into(),
            },
            project: Some("acme-data".into()),
            statement_kind: Some("SELECT".into()),
            tables: vec![table("invoices"), table("accounts")],
            ..Intent::default()
        };
        Body { intent: Some(intent), ..Body::default() }
    }

    fn outcome(&self) -> Body {
        let outcome = Outcome {
            call: self.call,
            result: CallResult::Answered,
            forwarded: true,
            status: Some(200),
            duration_micros: 123_456,
            ..Outcome::default()
        };
        Body { outcome: Some(outcome), ..Body::default() }
    }

    /// The next statement of the chain, as long as makes an entry of about [`ENTRY`] bytes.
    fn say(&mut self, kind: &str, body: Body, blobs: &[Blob]) -> Result<Vec<u8>> {
        let mut statement = Statement {
            v: VERSION,
            kind: kind.into(),
            time: Timestamp::now(),
            connection: Some(connection()),
            session: self.id,
            seq: self.next,
            prev: self.prev,
            observed: Observed { interception: Some("connect".into()), ..Observed::default() },
            claimed: Claimed { user_agent: Some(String::new()), ..Claimed::default() },
            blobs: blobs.iter().map(|blob| ("sql".to_owned(), blob.reference())).collect::<BTreeMap<_, _>>(),
            body,
        };
        let length = statement.to_bytes().doing("a statement")?.len() + self.framing;
        statement.claimed.user_agent = Some("u".repeat(ENTRY.saturating_sub(length)));
        let bytes = statement.to_bytes().doing("a statement")?;
        (self.next, self.prev) = (self.next + 1, Some(Digest::of(&bytes)));
        Ok(bytes)
    }

    fn request(&self, batch: &Batch) -> Vec<u8> {
        let body = batch.encode();
        let head = format!(
            "POST /v1/batches HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {}\r\nContent-Type: {MEDIA_TYPE}\r\n\
             Content-Length: {}\r\n\r\n",
            self.token,
            body.len()
        );
        [head.into_bytes(), body].concat()
    }
}

fn connection() -> Connection {
    Connection {
        namespace: "agents".into(),
        name: "warehouse".into(),
        uid: String::new(),
        generation: 0,
        spec_digest: None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::bench::wire;

    fn body(request: &[u8]) -> Batch {
        let head = wire::find(request, b"\r\n\r\n").unwrap() + 4;
        assert_eq!(wire::length(&request[..head]), Some(request.len() - head));
        Batch::decode(&request[head..]).unwrap()
    }

    #[test]
    fn batches_chain_and_have_the_length_of_entries() {
        for content in [Content::Calls, Content::CallsWithSql] {
            let pod = Pod::of("agents", "writer");
            let mut session = Session::new(&pod, "t".into()).unwrap();
            let mut prev = Digest::of(&body(&session.start().unwrap()).statements[0]);
            let batch = body(&session.batch(content, 4).unwrap());
            assert_eq!(batch.blobs.len(), if content == Content::Calls { 0 } else { 2 });
            for (bytes, seq) in batch.statements.iter().zip(1..) {
                let statement = Statement::parse(bytes).unwrap();
                assert_eq!((statement.seq, statement.prev), (seq, Some(prev)));
                assert_eq!(statement.body.kind(), Some(statement.kind.as_str()));
                assert!((bytes.len() + session.framing).abs_diff(ENTRY) < 16);
                prev = Digest::of(bytes);
            }
        }
    }
}
