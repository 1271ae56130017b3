//! An intercepted connection: TLS ends here, with a leaf for exactly its name, and HTTP is served in the version that the
//! client chose.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use runtime::drain::Watch;
use rustls::{AlertDescription, Error as TlsError};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{Replayed, Way};
use crate::app::Proxy;
use crate::forward::Target;
use crate::limits;
use crate::session::{self, Link};

/// Serves one connection to `target`.
pub(super) async fn serve(proxy: Arc<Proxy>, way: Way, stream: Replayed, target: Target, drain: Watch) {
    let Some(stream) = handshake(&proxy, stream, &target.name).await else { return };
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let link = Arc::new(Link { way, target });
    let metrics = proxy.metrics.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (proxy, link) = (Arc::clone(&proxy), Arc::clone(&link));
        async move { Ok::<_, Infallible>(session::call(&proxy, &link, request).await) }
    });
    let io = TokioIo::new(stream);
    let served =
        if http2 { serve_http2(io, service, drain).await } else { serve_http1(io, service, drain).await };
    if let Err(error) = served {
        if error.is_parse() {
            metrics.malformed.inc();
        }
        tracing::debug!(error = %runtime::client::chain(&error), "an agent's connection ended");
    }
}

/// Serves a connection, and ends it in order when the drain starts: requests that are open are finished.
macro_rules! serve_until_drained {
    ($connection:expr, $drain:expr) => {{
        let mut connection = std::pin::pin!($connection);
        let mut drain = $drain;
        tokio::select! {
            served = connection.as_mut() => return served,
            () = drain.draining() => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    }};
}

async fn serve_http1<S>(io: TokioIo<TlsStream<Replayed>>, service: S, drain: Watch) -> hyper::Result<()>
where
    S: hyper::service::HttpService<Incoming, ResBody = crate::body::AgentBody, Error = Infallible>,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HEAD_TIMEOUT)
        .max_header_size(limits::HTTP1_HEAD)
        .max_buf_size(limits::HTTP1_BUFFER)
        .preserve_header_case(true)
        .auto_date_header(false)
        .serve_connection(io, service);
    serve_until_drained!(connection, drain)
}

async fn serve_http2<S>(io: TokioIo<TlsStream<Replayed>>, service: S, drain: Watch) -> hyper::Result<()>
where
    S: hyper::service::HttpService<Incoming, ResBody = crate::body::AgentBody, Error = Infallible>,
    S::Future: Send + 'static,
{
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(limits::HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW)
        .max_frame_size(limits::HTTP2_FRAME)
        .max_header_list_size(limits::HTTP2_HEAD)
        .max_concurrent_streams(limits::HTTP2_STREAMS)
        .auto_date_header(false)
        .serve_connection(io, service);
    serve_until_drained!(connection, drain)
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
