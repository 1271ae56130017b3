//! The HTTPS client with which the sidecar and the command line talk to the recorder.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use tower_service::Service;

/// A client with a pool of connections; clones share it. It sends a request once and never again by itself.
#[derive(Clone, Debug)]
pub struct HttpsClient {
    client: Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>,
    timeout: Duration,
    max_answer: usize,
}

/// No answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody there, no TLS, or the connection broke.
    #[error("{0}")]
    Unreachable(String),
    /// Nothing within the time limit.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The answer broke off or is larger than the caller takes.
    #[error("the answer can't be read: {0}")]
    Answer(String),
}

impl HttpsClient {
    /// A client that trusts what `tls` trusts, waits `timeout` for a whole answer, and takes at most `max_answer` bytes.
    /// `https` only. The ALPN protocols of `tls` must be empty: they are set here.
    #[must_use]
    pub fn new(tls: ClientConfig, timeout: Duration, max_answer: usize) -> Self {
        Self::with_schemes(tls, timeout, max_answer, None, false)
    }

    /// The same, which finds addresses by `lookup` where there is one.
    #[must_use]
    pub fn looking_up(
        tls: ClientConfig,
        timeout: Duration,
        max_answer: usize,
        lookup: Option<Lookup>,
    ) -> Self {
        Self::with_schemes(tls, timeout, max_answer, lookup, false)
    }

    /// The same, which also talks plain `http`: for what is public and signed on both ways, and for nothing else.
    #[must_use]
    pub fn for_signed_notes(tls: ClientConfig, timeout: Duration, max_answer: usize) -> Self {
        Self::with_schemes(tls, timeout, max_answer, None, true)
    }

    fn with_schemes(
        tls: ClientConfig,
        timeout: Duration,
        max_answer: usize,
        lookup: Option<Lookup>,
        plain: bool,
    ) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(Resolver { lookup, system: GaiResolver::new() });
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(timeout));
        let builder = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls);
        let builder = if plain { builder.https_or_http() } else { builder.https_only() };
        let connector = builder.enable_all_versions().wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .retry_canceled_requests(false)
            .build(connector);
        Self { client, timeout, max_answer }
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// [`ClientError`]. After an error the request may or may not have arrived.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, ClientError> {
        tokio::time::timeout(self.timeout, self.exchange(request))
            .await
            .unwrap_or(Err(ClientError::Timeout(self.timeout)))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, ClientError> {
        let answer =
            self.client.request(request).await.map_err(|error| ClientError::Unreachable(chain(&error)))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, self.max_answer).collect().await;
        let body = body.map_err(|error| ClientError::Answer(chain(error.as_ref())))?;
        Ok(Response::from_parts(head, body.to_bytes()))
    }
}

/// Finds the addresses of a name, with any port, where the system's own way is not wanted.
pub type Lookup = Arc<dyn Fn(String) -> Found + Send + Sync>;

/// What a [`Lookup`] is waited for.
pub type Found = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

#[derive(Clone)]
struct Resolver {
    lookup: Option<Lookup>,
    system: GaiResolver,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("own", &self.lookup.is_some()).finish()
    }
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.system.poll_ready(cx)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        match &self.lookup {
            Some(lookup) => {
                let found = lookup(name.as_str().to_owned());
                Box::pin(async move { Ok(found.await?.into_iter()) })
            }
            None => {
                let found = self.system.call(name);
                Box::pin(async move { Ok(found.await?.collect::<Vec<_>>().into_iter()) })
            }
        }
    }
}

/// An error with its causes, which hyper keeps apart: "client error (Connect): ... : connection refused".
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
