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
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

pub type AnswerBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;
type Answering = Pin<Box<dyn Future<Output = Response<AnswerBody>> + Send>>;
type Handler = Arc<dyn Fn(Request<Incoming>) -> Answering + Send + Sync>;

pub struct Upstream {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    handler: Mutex<Handler>,
    arrived: Mutex<Vec<String>>,
    connections: Mutex<usize>,
    /// A new value closes all connections.
    generation: watch::Sender<u64>,
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
            arrived: Mutex::default(),
            connections: Mutex::default(),
            generation: watch::Sender::new(0),
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
}

async fn accept(listener: TcpListener, tls: Arc<ServerConfig>, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, shared) = (TlsAcceptor::from(Arc::clone(&tls)), Arc::clone(&shared));
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            *shared.connections.lock().unwrap() += 1;
            let mut generation = shared.generation.subscribe();
            let service = service_fn(move |request: Request<Incoming>| {
                let arrival = format!("{} {}", request.method(), request.uri().path());
                shared.arrived.lock().unwrap().push(arrival);
                let handler = Arc::clone(&shared.handler.lock().unwrap());
                async move { Ok::<_, Infallible>(handler(request).await) }
            });
            let mut server = auto::Builder::new(TokioExecutor::new());
            server.http1().preserve_header_case(true).auto_date_header(false);
            server.http2().auto_date_header(false);
            let connection = server.serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                ended = connection => { let _fine = ended.is_ok(); }
                _ = generation.changed() => {}
            }
        });
    }
}
