//! What a sidecar says, without one: a session with a call.

use std::collections::BTreeMap;
use std::time::Duration;

use bqwitness_tests::programs::Recorder;
use http::{Request, header};
use http_body_util::Full;
use jiff::Timestamp;
use ledger::batch::{Batch, MEDIA_TYPE};
use ledger::blob::{Blob, BlobRef};
use ledger::call::Intent;
use ledger::digest::Digest;
use ledger::statement::{Body, Claimed, Connection, Observed, SessionStart, Statement, VERSION, kind};
use runtime::client::HttpsClient;
use uuid::Uuid;

pub(crate) struct Speaker {
    url: String,
    client: HttpsClient,
    token: String,
    connection: Connection,
    session: Uuid,
    seq: u64,
    prev: Option<Digest>,
}

impl Speaker {
    pub(crate) fn new(recorder: &Recorder, namespace: &str, token: String) -> Self {
        let roots = runtime::tls::pinned_roots(&recorder.place().ca).unwrap();
        let tls = runtime::tls::client_config(roots, &[]).unwrap();
        let connection = Connection {
            namespace: namespace.into(),
            name: "warehouse".into(),
            uid: String::new(),
            generation: 1,
            spec_digest: None,
        };
        Self {
            url: format!("{}/v1/batches", recorder.url()),
            client: HttpsClient::new(tls, Duration::from_secs(30), 1 << 20),
            token,
            connection,
            session: Uuid::now_v7(),
            seq: 0,
            prev: None,
        }
    }

    /// Begins, and is about to run this.
    pub(crate) async fn calls(mut self, sql: &str) {
        let start =
            SessionStart { version: "test".into(), heartbeat_seconds: 300, ..SessionStart::default() };
        let start =
            self.say(kind::SESSION_START, Body { start: Some(start), ..Body::default() }, BTreeMap::new());
        let blob = Blob::new(Digest::of(self.session.as_bytes()).0, sql.as_bytes()).unwrap();
        let intent = Intent { method: "jobs.query".into(), ..Intent::default() };
        let body = Body { intent: Some(intent), ..Body::default() };
        let intent = self.say(kind::CALL_INTENT, body, [("sql".to_owned(), blob.reference())].into());
        let batch = Batch { blobs: vec![blob], statements: vec![start, intent] };
        let request = Request::post(&self.url)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, MEDIA_TYPE)
            .body(Full::from(batch.encode()))
            .unwrap();
        let answer = self.client.send(request).await.unwrap();
        assert_eq!(answer.status(), 200, "{:?}", answer.body());
    }

    fn say(&mut self, kind: &str, body: Body, blobs: BTreeMap<String, BlobRef>) -> Vec<u8> {
        let statement = Statement {
            v: VERSION,
            kind: kind.into(),
            time: Timestamp::now(),
            connection: Some(self.connection.clone()),
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
}
