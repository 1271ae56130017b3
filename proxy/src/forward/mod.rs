//! The way to BigQuery: one request out, one answer back, nothing retried, nothing added.

mod dial;
mod headers;
mod pool;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri, Version};
use rustls::RootCertStore;

pub use self::dial::{DialError, connect, connect_to_metadata};
pub use self::headers::strip_hop_by_hop;
pub use self::pool::UpstreamBody;

use self::dial::Dialer;
use self::pool::{Checkout, Pool};
use crate::body::OutBody;
use crate::names::Names;

/// Forwards requests over pooled connections. Clones share the pool.
#[derive(Clone, Debug)]
pub struct Forwarder {
    pool: Pool,
}

/// BigQuery gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// No connection to it.
    #[error("BigQuery could not be reached: {0}. Nothing was sent to it.")]
    Dial(#[from] DialError),
    /// The connection ended before the request was on it.
    #[error("the connection to BigQuery ended before the request was sent: {0}. Nothing was executed.")]
    NotSent(hyper::Error),
    /// The connection ended after the request, or a part of it, had left.
    #[error(
        "the connection to BigQuery ended before there was an answer: {0}. The call may have been executed."
    )]
    Broken(hyper::Error),
}

impl ForwardError {
    /// The fixed name of this error.
    #[must_use]
    pub fn category(&self) -> &'static str {
        match self {
            Self::Dial(error) => error.category(),
            Self::NotSent(_) => "upstream_closed",
            Self::Broken(_) => "upstream_broken",
        }
    }

    /// Did a byte of the request leave?
    #[must_use]
    pub fn sent(&self) -> bool {
        matches!(self, Self::Broken(_))
    }
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub struct Target {
    /// The name that the certificate must be for.
    pub name: String,
    /// The port.
    pub port: u16,
}

impl Forwarder {
    /// A forwarder that trusts `roots` and nothing else.
    ///
    /// # Errors
    /// Never with our provider, whose protocol versions are rustls's defaults.
    pub fn new(roots: RootCertStore, names: Names) -> Result<Self, runtime::tls::TlsError> {
        Ok(Self { pool: Pool::new(Dialer::new(roots, names)?) })
    }

    /// Sends a request, in the HTTP version in which it came, and returns the answer's head with its streaming body. `leaving`
    /// is called just before the first byte goes.
    ///
    /// # Errors
    /// [`ForwardError`]
    pub async fn send(
        &self,
        target: &Target,
        mut request: Request<OutBody>,
        mut leaving: impl FnMut(),
    ) -> Result<Response<UpstreamBody>, ForwardError> {
        let http2 = request.version() == Version::HTTP_2;
        strip_hop_by_hop(request.headers_mut());
        loop {
            let mut connection =
                if http2 { self.pool.http2(target).await? } else { self.pool.http1(target).await? };
            fit(&mut request, &connection, target);
            leaving();
            match connection.send(request).await {
                Ok(mut answer) => {
                    strip_hop_by_hop(answer.headers_mut());
                    return Ok(answer);
                }
                Err(mut failure) => match failure.take_message() {
                    // It was closed while it lay in the pool: the request never was on it, so another may take it.
                    Some(unsent) if connection.was_pooled() => request = unsent,
                    Some(_) => return Err(ForwardError::NotSent(failure.into_error())),
                    None => return Err(ForwardError::Broken(failure.into_error())),
                },
            }
        }
    }
}

/// Gives the request the form that its connection speaks: an absolute target on HTTP/2, a path and a Host on HTTP/1.1.
fn fit(request: &mut Request<OutBody>, connection: &Checkout, target: &Target) {
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    if connection.is_http2() {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(Scheme::HTTPS);
        parts.authority = request.uri().authority().cloned().or_else(|| authority(target));
        parts.path_and_query = Some(path);
        set_uri(request, parts);
        return;
    }
    if request.version() == Version::HTTP_2 {
        // The agent speaks HTTP/2 and this upstream does not: the authority becomes the Host.
        *request.version_mut() = Version::HTTP_11;
        let host = request.uri().authority().and_then(|authority| authority.as_str().parse().ok());
        if let Some(host) = host {
            request.headers_mut().entry(http::header::HOST).or_insert(host);
        }
    }
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = Some(path);
    set_uri(request, parts);
}

fn set_uri(request: &mut Request<OutBody>, parts: http::uri::Parts) {
    // A scheme, an authority and a path make a URI, and so does a path alone.
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

fn authority(target: &Target) -> Option<Authority> {
    target.name.parse().ok()
}
