//! An intercepted connection: TLS ends here, with a leaf for exactly its name, and HTTP is served in the version that the
//! client chose.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use runtime::drain::Watch;
use runtime::faults::{self, Fault, Faults};
use rustls::{AlertDescription, Error as TlsError};
use tokio::io::AsyncWriteExt as _;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::malformed::{self, Lookalike};
use super::{Replayed, Way};
use crate::app::Proxy;
use crate::body::AgentBody;
use crate::forward::Target;
use crate::limits;
use crate::metrics::Metrics;
use crate::refuse::{Refused, is_grpc};
use crate::session::{self, Link};

/// Serves one connection to `target`.
pub(super) async fn serve(proxy: Arc<Proxy>, way: Way, stream: Replayed, target: Target, drain: Watch) {
    let Some(stream) = handshake(&proxy, stream, &target.name).await else { return };
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let link = Arc::new(Link { way, target });
    let lookalike = Lookalike::default();
    let io = TokioIo::new(malformed::watch(stream, &proxy.metrics, &lookalike));
    let metrics = proxy.metrics.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (proxy, link, lookalike) = (Arc::clone(&proxy), Arc::clone(&link), lookalike.clone());
        async move { Ok::<_, Infallible>(answer(&proxy, &link, request, &lookalike).await) }
    });
    let served = match http2 {
        true => serve_http2(io, service, drain).await,
        false => serve_http1(io, service, drain, &metrics).await,
    };
    if let Err(error) = served {
        tracing::debug!(error = %runtime::client::chain(&error), "an agent's connection ended");
    }
}

type Agents = TokioIo<Faults<TlsStream<Replayed>>>;

async fn answer(
    proxy: &Proxy,
    link: &Link,
    request: Request<Incoming>,
    lookalike: &Lookalike,
) -> Response<AgentBody> {
    if request.version() == Version::HTTP_2 {
        let (head, body) = request.into_parts();
        if malformed::is_too_large(&head) {
            proxy.metrics.malformed(Fault::HeadTooLarge.reason());
            return Refused::HeadTooLarge.answer(is_grpc(&head.headers));
        }
        return session::call(proxy, link, Request::from_parts(head, body)).await;
    }
    let answer = session::call(proxy, link, request).await;
    lookalike.look(&answer);
    answer
}

/// Serves a connection, and ends it in order when the drain starts: requests that are open are finished.
macro_rules! until_drained {
    ($connection:ident, $drain:ident) => {
        tokio::select! {
            served = &mut $connection => served,
            () = $drain.draining() => {
                std::pin::Pin::new(&mut $connection).graceful_shutdown();
                (&mut $connection).await
            }
        }
    };
}

async fn serve_http1<S>(io: Agents, service: S, mut drain: Watch, metrics: &Metrics) -> hyper::Result<()>
where
    S: hyper::service::HttpService<Incoming, ResBody = AgentBody, Error = Infallible> + Unpin,
{
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HEAD_TIMEOUT)
        .max_header_size(limits::HTTP1_HEAD)
        .max_buf_size(limits::HTTP1_BUFFER)
        .preserve_header_case(true)
        .auto_date_header(false)
        .serve_connection(io, service);
    let served = until_drained!(connection, drain);
    if served.as_ref().is_err_and(hyper::Error::is_timeout) {
        let parts = connection.into_parts();
        if !parts.read_buf.is_empty() {
            say_too_slow(parts.io.into_inner(), metrics).await;
        }
    }
    served
}

/// A head was begun and not finished: hyper gives up without a word.
async fn say_too_slow(mut agent: Faults<TlsStream<Replayed>>, metrics: &Metrics) {
    metrics.malformed(Fault::HeadTimeout.reason());
    let Some(refused) = malformed::refusal(Fault::HeadTimeout) else { return };
    let said = async {
        agent.write_all(&malformed::closing_answer(&refused)).await?;
        agent.shutdown().await
    };
    // Whoever does not read does not hear it.
    let _heard = tokio::time::timeout(faults::LINGER_TIME, said).await.is_ok();
}

async fn serve_http2<S>(io: Agents, service: S, mut drain: Watch) -> hyper::Result<()>
where
    S: hyper::service::HttpService<Incoming, ResBody = AgentBody, Error = Infallible> + Unpin,
    S::Future: Send + 'static,
{
    let mut connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(limits::HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW)
        .max_frame_size(limits::HTTP2_AGENT_FRAME)
        .max_header_list_size(limits::HTTP2_HEAD_READ)
        .max_concurrent_streams(limits::HTTP2_STREAMS)
        .auto_date_header(false)
        .serve_connection(io, service);
    until_drained!(connection, drain)
}

async fn handshake(proxy: &Proxy, stream: Replayed, name: &str) -> Option<TlsStream<Replayed>> {
    let config = match proxy.ca.server_config(name) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(category = error.category(), %error, "a connection can't be intercepted");
            proxy.metrics.tls_failed(error.category());
            return None;
        }
    };
    let handshake = TlsAcceptor::from(config).accept(stream);
    match tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            failed(proxy, name, alert(&error));
            None
        }
        Err(_) => {
            failed(proxy, name, "timeout");
            None
        }
    }
}

fn failed(proxy: &Proxy, name: &str, alert: &'static str) {
    proxy.metrics.tls_failed(alert);
    // The application's own error may come minutes later, or never: this line is what an operator finds. Once for each.
    if proxy.distrusted.get(&(name.to_owned(), alert)).is_some() {
        return;
    }
    proxy.distrusted.insert((name.to_owned(), alert), ());
    tracing::warn!(
        server = name,
        alert,
        bundle = %proxy.bundle.display(),
        "an agent ended the TLS handshake; if it does not trust the sidecar's CA, point its CA variable to the bundle \
         (CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE for bq, REQUESTS_CA_BUNDLE for Python, GRPC_DEFAULT_SSL_ROOTS_FILE_PATH for \
         gRPC, NODE_EXTRA_CA_CERTS for Node, SSL_CERT_FILE for Go); this is logged once for each name and alert"
    );
}

/// The name of what ended a handshake: the alert that the client sent, or what else it was.
fn alert(error: &io::Error) -> &'static str {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
        Some(TlsError::AlertReceived(alert)) => match alert {
            AlertDescription::UnknownCA => "unknown_ca",
            AlertDescription::CertificateUnknown => "certificate_unknown",
            AlertDescription::BadCertificate => "bad_certificate",
            AlertDescription::CertificateExpired => "certificate_expired",
            AlertDescription::UnsupportedCertificate => "unsupported_certificate",
            AlertDescription::HandshakeFailure => "handshake_failure",
            AlertDescription::ProtocolVersion => "protocol_version",
            AlertDescription::NoApplicationProtocol => "no_application_protocol",
            AlertDescription::CloseNotify => "close_notify",
            AlertDescription::UserCanceled => "user_canceled",
            _ => "other_alert",
        },
        Some(TlsError::PeerIncompatible(_)) => "incompatible",
        Some(TlsError::NoApplicationProtocol) => "no_application_protocol",
        Some(_) => "protocol_error",
        None if error.kind() == io::ErrorKind::UnexpectedEof => "eof",
        None => "io_error",
    }
}
