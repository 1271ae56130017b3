//! A gate before the recorder: it notes every receipt that the recorder signed, and it can be slow, refuse, lose answers, or
//! lead nowhere.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use ledger::note::VerifierKey;
use ledger::receipt::{Acknowledgement, Receipt, ReceiptEntry};
use runtime::client::HttpsClient;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::ca::TestCa;
use crate::front::lock;
use crate::programs::RecorderAt;
use crate::trouble::{Doing as _, Result, Trouble};

/// How long the recorder may take for an answer.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Greatest answer of the recorder's, in bytes.
const MAX_ANSWER: usize = 8 << 20;

/// What becomes of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Passing {
    /// They go on to the recorder, and its answers come back.
    #[default]
    Open,
    /// The same, after so long.
    Slow(Duration),
    /// Connections are closed at once, as by a machine whose recorder is down.
    Down,
    /// They are answered with this status, in the recorder's form, and go no further.
    Refuse(StatusCode, &'static str),
    /// So many batches go on to the recorder, and its answers are lost.
    LoseAnswers(u32),
}

/// A gate that serves until it is dropped.
#[derive(Debug)]
pub struct Gate {
    place: RecorderAt,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    client: HttpsClient,
    recorder: Authority,
    key: VerifierKey,
    passing: Mutex<Passing>,
    receipts: Mutex<Vec<ReceiptEntry>>,
}

impl Gate {
    /// Listens on a free port of `address`, with a certificate of the recorder's own authority.
    ///
    /// # Errors
    /// No port, no certificate, or files of the recorder's that can't be read.
    pub async fn start(address: IpAddr, ca: &TestCa, recorder: &RecorderAt) -> Result<Self> {
        let tls = ca.server(&["gate", &address.to_string()])?;
        let listener = TcpListener::bind((address, 0)).await.doing("opening a port for the gate")?;
        let address = listener.local_addr().doing("asking for the gate's port")?;
        let key = std::fs::read_to_string(&recorder.key).doing("reading the log's key")?;
        let roots = runtime::tls::pinned_roots(&recorder.ca).doing("reading the recorder's CA")?;
        let client = runtime::tls::client_config(roots, &[]).doing("setting up TLS to the recorder")?;
        let url: Uri = recorder.url.parse().doing("the recorder's URL")?;
        let shared = Arc::new(Shared {
            client: HttpsClient::new(client, TIMEOUT, MAX_ANSWER),
            recorder: url
                .into_parts()
                .authority
                .ok_or_else(|| Trouble::new("a recorder without an address"))?,
            key: key.trim().parse().doing("the log's key")?,
            passing: Mutex::default(),
            receipts: Mutex::default(),
        });
        let place = RecorderAt { url: format!("https://{address}"), ..recorder.clone() };
        let serving = tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(tls)), Arc::clone(&shared)));
        Ok(Self { place, shared, serving })
    }

    /// What a sidecar must know to go through it.
    #[must_use]
    pub fn place(&self) -> &RecorderAt {
        &self.place
    }

    /// What becomes of requests from now on.
    pub fn set(&self, passing: Passing) {
        *lock(&self.shared.passing) = passing;
    }

    /// Every place in the log that the recorder's receipts promised so far.
    #[must_use]
    pub fn receipts(&self) -> Vec<ReceiptEntry> {
        lock(&self.shared.receipts).clone()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, shared: Arc<Shared>) {
    let mut connections = JoinSet::new(); // ends with this task
    while let Ok((stream, address)) = listener.accept().await {
        connections.spawn(connection(stream, address, tls.clone(), Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, address: SocketAddr, tls: TlsAcceptor, shared: Arc<Shared>) {
    if *lock(&shared.passing) == Passing::Down {
        return tracing::debug!(%address, "gate: closed, as asked");
    }
    let stream = match tls.accept(stream).await {
        Ok(stream) => stream,
        Err(error) => return tracing::debug!(%address, %error, "gate: TLS handshake failed"),
    };
    let service = service_fn(move |request| pass(Arc::clone(&shared), request));
    let server = auto::Builder::new(TokioExecutor::new());
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%address, error, "gate: connection ended");
    }
}

/// One request. An error closes its connection without an answer.
async fn pass(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
    let passing = *lock(&shared.passing);
    match passing {
        Passing::Open | Passing::LoseAnswers(_) => {}
        Passing::Slow(delay) => tokio::time::sleep(delay).await,
        Passing::Down => return Err(Trouble::new("closed, as asked")),
        Passing::Refuse(status, reason) => return Ok(refusal(status, reason)),
    }
    let is_batch = request.uri().path() == "/v1/batches";
    let answer = ask(&shared, request).await?;
    if is_batch {
        shared.note(&answer)?;
        let mut passing = lock(&shared.passing);
        if let Passing::LoseAnswers(left) = *passing {
            *passing = left.checked_sub(1).map_or(Passing::Open, Passing::LoseAnswers);
            if left > 0 {
                return Err(Trouble::new("the answer is lost, as asked"));
            }
        }
    }
    Ok(answer.map(Full::new))
}

async fn ask(shared: &Shared, request: Request<Incoming>) -> Result<Response<Bytes>> {
    let (mut head, body) = request.into_parts();
    let mut uri = head.uri.into_parts();
    (uri.scheme, uri.authority) = (Some(Scheme::HTTPS), Some(shared.recorder.clone()));
    head.uri = Uri::from_parts(uri).doing("a request's path")?;
    head.version = http::Version::HTTP_11;
    head.headers.remove(http::header::HOST);
    let body = body.collect().await.doing("reading a request for the recorder")?.to_bytes();
    let mut answer =
        shared.client.send(Request::from_parts(head, Full::new(body))).await.doing("asking the recorder")?;
    answer.headers_mut().remove(http::header::TRANSFER_ENCODING);
    Ok(answer)
}

impl Shared {
    fn note(&self, answer: &Response<Bytes>) -> Result<()> {
        if answer.status() != StatusCode::OK {
            return Ok(());
        }
        let acknowledgement: Acknowledgement =
            serde_json::from_slice(answer.body()).doing("an acknowledgement")?;
        let receipt = Receipt::verify(acknowledgement.receipt.as_bytes(), &self.key).doing("a receipt")?;
        lock(&self.receipts).extend(receipt.entries);
        Ok(())
    }
}

fn refusal(status: StatusCode, reason: &str) -> Response<Full<Bytes>> {
    let body = serde_json::json!({ "error": { "reason": reason, "message": "refused, as the test asked" } });
    let mut answer = Response::new(Full::from(body.to_string()));
    *answer.status_mut() = status;
    answer
}
