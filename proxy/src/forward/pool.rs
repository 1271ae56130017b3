//! Connections to BigQuery that are kept and shared by all of the pod's connections.
//!
//! This is not a general client's pool, for two reasons. A request that was never put on a closed connection comes back
//! whole, so that it can go on another without being a retry, and "did a byte leave?" has an exact answer. And HTTP/2 opens
//! another connection when one has as many streams as it takes, so that long reads never hold up short calls.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use super::dial::{DialError, Dialer};
use super::{ForwardError, Target};
use crate::body::OutBody;
use crate::limits;

/// Idle HTTP/1.1 connections that are kept for one host; more are closed when they fall idle.
const MAX_IDLE: usize = 64;

/// An idle HTTP/1.1 connection is not used again after this time; BigQuery's front ends keep theirs for four minutes.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// Who waits this long for another's attempt to connect gives up (`connect_timeout`).
const TURN_TIMEOUT: Duration = Duration::from_secs(20);

/// Hosts that are remembered; above it those without a connection are forgotten. Names are the agent's to choose.
const MAX_HOSTS: usize = 64;

type Key = (String, u16);

/// The pool; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dialer: Dialer,
    idle: Mutex<HashMap<Key, Vec<Idle>>>,
    /// One lock for each host: who finds no room dials, and the others wait for that connection.
    multiplexed: Mutex<HashMap<Key, Arc<tokio::sync::Mutex<Vec<Multiplexed>>>>>,
}

#[derive(Debug)]
struct Idle {
    sender: http1::SendRequest<OutBody>,
    since: Instant,
}

impl Idle {
    fn is_usable(&self) -> bool {
        self.sender.is_ready() && self.since.elapsed() <= IDLE_TIMEOUT
    }
}

#[derive(Clone, Debug)]
struct Multiplexed {
    sender: http2::SendRequest<OutBody>,
    streams: Arc<AtomicUsize>,
}

/// A connection for one request.
#[derive(Debug)]
pub(super) struct Checkout {
    sender: Sender,
    pooled: bool,
}

#[derive(Debug)]
enum Sender {
    /// Goes back to the pool, under this key, when the answer has been read.
    Http1(Option<http1::SendRequest<OutBody>>, Pool, Key),
    Http2(http2::SendRequest<OutBody>, Option<Stream>),
}

/// A stream of an HTTP/2 connection; dropping it makes room for another.
#[derive(Debug)]
struct Stream(Arc<AtomicUsize>);

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pool {
    pub(super) fn new(dialer: Dialer) -> Self {
        let (idle, multiplexed) = (Mutex::default(), Mutex::default());
        Self { shared: Arc::new(Shared { dialer, idle, multiplexed }) }
    }

    /// An HTTP/1.1 connection: the one that fell idle last, or a new one.
    pub(super) async fn http1(&self, target: &Target) -> Result<Checkout, ForwardError> {
        let key = (target.name.clone(), target.port);
        if let Some(sender) = self.take_idle(&key) {
            return Ok(Checkout { sender: Sender::Http1(Some(sender), self.clone(), key), pooled: true });
        }
        let stream = self.shared.dialer.dial(target, false).await?;
        self.new_http1(TokioIo::new(stream), key).await
    }

    async fn new_http1<I>(&self, io: I, key: Key) -> Result<Checkout, ForwardError>
    where
        I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let handshake =
            http1::Builder::new().preserve_header_case(true).max_buf_size(limits::HTTP1_BUFFER).handshake(io);
        let (sender, connection) = handshake.await.map_err(|error| DialError::Http(key.0.clone(), error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an upstream connection ended");
            }
        });
        Ok(Checkout { sender: Sender::Http1(Some(sender), self.clone(), key), pooled: false })
    }

    fn take_idle(&self, key: &Key) -> Option<http1::SendRequest<OutBody>> {
        let mut idle = lock(&self.shared.idle);
        let kept = idle.get_mut(key)?;
        while let Some(candidate) = kept.pop() {
            if candidate.is_usable() {
                return Some(candidate.sender);
            }
        }
        None
    }

    fn put_idle(&self, key: Key, sender: http1::SendRequest<OutBody>) {
        let mut idle = lock(&self.shared.idle);
        if idle.len() >= MAX_HOSTS {
            idle.retain(|_, kept| {
                kept.retain(Idle::is_usable);
                !kept.is_empty()
            });
        }
        let kept = idle.entry(key).or_default();
        if kept.len() >= MAX_IDLE {
            kept.retain(Idle::is_usable);
        }
        if kept.len() < MAX_IDLE {
            kept.push(Idle { sender, since: Instant::now() });
        }
    }

    /// A stream of an HTTP/2 connection with room, or an HTTP/1.1 connection where the host speaks nothing newer.
    pub(super) async fn http2(&self, target: &Target) -> Result<Checkout, ForwardError> {
        let key = (target.name.clone(), target.port);
        let slot = self.slot(&key);
        let mut connections = tokio::time::timeout(TURN_TIMEOUT, slot.lock())
            .await
            .map_err(|_| DialError::Timeout(format!("{}:{}", key.0, key.1)))?;
        connections.retain(Multiplexed::is_open);
        if let Some(found) = connections.iter().find(|connection| connection.has_room()) {
            return Ok(found.checkout(true));
        }
        if let Some(sender) = self.take_idle(&key) {
            return Ok(Checkout { sender: Sender::Http1(Some(sender), self.clone(), key), pooled: true });
        }
        let stream = self.shared.dialer.dial(target, true).await?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return self.new_http1(TokioIo::new(stream), key).await;
        }
        let made = Multiplexed::handshake(TokioIo::new(stream), &key).await?;
        let checkout = made.checkout(false);
        connections.push(made);
        Ok(checkout)
    }
}

impl Pool {
    /// The HTTP/2 connections to one host.
    fn slot(&self, key: &Key) -> Arc<tokio::sync::Mutex<Vec<Multiplexed>>> {
        let mut hosts = lock(&self.shared.multiplexed);
        if hosts.len() >= MAX_HOSTS {
            // A slot that is locked is in use, and so is one that someone else holds.
            hosts.retain(|_, slot| {
                Arc::strong_count(slot) > 1
                    || slot.try_lock().is_ok_and(|open| open.iter().any(Multiplexed::is_open))
            });
        }
        Arc::clone(hosts.entry(key.clone()).or_default())
    }
}

impl Multiplexed {
    fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    async fn handshake<I>(io: I, key: &Key) -> Result<Self, ForwardError>
    where
        I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let handshake = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(limits::HTTP2_STREAM_WINDOW)
            .initial_connection_window_size(limits::UPSTREAM_CONNECTION_WINDOW)
            .max_frame_size(limits::HTTP2_FRAME)
            .max_header_list_size(limits::HTTP2_HEAD)
            .keep_alive_interval(limits::UPSTREAM_PING_INTERVAL)
            .keep_alive_timeout(limits::UPSTREAM_PING_TIMEOUT)
            .handshake(io);
        let (sender, connection) = handshake.await.map_err(|error| DialError::Http(key.0.clone(), error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an upstream connection ended");
            }
        });
        Ok(Self { sender, streams: Arc::default() })
    }

    fn has_room(&self) -> bool {
        self.streams.load(Ordering::Relaxed) < limits::UPSTREAM_STREAMS
    }

    fn checkout(&self, pooled: bool) -> Checkout {
        self.streams.fetch_add(1, Ordering::Relaxed);
        let stream = Stream(Arc::clone(&self.streams));
        Checkout { sender: Sender::Http2(self.sender.clone(), Some(stream)), pooled }
    }
}

impl Checkout {
    pub(super) fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(..))
    }

    /// Was this connection open before this request?
    pub(super) fn was_pooled(&self) -> bool {
        self.pooled
    }

    /// Sends one request. An error that has the request was found before a byte of it left.
    pub(super) async fn send(
        &mut self,
        request: Request<OutBody>,
    ) -> Result<Response<UpstreamBody>, TrySendError<Request<OutBody>>> {
        match &mut self.sender {
            Sender::Http1(sender, pool, key) => {
                let mut sender = sender.take().expect("a checkout sends one request");
                let answer = sender.try_send_request(request).await?;
                let (pool, key) = (pool.clone(), key.clone());
                tokio::spawn(async move {
                    // Ready again when request and answer have passed; an error when it was closed instead.
                    if sender.ready().await.is_ok() {
                        pool.put_idle(key, sender);
                    }
                });
                Ok(answer.map(|body| UpstreamBody { body, _stream: None }))
            }
            Sender::Http2(sender, stream) => {
                let answer = sender.try_send_request(request).await?;
                let stream = stream.take();
                Ok(answer.map(|body| UpstreamBody { body, _stream: stream }))
            }
        }
    }
}

/// An answer's body as it comes.
#[derive(Debug)]
pub struct UpstreamBody {
    body: Incoming,
    _stream: Option<Stream>,
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner) // every change is one call on the map
}
