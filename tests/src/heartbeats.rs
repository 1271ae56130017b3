//! Entries of any number, quickly: a session of a start and heartbeats, sent to a recorder as one batch.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use jiff::Timestamp;
use ledger::batch::{Batch, MEDIA_TYPE};
use ledger::digest::Digest;
use ledger::statement::{Body, Claimed, Heartbeat, Observed, SessionStart, Statement, VERSION, kind};
use runtime::client::HttpsClient;
use uuid::Uuid;

use crate::programs::Recorder;
use crate::trouble::{Doing as _, Result, Trouble};

/// Records a new session of so many statements (a batch takes 512), as whose token is in the file `token`.
///
/// # Errors
/// The recorder refuses it, or can't be reached.
pub async fn record(recorder: &Recorder, token: &Path, statements: u64) -> Result<()> {
    let token = std::fs::read_to_string(token).doing("reading a token")?;
    let roots = runtime::tls::pinned_roots(&recorder.place().ca).doing("reading the recorder's CA")?;
    let tls = runtime::tls::client_config(roots, &[]).doing("setting up TLS")?;
    let client = HttpsClient::new(tls, Duration::from_secs(30), 1 << 20);
    let batch = Batch { blobs: Vec::new(), statements: session(statements)? }.encode();
    let request = Request::post(format!("{}/v1/batches", recorder.url()))
        .header("authorization", format!("Bearer {}", token.trim()))
        .header("content-type", MEDIA_TYPE)
        .body(Full::new(Bytes::from(batch)))
        .doing("making a request")?;
    let answer = client.send(request).await.doing("sending a batch")?;
    if answer.status() == 200 {
        return Ok(());
    }
    Err(Trouble::new(format!("the recorder answered {}: {:?}", answer.status(), answer.body())))
}

/// A session's start and heartbeats.
fn session(count: u64) -> Result<Vec<Vec<u8>>> {
    let (session, mut prev) = (Uuid::now_v7(), None);
    let statement = |seq| {
        let (kind, body) = if seq == 0 {
            let start =
                SessionStart { version: "test".into(), heartbeat_seconds: 300, ..SessionStart::default() };
            (kind::SESSION_START, Body { start: Some(start), ..Body::default() })
        } else {
            let heartbeat = Some(Heartbeat::default());
            (kind::SESSION_HEARTBEAT, Body { heartbeat, ..Body::default() })
        };
        let statement = Statement {
            v: VERSION,
            kind: kind.into(),
            time: Timestamp::now(),
            connection: None,
            session,
            seq,
            prev,
            observed: Observed::default(),
            claimed: Claimed::default(),
            blobs: BTreeMap::new(),
            body,
        };
        let bytes = statement.to_bytes().doing("writing a statement")?;
        prev = Some(Digest::of(&bytes));
        Ok(bytes)
    };
    (0..count).map(statement).collect()
}
