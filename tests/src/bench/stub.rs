//! A recorder that does nothing but sign: what the proxy costs when durability costs nothing. Its receipts are real, as
//! the proxy checks them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use ledger::batch::Batch;
use ledger::entry::{Envelope, Role, Subject, encode};
use ledger::note::SigningNoteKey;
use ledger::receipt::{Acknowledgement, Receipt, ReceiptEntry};
use ledger::tree::leaf_hash;

use super::serve::{Answering, Server, json};
use crate::ca::TestCa;
use crate::programs::{ORIGIN, RecorderAt};
use crate::trouble::{Doing as _, Result};

struct Stub {
    key: SigningNoteKey,
    taken: Arc<Taken>,
}

/// What came.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    batches: AtomicU64,
    statements: AtomicU64,
}

impl Taken {
    /// Statements in a batch, on average.
    pub(crate) fn grouped(&self) -> f64 {
        let [statements, batches] =
            [&self.statements, &self.batches].map(|count| count.load(Ordering::Relaxed));
        statements as f64 / batches.max(1) as f64
    }
}

/// Serves, with a certificate of `ca`; files lie in `folder`.
///
/// # Errors
/// No port, no certificate, or no file.
pub(crate) async fn start(folder: &Path, ca: &TestCa) -> Result<(Server, RecorderAt, Arc<Taken>)> {
    let key = SigningNoteKey::from_seed(ORIGIN, &[7; 32]).doing("making a log's key")?;
    let file = folder.join("stub.vkey");
    std::fs::write(&file, format!("{}\n", key.verifier())).doing(format!("writing {}", file.display()))?;
    let taken = Arc::<Taken>::default();
    let server = Server::start(ca.server(&["127.0.0.1"])?, Stub { key, taken: taken.clone() }).await?;
    let place = RecorderAt { url: format!("https://{}", server.address()), ca: ca.path(), key: file };
    Ok((server, place, taken))
}

impl Answering for Stub {
    fn answer(&self, head: &[u8], body: &[u8]) -> Result<Vec<u8>> {
        if head.starts_with(b"POST /v1/batches ") {
            Ok(json("200 OK", &self.acknowledge(body)?))
        } else {
            // There is no log behind this, and nobody may take it for one.
            Ok(json(
                "503 Service Unavailable",
                br#"{"error":{"reason":"busy","message":"this log cannot be read"}}"#,
            ))
        }
    }
}

impl Stub {
    fn acknowledge(&self, body: &[u8]) -> Result<Vec<u8>> {
        let batch = Batch::decode(body).doing("reading a batch")?;
        let received = Timestamp::now();
        let subject = Subject::Log { log: ORIGIN.into() };
        let envelope = Envelope { received, subject, role: Role::Sidecar };
        let raw = serde_json::value::to_raw_value(&envelope).doing("an envelope")?;
        self.taken.batches.fetch_add(1, Ordering::Relaxed);
        let first = self.taken.statements.fetch_add(batch.statements.len() as u64, Ordering::Relaxed);
        let entries = (first..).zip(&batch.statements).map(|(index, statement)| {
            let leaf = encode(&envelope, statement).doing("an entry")?;
            Ok(ReceiptEntry { index, leaf_hash: leaf_hash(&leaf), received })
        });
        let entries = entries.collect::<Result<Vec<_>>>()?;
        let envelopes = vec![raw; entries.len()];
        let receipt = Receipt { origin: ORIGIN.into(), entries }.sign(&self.key);
        serde_json::to_vec(&Acknowledgement { receipt, envelopes }).doing("an acknowledgement")
    }
}
