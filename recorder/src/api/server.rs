//! Connections: TLS, then HTTP/2 or HTTP/1.1, each within its limits, until the drain.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use http_body_util::BodyExt as _;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use runtime::drain::Watch;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::certificate::Certificate;
use super::heads;
use super::stall::{Patience, Unstalled};
use crate::metrics::Metrics;

/// Most connections at one time; the next ones wait in the system's queue.
pub const MAX_CONNECTIONS: usize = 16_384;

/// TLS must be agreed upon within this time.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A request's head must be there within this time; an idle HTTP/1.1 connection lives as long between two requests.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Greatest size of a request's head, in bytes; above it the answer is 431 `head_too_large` ([`heads`]).
pub const MAX_HEAD: usize = 64 * 1024;

/// What h2 itself takes of a head, decoded, in bytes, so that the answer above says why. From here on a stream is reset after a
/// 431 without a body, and from four times as much on the connection ends; both are counted.
const HTTP2_HEAD_READ: u32 = 4 * 64 * 1024;

/// Requests at one time on an HTTP/2 connection.
pub const MAX_STREAMS: u32 = 64;

/// An HTTP/2 peer is asked for a sign of life this often, and has as long to give one.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// A peer has this long to answer the goodbye of a drain; one whose machine is gone never does. Then its connection ends, once no
/// request of it is under way.
const GOODBYE: Duration = Duration::from_secs(1);

/// Takes connections until the drain, then lets those that are there finish their requests.
pub async fn serve(
    listener: TcpListener,
    certificate: Arc<Certificate>,
    router: Router,
    mut drain: Watch,
    metrics: Arc<Metrics>,
    patience: Patience,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let router = heads::bounded(router, metrics.clone());
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = tokio::select! {
            () = drain.draining() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely: nothing else to do than to wait for one.
                    tracing::warn!(%error, "can't accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let tls = certificate.acceptor();
        let (router, drain, metrics) = (router.clone(), drain.clone(), metrics.clone());
        tokio::spawn(async move {
            metrics.connections.inc();
            connection(stream, tls, router, drain, &metrics, patience).await;
            metrics.connections.dec();
            drop(place);
        });
    }
}

async fn connection(
    stream: TcpStream,
    tls: TlsAcceptor,
    router: Router,
    mut drain: Watch,
    metrics: &Arc<Metrics>,
    patience: Patience,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection is gone");
        return;
    }
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => heads::watch(Unstalled::new(stream, patience), Arc::clone(metrics)),
        Ok(Err(error)) => return tracing::debug!(%error, "no TLS"),
        Err(_) => return tracing::debug!("no TLS in time"),
    };
    let (builder, requests) = (builder(), Requests::default());
    let answers = TowerToHyperService::new(router);
    let service = service_fn(|request| {
        let (one, answer) = (requests.one(), answers.call(request));
        async move {
            answer.await.map(|answer| answer.map(|body| body.map_frame(move |frame| one.goes_on(frame))))
        }
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = drain.draining() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                () = requests.none_left() => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

/// How many requests of a connection are not answered to their end.
#[derive(Clone, Debug, Default)]
struct Requests(Arc<AtomicUsize>);

impl Requests {
    fn one(&self) -> OneRequest {
        self.0.fetch_add(1, Ordering::SeqCst);
        OneRequest(self.clone())
    }

    /// Waits until there are none at two looks that are [`GOODBYE`] apart: the end of the last answer may still be on its way out.
    async fn none_left(&self) {
        let mut none = false;
        loop {
            tokio::time::sleep(GOODBYE).await;
            let before = std::mem::replace(&mut none, self.0.load(Ordering::SeqCst) == 0);
            if before && none {
                return;
            }
        }
    }
}

/// Held until the last of its answer.
#[derive(Debug)]
struct OneRequest(Requests);

impl OneRequest {
    fn goes_on<T>(&self, frame: T) -> T {
        frame
    }
}

impl Drop for OneRequest {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(HTTP2_HEAD_READ)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL);
    builder
}
