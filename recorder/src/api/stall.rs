//! A connection that ends when its peer says nothing at first, or takes nothing later on, for too long: neither may hold
//! memory and a place for ever.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// A write that makes no progress for this long ends the connection.
pub const STALL_LIMIT: Duration = Duration::from_secs(30);

/// A peer that has not sent [`OPENING_BYTES`] by then is cut off. After that HTTP's own limits hold.
pub const OPENING_LIMIT: Duration = Duration::from_secs(60);

/// HTTP/2's preface; no HTTP/1.1 request with a host is shorter. Until these are there nobody knows which of the two it is,
/// and no limit of either holds.
pub const OPENING_BYTES: usize = 24;

/// How long a peer may keep a connection waiting.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the first bytes.
    pub opening: Duration,
    /// For taking what is written.
    pub stall: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { opening: OPENING_LIMIT, stall: STALL_LIMIT }
    }
}

/// Ends a stalled connection.
pub struct Unstalled<S> {
    stream: S,
    limit: Duration,
    /// Until the peer has begun: how long that may take, and how many bytes are missing.
    opening: Option<(Pin<Box<Sleep>>, usize)>,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Unstalled<S> {
    /// Watches a stream.
    pub fn new(stream: S, patience: Patience) -> Self {
        let opening = Some((Box::pin(tokio::time::sleep(patience.opening)), OPENING_BYTES));
        Self { stream, limit: patience.stall, opening, waiting: None }
    }

    /// Notes how a read went while the peer has not begun.
    fn watch_opening(&mut self, cx: &mut Context<'_>, read: Poll<usize>) -> Poll<io::Result<()>> {
        let Some((patience, missing)) = &mut self.opening else { return read.map(|_| Ok(())) };
        match read {
            Poll::Ready(bytes) => {
                *missing = missing.saturating_sub(bytes);
                if *missing == 0 {
                    self.opening = None;
                }
                Poll::Ready(Ok(()))
            }
            Poll::Pending => {
                ready!(patience.as_mut().poll(cx));
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not begin")))
            }
        }
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let limit = self.limit;
        let waiting =
            self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + limit)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Unstalled<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => Poll::Ready(buffer.filled().len() - before),
            Poll::Pending => Poll::Pending,
        };
        self.watch_opening(cx, read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unstalled<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, buffers);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.watch(cx, closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let (near, far) = tokio::io::duplex(16);
        let mut near = Unstalled::new(near, Patience::default());
        near.write_all(&[0; 16]).await.expect("there is room");
        let begun = Instant::now();
        let error = near.write_all(&[0; 1]).await.expect_err("nobody reads");
        assert_eq!((error.kind(), begun.elapsed()), (io::ErrorKind::TimedOut, STALL_LIMIT));
        drop(far);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_begin_is_given_up() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut near = Unstalled::new(near, Patience::default());
        let begun = Instant::now();
        let mut buffer = [0; 64];
        far.write_all(&[0; OPENING_BYTES - 1]).await.expect("there is room");
        assert_eq!(near.read(&mut buffer).await.expect("that came"), OPENING_BYTES - 1);
        let error = near.read(&mut buffer).await.expect_err("nothing more comes");
        assert_eq!((error.kind(), begun.elapsed()), (io::ErrorKind::TimedOut, OPENING_LIMIT));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_has_begun_may_be_idle() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut near = Unstalled::new(near, Patience::default());
        let mut buffer = [0; OPENING_BYTES];
        far.write_all(&buffer).await.expect("there is room");
        near.read_exact(&mut buffer).await.expect("that came");
        let idle = tokio::time::timeout(OPENING_LIMIT * 10, near.read(&mut buffer)).await;
        assert!(idle.is_err(), "it waits on: {idle:?}");
    }
}
