//! What a peer sends that is no HTTP. hyper and h2 answer it by themselves, with a status and nothing else, or by resetting a
//! stream, and no handler hears of it. [`Faults`] stands between them and the peer: it counts each, and in HTTP/1.1 gives the
//! server's own answer in the place of the bare one.

mod bare;
mod frames;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use self::frames::{Frames, Preface};

pub use self::bare::is_bare;

/// A peer that was answered may still be sending its bad head, and would meet a reset before the answer. So many bytes are
/// read and forgotten before the connection is closed,
pub const LINGER_BYTES: usize = 4 << 20;

/// and for no longer than this.
pub const LINGER_TIME: Duration = Duration::from_secs(3);

/// What was wrong with what a peer sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A request's head that can't be read.
    MalformedHead,
    /// A head with too many bytes or headers.
    HeadTooLarge,
    /// A head that was begun and not finished in time. hyper says nothing then: the server has to.
    HeadTimeout,
    /// An HTTP/2 stream that had to be reset.
    Http2Stream,
    /// An HTTP/2 connection that had to be ended.
    Http2Connection,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::MalformedHead,
        Self::HeadTooLarge,
        Self::HeadTimeout,
        Self::Http2Stream,
        Self::Http2Connection,
    ];

    /// The fixed name: a metric's label.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::MalformedHead => "malformed_head",
            Self::HeadTooLarge => "head_too_large",
            Self::HeadTimeout => "head_timeout",
            Self::Http2Stream => "http2_stream",
            Self::Http2Connection => "http2_connection",
        }
    }
}

/// Hears of a fault, and says what an HTTP/1.1 peer is answered: a whole response, after which the connection ends. `None`
/// leaves hyper's own. For HTTP/2, whose frames say it all, the answer is not asked for.
pub type Answer = Box<dyn FnMut(Fault) -> Option<Bytes> + Send>;

/// A connection between a server of hyper's and its peer.
pub struct Faults<S> {
    stream: S,
    answer: Answer,
    /// What the peer said first. A server that speaks both versions reads it before it says anything.
    preface: Preface,
    speaks: Speaks,
}

enum Speaks {
    /// The server has said nothing yet.
    Unknown,
    Http1,
    /// The server's answer is on its way in the place of hyper's.
    Answering(Answering),
    Http2(Frames),
}

struct Answering {
    left: Bytes,
    closed: bool,
    room: usize,
    patience: Pin<Box<Sleep>>,
}

impl<S> Faults<S> {
    /// Watches what hyper makes of this connection.
    pub fn new(stream: S, answer: Answer) -> Self {
        Self { stream, answer, preface: Preface::default(), speaks: Speaks::Unknown }
    }

    /// The connection.
    pub fn into_inner(self) -> S {
        self.stream
    }

    /// The connection.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// Takes what hyper is about to write. How much of it is to be written, if not all.
    fn look_ahead(&mut self, bytes: &[u8]) -> Ahead {
        if matches!(self.speaks, Speaks::Unknown) {
            // An answer in HTTP/1.1 begins with "HTTP", and HTTP/2 with the length of its SETTINGS.
            let http1 = bytes.first() == Some(&b'H');
            self.speaks = if http1 { Speaks::Http1 } else { Speaks::Http2(Frames::default()) };
        }
        match self.speaks {
            Speaks::Unknown | Speaks::Http2(..) => Ahead::Pass,
            Speaks::Answering(_) => Ahead::Swallow,
            Speaks::Http1 => match bare::bare_answer(bytes) {
                None => Ahead::Pass,
                Some((0, fault)) => match (self.answer)(fault) {
                    None => Ahead::Pass,
                    Some(answer) => {
                        self.speaks = Speaks::Answering(Answering::new(answer));
                        Ahead::Swallow
                    }
                },
                Some((before, _)) => Ahead::First(before),
            },
        }
    }

    /// Hears what was written.
    fn wrote(&mut self, bytes: &[u8]) {
        if let Speaks::Http2(frames) = &mut self.speaks {
            let answer = &mut self.answer;
            frames.feed(bytes, |fault| drop(answer(fault)));
        }
    }
}

enum Ahead {
    Pass,
    /// Only these bytes for now.
    First(usize),
    /// None of it.
    Swallow,
}

impl Answering {
    fn new(left: Bytes) -> Self {
        let patience = Box::pin(tokio::time::sleep(LINGER_TIME));
        Self { left, closed: false, room: LINGER_BYTES, patience }
    }

    fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.left.is_empty() {
            let written = ready!(Pin::new(&mut *stream).poll_write(cx, &self.left))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.left.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Says that nothing more will be said, and hears the peer out.
    fn poll_close<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_write(stream, cx))?;
        if !self.closed {
            ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
            self.closed = true;
        }
        let mut heard = [0; 8192];
        while self.room > 0 && self.patience.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut heard);
            match ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {
                    self.room = self.room.saturating_sub(buffer.filled().len());
                }
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Faults<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        let goes_on = this.preface.goes_on(&buffer.filled()[before..]);
        if !goes_on && matches!(this.speaks, Speaks::Http2(..)) {
            let _frames_say_it = (this.answer)(Fault::Http2Connection);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Faults<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let bytes = match this.look_ahead(bytes) {
            Ahead::Pass => bytes,
            Ahead::First(count) => &bytes[..count],
            Ahead::Swallow => return Poll::Ready(Ok(bytes.len())),
        };
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, bytes))?;
        this.wrote(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut filled = buffers.iter().filter(|buffer| !buffer.is_empty());
        if let (Some(only), None) = (filled.next(), filled.next()) {
            return self.poll_write(cx, only); // what hyper says by itself comes alone
        }
        let this = &mut *self;
        if let Some(first) = buffers.iter().find(|buffer| !buffer.is_empty())
            && matches!(this.speaks, Speaks::Unknown)
        {
            this.look_ahead(first);
        }
        let mut written = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, buffers))?;
        let all = written;
        for buffer in buffers {
            let count = written.min(buffer.len());
            this.wrote(&buffer[..count]);
            written -= count;
        }
        Poll::Ready(Ok(all))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Speaks::Answering(answering) = &mut this.speaks {
            ready!(answering.poll_write(&mut this.stream, cx))?;
        }
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match &mut this.speaks {
            Speaks::Answering(answering) => answering.poll_close(&mut this.stream, cx),
            Speaks::Unknown | Speaks::Http1 | Speaks::Http2(..) => {
                Pin::new(&mut this.stream).poll_shutdown(cx)
            }
        }
    }
}

#[cfg(test)]
mod tests;
