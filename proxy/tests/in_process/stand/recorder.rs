//! A recorder without a disk: it checks the chain, answers with real receipts, and can be away.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use jiff::Timestamp;
use ledger::batch::Batch;
use ledger::digest::Digest;
use ledger::entry::{self, Envelope, Role, Subject};
use ledger::note::SigningNoteKey;
use ledger::receipt::{Acknowledgement, Receipt, ReceiptEntry};
use ledger::statement::Statement;
use ledger::tree::leaf_hash;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use uuid::Uuid;

const ORIGIN: &str = "recorder.test/log";

pub struct Recorder {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    key: SigningNoteKey,
    away: AtomicBool,
    looks: AtomicUsize,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    statements: Vec<Vec<u8>>,
    /// Where the statements of the last session begin, and the sessions that are closed.
    begins: usize,
    closed: Vec<Uuid>,
    blobs: HashMap<Digest, Vec<u8>>,
}

impl Recorder {
    pub async fn start(tls: Arc<ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let key = SigningNoteKey::from_seed(ORIGIN, &[7; 32]).unwrap();
        let shared = Arc::new(Shared {
            key,
            away: AtomicBool::new(false),
            looks: AtomicUsize::new(0),
            log: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let (acceptor, shared) = (TlsAcceptor::from(Arc::clone(&tls)), Arc::clone(&serving));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request| answer(Arc::clone(&shared), request));
                    let _ended = auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await
                        .is_ok();
                });
            }
        });
        Self { address, shared }
    }

    pub fn verifier(&self) -> String {
        self.shared.key.verifier().to_string()
    }

    /// From now on (or no more) it answers that it can't take entries.
    pub fn away(&self, away: bool) {
        self.shared.away.store(away, Ordering::SeqCst);
    }

    /// How often it was asked for something else than to take entries: it has no log that could be looked at.
    #[allow(dead_code, reason = "`tests/bounded` alone asks")]
    pub fn looks(&self) -> usize {
        self.shared.looks.load(Ordering::SeqCst)
    }

    /// How many bytes it keeps.
    #[allow(dead_code, reason = "`tests/bounded` alone asks")]
    pub fn kept(&self) -> usize {
        self.shared.log.lock().unwrap().statements.iter().map(Vec::len).sum()
    }

    /// Closes the session that goes on, as a recorder does that heard nothing for too long.
    pub fn close_session(&self) {
        let last = self.statements().pop().unwrap().session;
        self.shared.log.lock().unwrap().closed.push(last);
    }

    pub fn statements(&self) -> Vec<Statement> {
        let log = self.shared.log.lock().unwrap();
        log.statements.iter().map(|bytes| Statement::parse(bytes).unwrap()).collect()
    }

    pub fn blob(&self, digest: Digest) -> Vec<u8> {
        self.shared.log.lock().unwrap().blobs[&digest].clone()
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> hyper::Result<Response<Full<Bytes>>> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    shared.looks.fetch_add(usize::from(path != "/v1/batches"), Ordering::SeqCst);
    let (status, text) = if shared.away.load(Ordering::SeqCst) || path != "/v1/batches" {
        (StatusCode::SERVICE_UNAVAILABLE, r#"{"error":{"reason":"busy","message":"away"}}"#.to_owned())
    } else {
        shared.take(&body)
    };
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = status;
    Ok(answer)
}

impl Shared {
    fn take(&self, body: &[u8]) -> (StatusCode, String) {
        let batch = Batch::decode(body).unwrap();
        let mut log = self.log.lock().unwrap();
        let first = Statement::parse(&batch.statements[0]).unwrap();
        if log.closed.contains(&first.session) {
            let closed = r#"{"error":{"reason":"session_closed","message":"silent for too long"}}"#;
            return (StatusCode::CONFLICT, closed.to_owned());
        }
        if first.seq == 0 {
            log.begins = log.statements.len();
        }
        for blob in &batch.blobs {
            log.blobs.insert(blob.digest(), blob.content().to_vec());
        }
        let (mut entries, mut envelopes) = (Vec::new(), Vec::new());
        for statement in &batch.statements {
            let read = Statement::parse(statement).unwrap();
            let own = &log.statements[log.begins..];
            let place = usize::try_from(read.seq).unwrap();
            // What was sent again, because the answer did not come in time, is where it was.
            let index = (log.begins + place) as u64;
            let is_new = match own.get(place) {
                Some(known) => {
                    assert!(known == statement, "the same seq with other bytes");
                    false
                }
                None => {
                    assert_eq!(place, own.len(), "the chain has no holes");
                    assert_eq!(read.prev, own.last().map(|bytes| Digest::of(bytes)), "the chain holds");
                    true
                }
            };
            assert!(read.blobs.values().all(|blob| log.blobs.contains_key(&blob.digest)), "blobs come along");
            let envelope = Envelope {
                received: Timestamp::from_second(1_800_000_000).unwrap(),
                subject: Subject::Log { log: "test".into() },
                role: Role::Sidecar,
            };
            let leaf = entry::encode(&envelope, statement).unwrap();
            entries.push(ReceiptEntry { index, leaf_hash: leaf_hash(&leaf), received: envelope.received });
            envelopes.push(serde_json::value::to_raw_value(&envelope).unwrap());
            if is_new {
                log.statements.push(statement.clone());
            }
        }
        let receipt = Receipt { origin: ORIGIN.into(), entries }.sign(&self.key);
        (StatusCode::OK, serde_json::to_string(&Acknowledgement { receipt, envelopes }).unwrap())
    }
}
