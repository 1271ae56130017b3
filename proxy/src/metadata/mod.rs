//! The metadata server that agents see: Google Cloud's API for "who am I", answered by the sidecar, with placeholders in the
//! place of tokens. Unmodified clients find it at 169.254.169.254:80 where connections are redirected, and on a loopback port
//! where variables name it ([`env_file`]).

pub mod answers;
pub mod env_file;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use runtime::drain::Watch;
use tokio::net::{TcpListener, TcpStream};

use self::answers::{Answer, Question, answer};
use crate::app::Proxy;
use crate::limits;
use crate::listen::{Replayed, accept, malformed};

/// The header that tells a metadata server from any other, in questions and in answers.
pub(crate) const FLAVOR: HeaderName = HeaderName::from_static("metadata-flavor");

const GOOGLE: HeaderValue = HeaderValue::from_static("Google");

/// Accepts on the loopback port until the drain starts.
pub async fn listen(proxy: Arc<Proxy>, listener: TcpListener, drain: Watch, cut: Watch) {
    accept::accept(proxy, listener, drain, cut, connection).await;
}

async fn connection(proxy: Arc<Proxy>, stream: TcpStream, _from: SocketAddr, drain: Watch) {
    // Answers are small writes that the agent waits for. An error here shows at the first read.
    let _nodelay = stream.set_nodelay(true).is_ok();
    proxy.metrics.connection("metadata");
    serve(proxy, Replayed::new(Bytes::new(), stream), drain).await;
}

/// Serves one connection. Nobody waits for it when the drain starts.
pub(crate) async fn serve(proxy: Arc<Proxy>, stream: Replayed, drain: Watch) {
    drop(drain);
    let service = service_fn(|request: Request<Incoming>| {
        let response = respond(&proxy, &request);
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::CONNECT_HEAD_TIMEOUT)
        .max_header_size(limits::HTTP1_HEAD)
        .serve_connection(TokioIo::new(malformed::watch_own(stream, &proxy.metrics)), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(error = %runtime::client::chain(&error), "a connection to the metadata server ended");
    }
}

fn respond(proxy: &Proxy, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let Some(keyless) = proxy.identity.keyless() else {
        // Unreachable by how it is wired: there is no such listener in passthrough mode.
        return Answer::NOT_FOUND.into_response(String::new());
    };
    let question = Question::of(request.method(), request.uri(), request.headers());
    let principal = keyless.principal();
    match answer(&question, &keyless.facts, principal.as_deref()) {
        Answer::Token => {
            let token = keyless.placeholder("metadata");
            Answer::Token.into_response(answers::token(&token))
        }
        answer => answer.into_response(String::new()),
    }
}

impl Answer {
    fn into_response(self, token: String) -> Response<Full<Bytes>> {
        let (status, kind, text) = self.parts(token);
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(FLAVOR, GOOGLE);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }
}
