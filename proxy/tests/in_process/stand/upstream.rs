//! "BigQuery": TLS, HTTP/1.1 and HTTP/2, and a handler that the test gives. It counts what arrives.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

pub type AnswerBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;
type Answering = Pin<Box<dyn Future<Output = Response<AnswerBody>> + Send>>;
type Handler = Arc<dyn Fn(Request<Incoming>) -> Answering + Send + Sync>;
type Raw = Arc<dyn Fn(TlsStream<TcpStream>) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

pub struct Upstream {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    handler: Mutex<Handler>,
    raw: Mutex<Option<Raw>>,
    arrived: Mutex<Vec<String>>,
    connections: Mutex<usize>,
    /// A new value closes all connections.
    generation: watch::Sender<u64>,
    /// A new value lets all connections end in order.
    retired: watch::Sender<u64>,
}

pub fn full(text: impl Into<Bytes>) -> AnswerBody {
    Full::new(text.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

pub fn empty() -> AnswerBody {
    Empty::new().map_err(|never: Infallible| match never {}).boxed_unsync()
}

impl Upstream {
    pub async fn start(tls: Arc<ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let handler: Handler = Arc::new(|_| Box::pin(async { Response::new(full("{}")) }));
        let shared = Arc::new(Shared {
            handler: Mutex::new(handler),
            raw: Mutex::default(),
            arrived: Mutex::default(),
            connections: Mutex::default(),
            generation: watch::Sender::new(0),
            retired: watch::Sender::new(0),
        });
        tokio::spawn(accept(listener, tls, Arc::clone(&shared)));
        Self { address, shared }
    }

    /// From now on requests are answered so.
    pub fn answer<F>(&self, handler: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Response<AnswerBody>> + Send + 'static,
    {
        *self.shared.handler.lock().unwrap() = Arc::new(move |request| Box::pin(handler(request)));
    }

    /// From now on new connections are this function's, behind their TLS.
    pub fn speak<F>(&self, raw: impl Fn(TlsStream<TcpStream>) -> F + Send + Sync + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        *self.shared.raw.lock().unwrap() = Some(Arc::new(move |stream| Box::pin(raw(stream))));
    }

    /// `VERB path` of all requests so far.
    pub fn arrived(&self) -> Vec<String> {
        self.shared.arrived.lock().unwrap().clone()
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        *self.shared.connections.lock().unwrap()
    }

    /// Breaks all connections.
    pub fn hang_up(&self) {
        self.shared.generation.send_modify(|generation| *generation += 1);
    }

    /// Says GOAWAY on all connections, and ends them when what is open on them has ended.
    pub fn retire(&self) {
        self.shared.retired.send_modify(|retired| *retired += 1);
    }
}

async fn accept(listener: TcpListener, tls: Arc<ServerConfig>, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        // Else an answer to a PING may wait for an acknowledgement of the system's, by a clock that no test puts forward.
        stream.set_nodelay(true).unwrap();
        let (acceptor, shared) = (TlsAcceptor::from(Arc::clone(&tls)), Arc::clone(&shared));
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            *shared.connections.lock().unwrap() += 1;
            let raw = shared.raw.lock().unwrap().clone();
            if let Some(raw) = raw {
                return raw(stream).await;
            }
            let (mut generation, mut retired) = (shared.generation.subscribe(), shared.retired.subscribe());
            let service = service_fn(move |request: Request<Incoming>| {
                let arrival = format!("{} {}", request.method(), request.uri().path());
                shared.arrived.lock().unwrap().push(arrival);
                let handler = Arc::clone(&shared.handler.lock().unwrap());
                async move { Ok::<_, Infallible>(handler(request).await) }
            });
            let mut server = auto::Builder::new(TokioExecutor::new());
            server.http1().preserve_header_case(true).auto_date_header(false);
            server.http2().auto_date_header(false);
            let mut connection = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
            loop {
                tokio::select! {
                    _ended = connection.as_mut() => return,
                    _ = generation.changed() => return,
                    _ = retired.changed() => connection.as_mut().graceful_shutdown(),
                }
            }
        });
    }
}
