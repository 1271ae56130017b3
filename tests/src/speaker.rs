//! What a sidecar or an operator says to the recorder, without one: a session, statement by statement.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use http::{Request, header};
use http_body_util::Full;
use jiff::Timestamp;
use ledger::batch::{Batch, MEDIA_TYPE};
use ledger::blob::{Blob, BlobRef};
use ledger::call::Intent;
use ledger::digest::Digest;
use ledger::operator::Accepted;
use ledger::receipt::Acknowledgement;
use ledger::statement::{Body, Claimed, Connection, Observed, SessionStart, Statement, VERSION, kind};
use runtime::client::HttpsClient;
use serde_json::Value;
use uuid::Uuid;

use crate::trouble::{Doing as _, Result, Trouble};

/// The recorder must answer within this time.
const PATIENCE: Duration = Duration::from_secs(30);

/// Greatest answer of the recorder's that is read, in bytes.
const MAX_ANSWER: usize = 1 << 20;

/// Somebody who speaks.
pub struct Speaker {
    url: String,
    client: HttpsClient,
    token: String,
    /// What it says is about this connection, if it is about one.
    pub connection: Option<Connection>,
    session: Uuid,
    seq: u64,
    prev: Option<Digest>,
}

/// Generation 1 of a connection with this spec.
#[must_use]
pub fn connection(namespace: &str, name: &str, spec: &Value) -> Connection {
    let accepted = Accepted { spec: spec.clone(), ..Accepted::default() };
    Connection {
        namespace: namespace.into(),
        name: name.into(),
        uid: format!("uid-of-{namespace}-{name}"),
        generation: 1,
        spec_digest: Some(accepted.spec_digest()),
    }
}

impl Speaker {
    /// Somebody with this token, who speaks to the recorder at `url`, whose certificate leads to the roots in `ca`.
    ///
    /// # Errors
    /// The roots can't be read.
    pub fn new(url: &str, ca: &Path, token: String, connection: Option<Connection>) -> Result<Self> {
        let roots = runtime::tls::pinned_roots(ca).doing("reading the recorder's roots")?;
        let tls = runtime::tls::client_config(roots, &[]).doing("making a client")?;
        Ok(Self {
            url: format!("{url}/v1/batches"),
            client: HttpsClient::new(tls, PATIENCE, MAX_ANSWER),
            token,
            connection,
            session: Uuid::now_v7(),
            seq: 0,
            prev: None,
        })
    }

    /// Begins its session.
    ///
    /// # Errors
    /// The recorder does not take it.
    pub async fn starts(&mut self) -> Result<()> {
        let start =
            SessionStart { version: "test".into(), heartbeat_seconds: 300, ..SessionStart::default() };
        let body = Body { start: Some(start), ..Body::default() };
        self.says(kind::SESSION_START, body).await.map(drop)
    }

    /// Is about to run this; the entry's index.
    ///
    /// # Errors
    /// The recorder does not take it.
    pub async fn calls(&mut self, sql: &str) -> Result<u64> {
        let salt = Digest::of(Uuid::now_v7().as_bytes()).0;
        let blob = Blob::new(salt, sql.as_bytes()).doing("making a blob")?;
        let intent = Intent { method: "jobs.query".into(), ..Intent::default() };
        let body = Body { intent: Some(intent), ..Body::default() };
        let blobs = [("sql".to_owned(), blob.reference())].into();
        self.send(kind::CALL_INTENT, body, blobs, vec![blob]).await
    }

    /// Says something of its connection; the entry's index.
    ///
    /// # Errors
    /// The recorder does not take it.
    pub async fn says(&mut self, kind: &str, body: Body) -> Result<u64> {
        self.send(kind, body, BTreeMap::new(), Vec::new()).await
    }

    async fn send(
        &mut self,
        kind: &str,
        body: Body,
        named: BTreeMap<String, BlobRef>,
        blobs: Vec<Blob>,
    ) -> Result<u64> {
        let statement = self.statement(kind, body, named)?;
        let batch = Batch { blobs, statements: vec![statement.clone()] };
        let request = Request::post(&self.url)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, MEDIA_TYPE)
            .body(Full::from(batch.encode()))
            .doing("making a request")?;
        let answer = self.client.send(request).await.doing("asking the recorder")?;
        if answer.status() != 200 {
            return Err(Trouble::new(format!("{kind}: {} {:?}", answer.status(), answer.body())));
        }
        (self.seq, self.prev) = (self.seq + 1, Some(Digest::of(&statement)));
        let acknowledged: Acknowledgement =
            serde_json::from_slice(answer.body()).doing("reading a receipt")?;
        index_of(&acknowledged)
    }

    fn statement(&self, kind: &str, body: Body, blobs: BTreeMap<String, BlobRef>) -> Result<Vec<u8>> {
        let statement = Statement {
            v: VERSION,
            kind: kind.into(),
            time: Timestamp::now(),
            connection: self.connection.clone(),
            session: self.session,
            seq: self.seq,
            prev: self.prev,
            observed: Observed::default(),
            claimed: Claimed::default(),
            blobs,
            body,
        };
        statement.to_bytes().doing("writing a statement")
    }
}

/// The index in a receipt of one entry; whether the receipt holds is for other tests.
fn index_of(acknowledged: &Acknowledgement) -> Result<u64> {
    let line = acknowledged.receipt.lines().nth(2).and_then(|line| line.split(' ').next());
    line.unwrap_or_default().parse().doing("reading a receipt")
}
