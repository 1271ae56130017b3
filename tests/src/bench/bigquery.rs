//! "BigQuery": an answer of 2 KB to every query, at once.

use serde_json::json;

use super::serve::{Answering, Server, json};
use crate::ca::TestCa;
use crate::trouble::{Doing as _, Result};

/// The only host that there is.
pub(crate) const HOST: &str = "bigquery.googleapis.com";

/// Length of an answer's body, in bytes, give or take a row.
const ANSWER: usize = 2048;

struct BigQuery {
    answer: Vec<u8>,
}

impl Answering for BigQuery {
    fn answer(&self, _head: &[u8], _body: &[u8]) -> Result<Vec<u8>> {
        Ok(self.answer.clone())
    }
}

/// Serves, with a certificate of `ca`.
///
/// # Errors
/// No port, or no certificate.
pub(crate) async fn start(ca: &TestCa) -> Result<Server> {
    let answer = json("200 OK", &answer()?);
    Server::start(ca.server(&[HOST])?, BigQuery { answer }).await
}

/// What an agent asks, as the Python client writes it, with this bearer.
pub(crate) fn request(bearer: &str) -> Vec<u8> {
    let body = json!({
        "query": "SELECT account_id, status FROM billing.invoices WHERE status = \"overdue\"",
        "useLegacySql": false,
        "formatOptions": { "useInt64Timestamp": true },
        "requestId": "6d8b3c9e-5b5e-4f5c-9d1c-2f5a4b6c7d8e",
    });
    let body = body.to_string();
    let head = format!(
        "POST /bigquery/v2/projects/acme-data/queries?prettyPrint=false HTTP/1.1\r\nHost: {HOST}\r\n\
         User-Agent: gl-python/3.11.2 gccl/3.47.0\r\nX-Goog-API-Client: gl-python/3.11.2 gccl/3.47.0\r\n\
         Authorization: Bearer {bearer}\r\nAccept: application/json\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

/// As BigQuery's to `jobs.query`, with as many rows as fit.
fn answer() -> Result<Vec<u8>> {
    let mut rows = Vec::new();
    loop {
        let number = rows.len();
        rows.push(json!({ "f": [{ "v": format!("A-{number:04}") }, { "v": "overdue" }] }));
        let answer = json!({
            "kind": "bigquery#queryResponse",
            "schema": { "fields": [
                { "name": "account_id", "type": "STRING", "mode": "NULLABLE" },
                { "name": "status", "type": "STRING", "mode": "NULLABLE" },
            ] },
            "jobReference": { "projectId": "acme-data", "jobId": "job_4Pz1mQ7v", "location": "US" },
            "totalRows": rows.len().to_string(),
            "rows": rows,
            "totalBytesProcessed": "10485760",
            "jobComplete": true,
            "cacheHit": false,
            "queryId": "4Pz1mQ7v",
        });
        let bytes = serde_json::to_vec(&answer).doing("an answer as JSON")?;
        if bytes.len() >= ANSWER {
            return Ok(bytes);
        }
    }
}
