//! The ways in. Each accepts connections and learns where they want to go; from there on all are the same: [`serve`] looks
//! at the ClientHello and intercepts, splices or refuses.

pub mod alias;
pub mod connect;
pub mod hello;
pub mod redirect;

pub(crate) mod accept;
mod intercept;
pub(crate) mod malformed;
mod route;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use runtime::drain::Watch;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

pub use self::route::Destination;

use self::hello::{HELLO_TIMEOUT, Hello, NoHello};
use self::route::{Opening, Route, route};
use crate::app::Proxy;
use crate::forward::{self, Target};
use crate::metadata;

/// How a connection came in: `observed.interception` of its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// HTTP CONNECT.
    Connect,
    /// Rules of the pod's network.
    Redirect,
    /// Host aliases of the pod.
    Alias,
}

impl Way {
    /// Its name in the record.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Redirect => "redirect",
            Self::Alias => "alias",
        }
    }
}

/// Serves a connection that wants to go to `destination`. Calls that are open when the drain starts are finished; spliced
/// connections are not waited for.
pub async fn serve(
    proxy: Arc<Proxy>,
    way: Way,
    mut stream: Replayed,
    destination: Destination,
    drain: Watch,
) {
    let opening = match open(&mut stream, &destination).await {
        Ok(opening) => opening,
        Err(error) => {
            tracing::info!(category = error.category(), %destination, %error, "a connection was closed");
            proxy.metrics.connection(error.category());
            return;
        }
    };
    let route = match route(&destination, &opening, proxy.egress) {
        // Nothing but Google's names is led here; to look another one up could lead here again, for ever.
        Route::Splice | Route::SpliceWithin(_) if way == Way::Alias => Route::Refuse("not_aliased"),
        route => route,
    };
    match route {
        Route::Intercept(name) => {
            proxy.metrics.connection("intercepted");
            intercept::serve(proxy, way, stream, Target { name, port: destination.port() }, drain).await;
        }
        Route::Metadata if proxy.identity.keyless().is_some() => {
            proxy.metrics.connection("metadata");
            metadata::serve(proxy, stream, drain).await;
        }
        Route::Splice | Route::Metadata => {
            drop(drain);
            splice(&proxy, stream, &destination, None).await;
        }
        Route::SpliceWithin(fault) => {
            drop(drain);
            splice(&proxy, stream, &destination, Some(fault)).await;
        }
        Route::Refuse(category) => {
            tracing::warn!(category, %destination, ?opening, "a connection was refused");
            proxy.metrics.connection(category);
        }
    }
}

/// Reads how the connection opens, where that matters, and puts the bytes back.
async fn open(stream: &mut Replayed, destination: &Destination) -> Result<Opening, NoHello> {
    if !route::depends_on_opening(destination) {
        return Ok(Opening::Unread);
    }
    match hello::read(stream, HELLO_TIMEOUT).await {
        Ok(Hello { name, bytes }) => {
            stream.put_back(bytes);
            Ok(Opening::Tls(name))
        }
        Err(NoHello::NotTls { bytes }) => {
            stream.put_back(bytes);
            Ok(Opening::NotTls)
        }
        Err(error) => Err(error),
    }
}

/// Copies bytes both ways until both sides have ended, or one broke. With a `fault` that only private addresses forgive, it
/// counts where the name has led.
async fn splice(proxy: &Proxy, mut stream: Replayed, destination: &Destination, fault: Option<&'static str>) {
    let (host, port) = (destination.host(), destination.port());
    let connected = match route::is_metadata(destination) {
        true => forward::connect_to_metadata(&host, port, &proxy.names).await,
        false => forward::connect(&host, port, &proxy.names).await,
    };
    let mut upstream = match connected {
        Ok(upstream) => upstream,
        Err(error) => {
            tracing::info!(category = error.category(), %destination, %error, "a connection could not be spliced");
            return proxy.metrics.upstream_failed(error.category());
        }
    };
    let within = upstream.peer_addr().is_ok_and(|address| route::is_private(address.ip()));
    if let Some(category) = fault.filter(|_| !within) {
        tracing::warn!(category, %destination, "a connection was refused: nothing in it says whom it asks");
        return proxy.metrics.connection(category);
    }
    proxy.metrics.connection("spliced");
    if let Err(error) = tokio::io::copy_bidirectional(&mut stream, &mut upstream).await {
        tracing::debug!(%destination, %error, "a spliced connection broke");
    }
}

/// A connection of which the first bytes were read, and are read again.
#[derive(Debug)]
pub struct Replayed {
    first: Bytes,
    stream: TcpStream,
}

impl Replayed {
    /// `first` was read from `stream` before.
    #[must_use]
    pub fn new(first: Bytes, stream: TcpStream) -> Self {
        Self { first, stream }
    }

    /// Everything that was read so far is read again next.
    fn put_back(&mut self, bytes: Vec<u8>) {
        self.first =
            if self.first.is_empty() { bytes.into() } else { [&bytes, &self.first[..]].concat().into() };
    }
}

impl AsyncRead for Replayed {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.first.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buffer);
        }
        let count = this.first.len().min(buffer.remaining());
        buffer.put_slice(&this.first[..count]);
        this.first.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Replayed {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn what_was_put_back_is_read_first() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
        let (stream, _) = listener.accept().await.expect("accepted");
        client.write_all(b"cd").await.expect("sent");
        client.shutdown().await.expect("ended");
        let mut replayed = Replayed::new(Bytes::from_static(b"xab"), stream);
        assert_eq!(replayed.read_u8().await.expect("first"), b'x');
        replayed.put_back(b"x".to_vec());
        let mut all = String::new();
        replayed.read_to_string(&mut all).await.expect("read");
        assert_eq!(all, "xabcd");
    }
}
