//! A "BigQuery" behind the front that runs no SQL: every query has the same rows. For tests that are about the way there and
//! back, where an emulator would only cost time.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::emulator::PROJECT;
use crate::front::Upstream;
use crate::trouble::{Doing as _, Result};

/// How many rows each query has: enough for an answer that comes in pieces.
pub const ROWS: usize = 200;

/// Answers until it is dropped.
#[derive(Debug)]
pub struct Canned {
    upstream: Upstream,
    serving: JoinHandle<()>,
}

impl Canned {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// No port.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.doing("opening a port for canned answers")?;
        let address = listener.local_addr().doing("asking for the port of canned answers")?;
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serving =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
                tokio::spawn(async move {
                    if let Err(error) = serving.await {
                        tracing::debug!(%error, "canned: connection ended");
                    }
                });
            }
        });
        Ok(Self { upstream: Upstream { rest: address, grpc: address }, serving })
    }

    /// What a front needs to know of it. It speaks no gRPC.
    #[must_use]
    pub fn upstream(&self) -> Upstream {
        self.upstream
    }
}

impl Drop for Canned {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(request: Request<Incoming>) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let path = head.uri.path().trim_start_matches("/bigquery/v2/projects/");
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let told = match (&head.method, parts.as_slice()) {
        (&Method::POST, ["queries"]) => Some(rows("canned")),
        (&Method::GET, ["queries", job]) => Some(rows(job)),
        (&Method::POST, ["jobs"]) => Some(done(asked["jobReference"]["jobId"].as_str().unwrap_or("canned"))),
        (&Method::GET, ["jobs", job]) => Some(done(job)),
        _ => None,
    };
    let not_found = json!({ "error": { "code": 404, "errors": [{ "reason": "notFound" }] } });
    let status = if told.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
    let mut answer = Response::new(Full::from(told.unwrap_or(not_found).to_string()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json; charset=UTF-8"),
    );
    Ok(answer)
}

fn rows(job: &str) -> Value {
    let rows: Vec<Value> = (0..ROWS).map(|n| json!({ "f": [{ "v": n.to_string() }] })).collect();
    json!({
        "kind": "bigquery#queryResponse", "jobComplete": true, "totalRows": ROWS.to_string(), "rows": rows,
        "schema": { "fields": [{ "name": "n", "type": "INTEGER", "mode": "NULLABLE" }] },
        "jobReference": reference(job),
    })
}

fn done(job: &str) -> Value {
    json!({
        "kind": "bigquery#job", "id": format!("{PROJECT}:US.{job}"), "jobReference": reference(job),
        "configuration": { "jobType": "QUERY", "query": { "query": "SELECT" } }, "status": { "state": "DONE" },
        "statistics": { "query": { "statementType": "SELECT" } },
    })
}

fn reference(job: &str) -> Value {
    json!({ "projectId": PROJECT, "jobId": job, "location": "US" })
}
