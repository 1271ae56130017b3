//! A server that costs as little as TLS allows: HTTP/1.1, kept-alive connections, whole bodies, answers at once.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::wire::{find, length};
use crate::trouble::{Doing as _, Result, Trouble};

/// Greatest request that is taken.
const MAX_REQUEST: usize = 32 << 20;

/// A server that serves until it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

/// Answers a request, given as head and body, with a whole answer.
pub(crate) trait Answering: Send + Sync + 'static {
    /// The answer's bytes, head and body.
    fn answer(&self, head: &[u8], body: &[u8]) -> Result<Vec<u8>>;
}

impl Server {
    /// Serves on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// No port.
    pub(crate) async fn start(mut tls: ServerConfig, answering: impl Answering) -> Result<Self> {
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").await.doing("opening a port")?;
        let address = listener.local_addr().doing("asking for a port")?;
        let serving = tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(tls)), Arc::new(answering)));
        Ok(Self { address, serving })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, answering: Arc<impl Answering>) {
    let mut connections = JoinSet::new(); // ends with this task
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, answering) = (tls.clone(), answering.clone());
        connections.spawn(async move {
            if let Err(trouble) = connection(stream, tls, &*answering).await {
                tracing::warn!(%trouble, "a connection of the load ended");
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, answering: &impl Answering) -> Result<()> {
    stream.set_nodelay(true).doing("setting up a connection")?;
    let mut stream = tls.accept(stream).await.doing("TLS with a client")?;
    let mut read = BytesMut::new();
    loop {
        while let Some((head, end)) = whole(&read) {
            let request = read.split_to(end);
            let answer = answering.answer(&request[..head], &request[head..])?;
            stream.write_all(&answer).await.doing("answering")?;
            stream.flush().await.doing("answering")?;
        }
        if read.len() > MAX_REQUEST {
            return Err(Trouble::new("a request that is too large"));
        }
        read.reserve(16 * 1024);
        if stream.read_buf(&mut read).await.doing("reading a request")? == 0 {
            return Ok(());
        }
    }
}

/// Where the body begins and where it ends, once all of it is there. A body without a length is chunked, and its end is
/// looked for; what it holds is nobody's business here.
fn whole(request: &[u8]) -> Option<(usize, usize)> {
    const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
    let head = find(request, b"\r\n\r\n")? + 4;
    if let Some(length) = length(&request[..head]) {
        return (request.len() >= head + length).then_some((head, head + length));
    }
    if find(&request[..head].to_ascii_lowercase(), b"transfer-encoding: chunked").is_none() {
        return Some((head, head));
    }
    find(&request[head..], LAST_CHUNK).map(|end| (head, head + end + LAST_CHUNK.len()))
}

/// A whole answer of JSON.
pub(crate) fn json(status: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json; charset=UTF-8\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_taken_apart() {
        let get = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        assert_eq!(whole(get), Some((get.len(), get.len())));
        let post = b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}GET";
        assert_eq!(whole(post), Some((post.len() - 5, post.len() - 3)));
        assert_eq!(whole(&post[..post.len() - 4]), None);
        let chunked = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
        assert_eq!(whole(chunked).map(|(_, end)| end), Some(chunked.len()));
        assert_eq!(whole(&chunked[..chunked.len() - 1]), None);
    }
}
