//! A BigQuery emulator with the story's two tables.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use crate::front::Upstream;
use crate::process::{Process, free_port};
use crate::tools::{EmulatorKind, Tools};
use crate::trouble::{Doing as _, Result, Trouble};

/// The project in which everything happens.
pub const PROJECT: &str = "acme-data";

/// A first start on a cold disk takes about 8 seconds.
const START_LIMIT: Duration = Duration::from_secs(120);

/// What agents will read and delete. (One of the emulators can't unnest an array of structs.)
const TABLES: [&str; 2] = [
    "CREATE TABLE billing.invoices AS SELECT 'A-17' AS account_id, 'overdue' AS status UNION ALL SELECT 'A-18', 'paid' \
     UNION ALL SELECT 'A-19', 'overdue' UNION ALL SELECT 'A-20', 'open'",
    "CREATE TABLE staging.imports AS SELECT 41 AS batch_id, 'a.csv' AS source UNION ALL SELECT 42, 'b.csv' \
     UNION ALL SELECT 42, 'c.csv' UNION ALL SELECT 42, 'd.csv' UNION ALL SELECT 43, 'e.csv'",
];

/// A running emulator.
#[derive(Debug)]
pub struct Emulator {
    process: Process,
    upstream: Upstream,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Emulator {
    /// Starts it, and doesn't wait. Its files lie in `folder`.
    ///
    /// # Errors
    /// It can't be run.
    pub fn launch(tools: &Tools, folder: &Path) -> Result<Self> {
        let upstream = Upstream { rest: free_port()?, grpc: free_port()? };
        let mut command = command(tools, upstream, &folder.join("emulator"));
        let process = Process::start("emulator", &mut command, folder)?;
        Ok(Self { process, upstream, client: Client::builder(TokioExecutor::new()).build_http() })
    }

    /// Waits until it answers, then makes `billing.invoices` (2 of 4 rows overdue) and `staging.imports` (3 of 5 rows of
    /// batch 42).
    ///
    /// # Errors
    /// It doesn't get ready, or refuses the tables.
    pub async fn furnished(mut self) -> Result<Self> {
        self.answers().await?;
        for dataset in ["billing", "staging"] {
            let reference = json!({ "datasetReference": { "projectId": PROJECT, "datasetId": dataset } });
            self.post("datasets", &reference).await?;
        }
        for table in TABLES {
            self.query(table).await?;
        }
        Ok(self)
    }

    /// Its ports.
    #[must_use]
    pub fn upstream(&self) -> Upstream {
        self.upstream
    }

    /// Runs a statement right here, past front and proxy; the answer is BigQuery's to `jobs.query`.
    ///
    /// # Errors
    /// It fails.
    pub async fn query(&self, sql: &str) -> Result<Value> {
        let answer = self.post("queries", &json!({ "query": sql, "useLegacySql": false })).await?;
        match answer.get("errors") {
            Some(errors) => Err(Trouble::new(format!("the emulator refused `{sql}`: {errors}"))),
            None => Ok(answer),
        }
    }

    async fn answers(&mut self) -> Result<()> {
        let (client, address) = (self.client.clone(), self.upstream.rest);
        let ready = || async {
            let uri = format!("http://{address}/bigquery/v2/projects/{PROJECT}/datasets").parse().ok()?;
            client.get(uri).await.ok().filter(|answer| answer.status() == StatusCode::OK).map(drop)
        };
        self.process.until("answer on its port", START_LIMIT, ready).await
    }

    async fn post(&self, collection: &str, body: &Value) -> Result<Value> {
        let request = Request::post(format!(
            "http://{}/bigquery/v2/projects/{PROJECT}/{collection}",
            self.upstream.rest
        ))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::from(body.to_string()))
        .doing("a request to the emulator")?;
        let answer = self.client.request(request).await.doing("asking the emulator")?;
        let status = answer.status();
        let text = answer.collect().await.doing("reading the emulator's answer")?.to_bytes();
        if !status.is_success() {
            let text = String::from_utf8_lossy(&text);
            return Err(Trouble::new(format!(
                "the emulator answered {status} to {collection} {body}: {text}"
            )));
        }
        serde_json::from_slice(&text).doing("the emulator's answer as JSON")
    }
}

fn command(tools: &Tools, upstream: Upstream, data: &Path) -> Command {
    let port = |address: SocketAddr| address.port().to_string();
    let (rest, grpc) = (port(upstream.rest), port(upstream.grpc));
    let mut command = Command::new(&tools.emulator_program);
    command.env("HOME", &tools.emulator_home);
    match tools.emulator {
        EmulatorKind::LocalBigquery => command
            .args(["--host", "127.0.0.1", "--port", &rest, "--grpc-port", &grpc, "--data-dir"])
            .arg(data),
        EmulatorKind::Bqemulator => command.args(["start", "--rest-port", &rest, "--grpc-port", &grpc]),
    };
    command
}
