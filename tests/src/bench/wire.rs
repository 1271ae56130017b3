//! A client that costs as little as TLS allows: bytes of a request out, the answer in, one at a time. HTTP/1.1 with
//! kept-alive connections, as `bq` and the Python client use it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::BytesMut;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::trouble::{Doing as _, Result, Trouble};

/// Answers are far smaller.
const MAX_ANSWER: usize = 1 << 20;

/// Whom to reach, and how.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// Where TCP goes.
    pub(crate) address: SocketAddr,
    /// The name in TLS.
    pub(crate) name: String,
    /// Ask for a tunnel to that name first (HTTP CONNECT).
    pub(crate) tunnel: bool,
    tls: Arc<ClientConfig>,
}

impl Route {
    /// To `name` at `address`, trusting the roots of a PEM file alone.
    pub(crate) fn new(address: SocketAddr, name: &str, tunnel: bool, roots: &Path) -> Result<Self> {
        let roots = runtime::tls::pinned_roots(roots).doing("reading roots")?;
        let mut tls = runtime::tls::client_config(roots, &[b"http/1.1"]).doing("setting up TLS")?;
        tls.resumption = rustls::client::Resumption::disabled(); // every connection is a client of its own
        Ok(Self { address, name: name.into(), tunnel, tls: Arc::new(tls) })
    }

    /// A new connection.
    pub(crate) async fn open(&self) -> Result<Connection> {
        let mut stream =
            TcpStream::connect(self.address).await.doing(format!("connecting to {}", self.address))?;
        stream.set_nodelay(true).doing("setting up a connection")?;
        if self.tunnel {
            tunnel(&mut stream, &self.name).await?;
        }
        let name = ServerName::try_from(self.name.clone()).doing("a server's name")?;
        let stream = TlsConnector::from(self.tls.clone()).connect(name, stream).await;
        Ok(Connection { stream: stream.doing(format!("TLS with {}", self.name))?, read: BytesMut::new() })
    }
}

async fn tunnel(stream: &mut TcpStream, name: &str) -> Result<()> {
    let request = format!("CONNECT {name}:443 HTTP/1.1\r\nHost: {name}:443\r\n\r\n");
    stream.write_all(request.as_bytes()).await.doing("asking for a tunnel")?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.doing("asking for a tunnel")?);
    }
    if answer.starts_with(b"HTTP/1.1 200") {
        return Ok(());
    }
    Err(Trouble::new(format!("no tunnel: {}", String::from_utf8_lossy(&answer))))
}

/// A connection that is kept.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    read: BytesMut,
}

impl Connection {
    /// Sends a whole request; gives the body of its answer, which must be 200.
    ///
    /// # Errors
    /// The connection ends, or the answer is another.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<&[u8]> {
        self.stream.write_all(request).await.doing("sending a request")?;
        self.stream.flush().await.doing("sending a request")?;
        self.read.clear();
        loop {
            let read = self.stream.read_buf(&mut self.read).await.doing("reading an answer")?;
            if read == 0 || self.read.len() > MAX_ANSWER {
                return Err(Trouble::new(format!(
                    "an answer ended too early, or never: {}",
                    shown(&self.read)
                )));
            }
            if let Some(body) = whole(&self.read) {
                return match self.read.starts_with(b"HTTP/1.1 200") {
                    true => Ok(&self.read[body..]),
                    false => Err(Trouble::new(format!("an answer that is not 200: {}", shown(&self.read)))),
                };
            }
        }
    }
}

/// Where the body begins, once all of it is there.
fn whole(answer: &[u8]) -> Option<usize> {
    let body = find(answer, b"\r\n\r\n")? + 4;
    match length(&answer[..body]) {
        Some(length) => (answer.len() >= body + length).then_some(body),
        None => answer.ends_with(b"\r\n0\r\n\r\n").then_some(body), // chunked
    }
}

/// The length that a head announces.
pub(crate) fn length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"\r\ncontent-length:";
    let at = head.windows(NAME.len()).position(|window| window.eq_ignore_ascii_case(NAME))? + NAME.len();
    let value = &head[at..at + find(&head[at..], b"\r\n")?];
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}

pub(crate) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(600)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_or_not() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx: y\r\n\r\n{}";
        assert_eq!(whole(answer), Some(answer.len() - 2));
        assert_eq!(whole(&answer[..answer.len() - 1]), None);
        assert_eq!(whole(b"HTTP/1.1 200 OK\r\ncontent-le"), None);
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
        assert!(whole(chunked).is_some());
        assert_eq!(whole(&chunked[..chunked.len() - 2]), None);
    }
}
