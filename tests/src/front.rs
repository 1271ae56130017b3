//! "BigQuery": TLS for Google's names before an emulator, which speaks plain HTTP. It counts what arrives, and it can do
//! what an emulator never does: gzip its answers, be slow, hang up.

mod forward;
mod gzip;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use ledger::digest::Digest;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::ca::TestCa;
use crate::google::{BIGQUERY_SCOPE, Bearer, Refused, Tokens};
use crate::trouble::{Doing as _, Result};

/// What the front has certificates for. The first is BigQuery's own.
pub const NAMES: [&str; 4] =
    ["bigquery.googleapis.com", "bigquerystorage.googleapis.com", "*.googleapis.com", "*.rep.googleapis.com"];

/// The host whose calls are gRPC, and go to the emulator's other port.
pub(crate) const STORAGE_HOST: &str = "bigquerystorage.googleapis.com";

/// A request that arrived, noted when its head was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// `GET`, `POST`, ...
    pub verb: String,
    /// From `:authority` or `Host`.
    pub host: String,
    /// Path and query.
    pub path: String,
    /// SHA-256 of the `Authorization` header's value.
    pub authorization: Option<Digest>,
    /// The `User-Agent` header.
    pub user_agent: Option<String>,
    /// Whose token it carried, when the front asks for one ([`Front::demand`]). A request without was refused.
    pub principal: Option<String>,
}

/// What lies behind the front: an emulator's two ports.
#[derive(Clone, Copy, Debug)]
pub struct Upstream {
    /// HTTP/1.1.
    pub rest: SocketAddr,
    /// HTTP/2 in the clear; the host `bigquerystorage.googleapis.com` goes there.
    pub grpc: SocketAddr,
}

/// A front that serves until it is dropped.
#[derive(Debug)]
pub struct Front {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

/// What all connections of a front share.
#[derive(Debug)]
pub(crate) struct Shared {
    arrivals: Mutex<Vec<Arrival>>,
    clients: forward::Clients,
    gzip: AtomicBool,
    delay_millis: AtomicU64,
    hang_ups: AtomicU32,
    tokens: Mutex<Option<Tokens>>,
}

impl Front {
    /// Listens on a free port of 127.0.0.1, with certificates of `ca` for [`NAMES`].
    ///
    /// # Errors
    /// No port, or no certificate.
    pub async fn start(ca: &TestCa, upstream: Upstream) -> Result<Self> {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), ca, upstream).await
    }

    /// The same at another address.
    ///
    /// # Errors
    /// As [`Front::start`].
    pub async fn start_at(address: SocketAddr, ca: &TestCa, upstream: Upstream) -> Result<Self> {
        let tls = TlsAcceptor::from(Arc::new(ca.server(&NAMES)?));
        let listener = TcpListener::bind(address).await.doing("opening a port for the front")?;
        let address = listener.local_addr().doing("asking for the front's port")?;
        let shared = Arc::new(Shared {
            arrivals: Mutex::default(),
            clients: forward::Clients::new(upstream),
            gzip: AtomicBool::new(false),
            delay_millis: AtomicU64::new(0),
            hang_ups: AtomicU32::new(0),
            tokens: Mutex::default(),
        });
        let serving = tokio::spawn(accept(listener, tls, Arc::clone(&shared)));
        Ok(Self { address, shared, serving })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All requests so far, in the order in which they arrived.
    #[must_use]
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.shared.arrivals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on only requests with one of these tokens, good for BigQuery, get to the emulator; others are answered 401, as
    /// Google answers them.
    pub fn demand(&self, tokens: Tokens) {
        *self.shared.tokens.lock().unwrap_or_else(PoisonError::into_inner) = Some(tokens);
    }

    /// From now on answers are gzipped for those who accept it, as Google does.
    pub fn gzip(&self, on: bool) {
        self.shared.gzip.store(on, Ordering::SeqCst);
    }

    /// From now on each request waits so long before it goes on to the emulator.
    pub fn delay(&self, delay: Duration) {
        let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.shared.delay_millis.store(millis, Ordering::SeqCst);
    }

    /// The next `count` requests are counted, and their connection (their stream, in HTTP/2) is closed without an answer.
    pub fn hang_up(&self, count: u32) {
        self.shared.hang_ups.store(count, Ordering::SeqCst);
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Shared {
    pub(crate) fn note(&self, arrival: Arrival) {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).push(arrival);
    }

    /// Whose token it carries, when one is demanded.
    pub(crate) fn bearer(&self, headers: &http::HeaderMap) -> Option<std::result::Result<Bearer, Refused>> {
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let good = |bearer: Bearer| match bearer.scope == BIGQUERY_SCOPE {
            true => Ok(bearer),
            false => Err(Refused(format!("the token is good for {:?}", bearer.scope))),
        };
        Some(tokens.bearer(headers).and_then(good))
    }

    pub(crate) fn gzips(&self) -> bool {
        self.gzip.load(Ordering::SeqCst)
    }

    pub(crate) fn pause(&self) -> Duration {
        Duration::from_millis(self.delay_millis.load(Ordering::SeqCst))
    }

    /// Is this one of the requests to hang up on?
    pub(crate) fn hangs_up(&self) -> bool {
        let less = |left: u32| left.checked_sub(1);
        self.hang_ups.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok()
    }
}

/// Accepts until the task is aborted, which ends its connections too.
async fn accept(listener: TcpListener, tls: TlsAcceptor, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => connections.spawn(connection(stream, tls.clone(), Arc::clone(&shared))),
            Err(error) => return tracing::error!(%error, "the front can't accept any more"),
        };
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, shared: Arc<Shared>) {
    let stream = match tls.accept(stream).await {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!(%error, "front: TLS handshake failed"),
    };
    let service = service_fn(move |request| forward::forward(Arc::clone(&shared), request));
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().preserve_header_case(true);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(error, "front: connection ended");
    }
}

#[cfg(test)]
mod tests;
