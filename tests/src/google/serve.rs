//! A small server, with TLS or without, that answers whole requests.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::HeaderValue;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use jiff::{SignedDuration, Timestamp};
use rustls::ServerConfig;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::trouble::{Doing as _, Result};

/// Greatest request that is read, in bytes.
const MAX_REQUEST: usize = 1 << 20;

/// Serves until it is dropped.
#[derive(Debug)]
pub(super) struct Server {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn json(status: StatusCode, body: &Value) -> Self {
        let headers = vec![("content-type", "application/json".to_owned())];
        Self { status, headers, body: body.to_string() }
    }

    /// As of a server whose clock is so many seconds ahead.
    pub(super) fn dated(mut self, ahead: i64) -> Self {
        let now = Timestamp::now() + SignedDuration::from_secs(ahead);
        let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&now);
        self.headers.extend(date.ok().map(|date| ("date", date)));
        self
    }
}

impl Server {
    pub(super) async fn start<F>(
        address: SocketAddr,
        tls: Option<ServerConfig>,
        answer: impl Fn(Parts, Bytes) -> F + Clone + Send + Sync + 'static,
    ) -> Result<Self>
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.doing(format!("listening on {address}"))?;
        let address = listener.local_addr().doing("asking for a port")?;
        let tls = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, answer) = (tls.clone(), answer.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request| respond(request, answer.clone()));
                    let server = auto::Builder::new(TokioExecutor::new());
                    // A client that goes away ends its connection.
                    let _ended = match tls {
                        None => server.serve_connection(TokioIo::new(stream), service).await.is_ok(),
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => {
                                server.serve_connection(TokioIo::new(stream), service).await.is_ok()
                            }
                            Err(_) => false,
                        },
                    };
                });
            }
        });
        Ok(Self { address, serving })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn respond<F: Future<Output = Answer>>(
    request: Request<Incoming>,
    answer: impl Fn(Parts, Bytes) -> F,
) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, MAX_REQUEST).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => Bytes::new(), // broken off: whoever reads it finds nothing
    };
    let Answer { status, headers, body } = answer(head, body).await;
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    for (name, value) in headers {
        response
            .headers_mut()
            .insert(name, HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static("")));
    }
    Ok(response)
}
