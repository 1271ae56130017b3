//! The first way in: agents are told of the proxy by `HTTPS_PROXY`, and ask it for tunnels with HTTP CONNECT.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use runtime::drain::Watch;
use runtime::faults::Faults;
use tokio::net::{TcpListener, TcpStream};

use super::{Destination, Replayed, Way, accept, malformed};
use crate::app::Proxy;
use crate::limits;
use crate::metrics::Metrics;

/// Accepts until the drain starts. Connections that are open then go on, until `cut` cuts them off.
pub async fn listen(proxy: Arc<Proxy>, listener: TcpListener, drain: Watch, cut: Watch) {
    accept::accept(proxy, listener, drain, cut, connection).await;
}

async fn connection(proxy: Arc<Proxy>, stream: TcpStream, _from: SocketAddr, drain: Watch) {
    if let Some((destination, tunnel)) = tunnel(stream, &proxy.metrics).await {
        super::serve(proxy, Way::Connect, tunnel, destination, drain).await;
    }
}

type Asked = Arc<Mutex<Option<(Destination, OnUpgrade)>>>;

/// Answers requests until one is a CONNECT that can be served; then the connection is a tunnel.
async fn tunnel(stream: TcpStream, metrics: &Metrics) -> Option<(Destination, Replayed)> {
    // Answers are small writes that the agent waits for. An error here shows at the first read.
    let _nodelay = stream.set_nodelay(true).is_ok();
    let asked = Asked::default();
    let service = service_fn(|mut request: Request<Incoming>| {
        let answer = match destination(&request) {
            Ok(destination) => {
                let upgrade = hyper::upgrade::on(&mut request);
                *asked.lock().unwrap_or_else(PoisonError::into_inner) = Some((destination, upgrade));
                Response::new(Full::default())
            }
            Err(mistake) => mistake.answer(),
        };
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::CONNECT_HEAD_TIMEOUT)
        .max_header_size(limits::HTTP1_HEAD)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(malformed::watch_own(stream, metrics)), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection to the proxy ended before its CONNECT");
        return None;
    }
    let (destination, upgrade) = asked.lock().unwrap_or_else(PoisonError::into_inner).take()?;
    let parts = upgrade.await.ok()?.downcast::<TokioIo<Faults<TcpStream>>>().ok()?;
    Some((destination, Replayed::new(parts.read_buf, parts.io.into_inner().into_inner())))
}

/// A request that is not a CONNECT that can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    PlainHttp,
    NotProxy,
    NoDestination,
}

impl Mistake {
    fn answer(self) -> Response<Full<Bytes>> {
        let (status, text) = match self {
            Self::PlainHttp => (
                StatusCode::FORBIDDEN,
                "bqwitness: plain HTTP does not pass this proxy. Use https, and set HTTPS_PROXY but not HTTP_PROXY.\n",
            ),
            Self::NotProxy => (
                StatusCode::BAD_REQUEST,
                "bqwitness: this is a proxy, not a web server. Name it in HTTPS_PROXY.\n",
            ),
            Self::NoDestination => (
                StatusCode::BAD_REQUEST,
                "bqwitness: CONNECT needs host:port, for example bigquery.googleapis.com:443.\n",
            ),
        };
        let mut answer = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
        *answer.status_mut() = status;
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        answer
    }
}

fn destination(request: &Request<Incoming>) -> Result<Destination, Mistake> {
    if request.method() != Method::CONNECT {
        return Err(if request.uri().authority().is_some() { Mistake::PlainHttp } else { Mistake::NotProxy });
    }
    let authority = request.uri().authority().ok_or(Mistake::NoDestination)?;
    let port = authority.port_u16().ok_or(Mistake::NoDestination)?;
    if authority.as_str().contains('@') {
        return Err(Mistake::NoDestination);
    }
    Destination::parse(authority.host(), port).ok_or(Mistake::NoDestination)
}
