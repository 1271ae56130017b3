//! New connections: name to address, TCP, TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Target;
use crate::limits;
use crate::names::Names;

/// Looking a name up and connecting may take this long, over all its addresses (`connect_timeout`).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// One address may take this long while there are others to try.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(3);

/// The TLS handshake may take this long (`tls_timeout`).
const TLS_TIMEOUT: Duration = Duration::from_secs(10);

/// No connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address.
    #[error("{0} has no address: {1}")]
    Unresolved(String, io::Error),
    /// Nobody listens, or no route.
    #[error("no connection to {0}: {1}")]
    Unreachable(String, io::Error),
    /// No answer to the connection in time.
    #[error("no connection to {0} within {CONNECT_TIMEOUT:?}")]
    Timeout(String),
    /// Its certificate is not from a trusted root, or not for this name.
    #[error("the certificate of {0} can't be trusted: {1}")]
    Untrusted(String, rustls::Error),
    /// The TLS handshake failed.
    #[error("no TLS with {0}: {1}")]
    Tls(String, io::Error),
    /// The TLS handshake took too long.
    #[error("no TLS with {0} within {TLS_TIMEOUT:?}")]
    TlsTimeout(String),
    /// An address that is reserved for the machine itself, such as the metadata server's.
    #[error("{0} is an address of this machine's own services; connections to it don't pass the sidecar")]
    Forbidden(String),
    /// HTTP could not be set up on the connection.
    #[error("no HTTP with {0}: {1}")]
    Http(String, hyper::Error),
}

impl DialError {
    /// The fixed name of this error.
    #[must_use]
    pub fn category(&self) -> &'static str {
        match self {
            Self::Unresolved(..) => "name_unresolved",
            Self::Unreachable(..) => "connect_failed",
            Self::Timeout(_) => "connect_timeout",
            Self::Untrusted(..) => "certificate_untrusted",
            Self::Tls(..) => "tls_failed",
            Self::TlsTimeout(_) => "tls_timeout",
            Self::Forbidden(_) => "address_forbidden",
            Self::Http(..) => "http_failed",
        }
    }
}

/// Connects to `name`, which may be an IP address.
///
/// # Errors
/// [`DialError`]
pub async fn connect(name: &str, port: u16, names: &Names) -> Result<TcpStream, DialError> {
    connect_unless(is_link_local, name, port, names).await
}

/// Connects to the node's metadata server, for agents who bring their own credentials and may get them there. Not for others:
/// this process runs as the one user who reaches it, and everybody would be given that user's tokens.
///
/// # Errors
/// [`DialError`]
pub async fn connect_to_metadata(name: &str, port: u16, names: &Names) -> Result<TcpStream, DialError> {
    connect_unless(|_| false, name, port, names).await
}

async fn connect_unless(
    forbidden: impl Fn(IpAddr) -> bool,
    name: &str,
    port: u16,
    names: &Names,
) -> Result<TcpStream, DialError> {
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, async {
        let addresses = names.addresses(name, port).await;
        let addresses = addresses.map_err(|error| DialError::Unresolved(name.into(), error))?;
        connect_to_any(name, port, &addresses, forbidden).await
    });
    let stream = connected.await.unwrap_or_else(|_| Err(DialError::Timeout(format!("{name}:{port}"))))?;
    // Answers and handshakes are small writes that the other side waits for. An error here shows at the first read.
    let _nodelay = stream.set_nodelay(true).is_ok();
    Ok(stream)
}

async fn connect_to_any(
    name: &str,
    port: u16,
    addresses: &[SocketAddr],
    forbidden: impl Fn(IpAddr) -> bool,
) -> Result<TcpStream, DialError> {
    let mut last = DialError::Timeout(format!("{name}:{port}"));
    for (number, address) in addresses.iter().enumerate() {
        if forbidden(address.ip()) {
            return Err(DialError::Forbidden(address.to_string()));
        }
        let limit = if number + 1 < addresses.len() { ADDRESS_TIMEOUT } else { CONNECT_TIMEOUT };
        match tokio::time::timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = DialError::Unreachable(address.to_string(), error),
            Err(_) => {}
        }
    }
    Err(last)
}

/// 169.254.0.0/16 and fe80::/10: on a cloud machine, the metadata server and its tokens.
fn is_link_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// Makes TLS connections to BigQuery.
#[derive(Debug)]
pub(super) struct Dialer {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    names: Names,
}

impl Dialer {
    pub(super) fn new(roots: RootCertStore, names: Names) -> Result<Self, runtime::tls::TlsError> {
        let http1 = Arc::new(runtime::tls::client_config(roots.clone(), &[b"http/1.1"])?);
        let http2 = Arc::new(runtime::tls::client_config(roots, &[b"h2", b"http/1.1"])?);
        Ok(Self { http1, http2, names })
    }

    /// A TLS connection whose certificate is for the target's name.
    pub(super) async fn dial(&self, target: &Target, http2: bool) -> Result<TlsStream<TcpStream>, DialError> {
        let name = ServerName::try_from(target.name.clone())
            .map_err(|_| DialError::Unresolved(target.name.clone(), io::Error::other("not a host name")))?;
        let stream = connect(&target.name, target.port, &self.names).await?;
        keep_alive(&stream);
        let config = if http2 { &self.http2 } else { &self.http1 };
        let handshake = TlsConnector::from(Arc::clone(config)).connect(name, stream);
        match tokio::time::timeout(TLS_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(tls_error(&target.name, error)),
            Err(_) => Err(DialError::TlsTimeout(target.name.clone())),
        }
    }
}

/// Lets the system find out when the other machine is gone. Where it can't, reads wait for as long as they did before.
fn keep_alive(stream: &TcpStream) {
    let probes = TcpKeepalive::new()
        .with_time(limits::UPSTREAM_KEEPALIVE_IDLE)
        .with_interval(limits::UPSTREAM_KEEPALIVE_INTERVAL)
        .with_retries(limits::UPSTREAM_KEEPALIVE_PROBES);
    let socket = SockRef::from(stream);
    let set = socket.set_tcp_keepalive(&probes);
    if let Err(error) = set.and_then(|()| socket.set_tcp_user_timeout(Some(limits::UPSTREAM_UNACKNOWLEDGED)))
    {
        tracing::debug!(%error, "no keep-alive on a connection");
    }
}

fn tls_error(name: &str, error: io::Error) -> DialError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error @ rustls::Error::InvalidCertificate(_)) => {
            DialError::Untrusted(name.into(), error.clone())
        }
        _ => DialError::Tls(name.into(), error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_metadata_server_is_not_reached_through_the_sidecar() {
        for address in ["169.254.169.254", "[::ffff:169.254.169.254]", "[fe80::1]"] {
            let error = connect(address, 80, &Names::default()).await.expect_err("must be refused");
            assert_eq!(error.category(), "address_forbidden", "{address}");
        }
    }

    #[tokio::test]
    async fn a_machine_that_is_gone_is_found() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let stream = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
        keep_alive(&stream);
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().expect("an option"));
        assert_eq!(socket.tcp_keepalive_time().expect("an option"), limits::UPSTREAM_KEEPALIVE_IDLE);
        assert_eq!(socket.tcp_keepalive_interval().expect("an option"), limits::UPSTREAM_KEEPALIVE_INTERVAL);
        assert_eq!(socket.tcp_keepalive_retries().expect("an option"), limits::UPSTREAM_KEEPALIVE_PROBES);
        assert_eq!(socket.tcp_user_timeout().expect("an option"), Some(limits::UPSTREAM_UNACKNOWLEDGED));
    }

    #[tokio::test]
    async fn overrides_win_over_names() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let names =
            Names::new(std::collections::HashMap::from([(("bigquery.invalid".to_owned(), 443), address)]));
        assert!(connect("bigquery.invalid", 443, &names).await.is_ok());
        let error = connect("bigquery.invalid", 444, &names).await.expect_err("no such name");
        assert_eq!(error.category(), "name_unresolved");
    }
}
