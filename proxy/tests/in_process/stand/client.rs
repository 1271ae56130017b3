//! Agents: they ask the proxy for a tunnel, trust the bundle, and speak HTTP as the clients that were measured do.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{PATIENCE, Stand};

pub type Error = Box<dyn std::error::Error + Send + Sync>;
pub type RequestBody = UnsyncBoxBody<Bytes, Error>;

pub fn body<B>(body: B) -> RequestBody
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Error>,
{
    body.map_err(Into::into).boxed_unsync()
}

pub fn text(text: impl Into<Bytes>) -> RequestBody {
    body(http_body_util::Full::new(text.into()))
}

pub fn nothing() -> RequestBody {
    body(http_body_util::Empty::new())
}

/// A connection of an agent.
pub enum Agent {
    Http1(http1::SendRequest<RequestBody>),
    Http2(http2::SendRequest<RequestBody>),
}

/// Opens a tunnel and speaks TLS in it, as `name`, offering `alpn`.
pub async fn tls(
    stand: &Stand,
    connect: &str,
    name: &str,
    alpn: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    tls_trusting(stand.address(), &stand.bundle, connect, name, alpn).await
}

pub async fn tls_trusting(
    proxy: SocketAddr,
    roots: &Path,
    connect: &str,
    name: &str,
    alpn: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = tunnel(proxy, connect).await.unwrap();
    let config: ClientConfig =
        runtime::tls::client_config(runtime::tls::pinned_roots(roots).unwrap(), alpn).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
    tokio::time::timeout(PATIENCE, handshake).await.expect("a handshake ends")
}

/// Asks for a tunnel; the error is the proxy's answer.
pub async fn tunnel(proxy: SocketAddr, connect: &str) -> Result<TcpStream, String> {
    let mut stream = TcpStream::connect(proxy).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let request = format!("CONNECT {connect} HTTP/1.1\r\nHost: {connect}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap();
    if answer == "HTTP/1.1 200 OK\r\n\r\n" { Ok(stream) } else { Err(answer) }
}

impl Agent {
    /// Speaks HTTP/1.1, and offers no ALPN, as `bq` and Node do.
    pub async fn http1(stand: &Stand, host: &str) -> Self {
        Self::http1_through(stand, &format!("{host}:443"), host).await
    }

    /// The same, through a tunnel that is asked for in this spelling.
    pub async fn http1_through(stand: &Stand, connect: &str, host: &str) -> Self {
        let stream = tls(stand, connect, host, &[]).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), None);
        let mut builder = http1::Builder::new();
        let (sender, connection) =
            builder.preserve_header_case(true).handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self::Http1(sender)
    }

    /// Speaks HTTP/2, as gRPC does.
    pub async fn http2(stand: &Stand, host: &str) -> Self {
        let stream = tls(stand, &format!("{host}:443"), host, &[b"h2"]).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (sender, connection) =
            http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self::Http2(sender)
    }

    pub async fn send(&mut self, request: Request<RequestBody>) -> hyper::Result<Response<Incoming>> {
        let sending = async {
            match self {
                Self::Http1(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
                Self::Http2(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
            }
        };
        tokio::time::timeout(PATIENCE, sending).await.expect("an answer's head comes")
    }

    /// Sends a request and reads the whole answer as text.
    pub async fn ask(&mut self, request: Request<RequestBody>) -> (http::response::Parts, String) {
        let (head, body) = self.send(request).await.unwrap().into_parts();
        let body = tokio::time::timeout(PATIENCE, body.collect()).await.expect("an answer ends").unwrap();
        (head, String::from_utf8(body.to_bytes().to_vec()).unwrap())
    }
}

/// A request as HTTP/1.1 clients send it.
pub fn request(verb: &str, host: &str, path: &str) -> http::request::Builder {
    Request::builder().method(verb).uri(path).header("Host", host)
}

/// A request as HTTP/2 clients send it.
pub fn request2(verb: &str, host: &str, path: &str) -> http::request::Builder {
    Request::builder().method(verb).uri(format!("https://{host}{path}")).version(http::Version::HTTP_2)
}

/// Plain HTTP, for the admin port.
pub async fn get_plain(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
