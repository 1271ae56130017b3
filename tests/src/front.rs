//! "BigQuery": TLS for Google's names before an emulator, which speaks plain HTTP. It counts what arrives, and it can do
//! what an emulator never does: gzip its answers, keep jobs running, be slow, break off.
//!
//! All of it is switched by the test while the front serves:
//!
//! | | |
//! |---|---|
//! | [`Front::gzip`] | answers are gzipped for those who accept it, as Google does |
//! | [`Front::delay`], [`Front::drip`] | slow to answer, slow while it answers |
//! | [`Front::hold`] | requests arrive, and are answered when the test says so |
//! | [`Front::keep_running`] | jobs are not done at once |
//! | [`Front::fail`] | answers that never come, or break off: [`Fault`] |
//! | [`Front::close_idle`] | kept-alive connections are closed without a word |

mod arrival;
mod forward;
mod gzip;
mod passage;
mod running;
mod wire;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

pub use self::arrival::Arrival;
pub use self::passage::{Drip, Fault};

use self::running::Running;
use self::wire::Wire;
use crate::ca::TestCa;
use crate::google::{BIGQUERY_SCOPE, Bearer, Refused, Tokens};
use crate::trouble::{Doing as _, Result};

/// What the front has certificates for. The first is BigQuery's own.
pub const NAMES: [&str; 4] =
    ["bigquery.googleapis.com", "bigquerystorage.googleapis.com", "*.googleapis.com", "*.rep.googleapis.com"];

/// The host whose calls are gRPC, and go to the emulator's other port.
pub(crate) const STORAGE_HOST: &str = "bigquerystorage.googleapis.com";

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
    drip: Mutex<Option<Drip>>,
    faults: Mutex<(u32, Fault)>,
    running: Mutex<Running>,
    held: watch::Sender<bool>,
    /// Counts up with each [`Front::close_idle`].
    closings: watch::Sender<u64>,
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
            drip: Mutex::default(),
            faults: Mutex::new((0, Fault::HangUp)),
            running: Mutex::default(),
            held: watch::Sender::new(false),
            closings: watch::Sender::new(0),
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
        lock(&self.shared.arrivals).clone()
    }

    /// How many requests arrived so far, by method.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for arrival in lock(&self.shared.arrivals).iter() {
            *counts.entry(arrival.method()).or_default() += 1;
        }
        counts
    }

    /// From now on only requests with one of these tokens, good for BigQuery, get to the emulator; others are answered 401, as
    /// Google answers them.
    pub fn demand(&self, tokens: Tokens) {
        *lock(&self.shared.tokens) = Some(tokens);
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

    /// From now on answers come in small pieces, with a pause after each.
    pub fn drip(&self, drip: Option<Drip>) {
        *lock(&self.shared.drip) = drip;
    }

    /// While `on`, requests arrive and go no further.
    pub fn hold(&self, on: bool) {
        self.shared.held.send_replace(on);
    }

    /// Each job that begins from now on is still running in the answer that begins it, and in as many more answers about
    /// it.
    pub fn keep_running(&self, answers: u32) {
        lock(&self.shared.running).keep(answers);
    }

    /// The next `count` requests are counted, and meet this fault.
    pub fn fail(&self, count: u32, fault: Fault) {
        *lock(&self.shared.faults) = (count, fault);
    }

    /// Closes connections that wait for a request, and those that don't once they have answered.
    pub fn close_idle(&self) {
        self.shared.closings.send_modify(|count| *count += 1);
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Shared {
    pub(crate) fn note(&self, arrival: Arrival) {
        lock(&self.arrivals).push(arrival);
    }

    /// Whose token it carries, when one is demanded.
    pub(crate) fn bearer(&self, headers: &http::HeaderMap) -> Option<std::result::Result<Bearer, Refused>> {
        let tokens = lock(&self.tokens).clone()?;
        let good = |bearer: Bearer| match bearer.scope == BIGQUERY_SCOPE {
            true => Ok(bearer),
            false => Err(Refused(format!("the token is good for {:?}", bearer.scope))),
        };
        Some(tokens.bearer(headers).and_then(good))
    }

    pub(crate) fn gzips(&self) -> bool {
        self.gzip.load(Ordering::SeqCst)
    }

    /// Waits as long as the test wants requests to wait.
    pub(crate) async fn pause(&self) {
        // The front holds the sender, so that this never fails.
        let _let_go = self.held.subscribe().wait_for(|held| !held).await.is_ok();
        tokio::time::sleep(Duration::from_millis(self.delay_millis.load(Ordering::SeqCst))).await;
    }

    /// What this request meets.
    pub(crate) fn next_fault(&self) -> Option<Fault> {
        let mut faults = lock(&self.faults);
        faults.0 = faults.0.checked_sub(1)?;
        Some(faults.1)
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
    let mut closings = shared.closings.subscribe();
    let wire = Wire::new(stream);
    let switch = wire.switch();
    let stream = match tls.accept(wire).await {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!(%error, "front: TLS handshake failed"),
    };
    let service =
        service_fn(move |request| forward::forward(Arc::clone(&shared), Arc::clone(&switch), request));
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().preserve_header_case(true);
    let serving = server.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let served = tokio::select! {
        served = &mut serving => served,
        Ok(()) = closings.changed() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(error, "front: connection ended");
    }
}

#[cfg(test)]
mod tests;
