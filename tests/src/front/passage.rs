//! An answer's body on its way out: whole, in pieces, or broken off.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use hyper::body::{Body, Frame};
use tokio::time::Sleep;

use super::wire::Switch;

/// Why a body ends before its end.
pub(super) type BrokenOff = Box<dyn Error + Send + Sync>;

/// What a request meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its connection (its stream, in HTTP/2) is closed without an answer.
    HangUp,
    /// Its connection is reset after half of the answer's first piece.
    Reset,
    /// Nothing more is sent after half of the answer's first piece, and the connection is closed to that side alone.
    HalfClose,
    /// Nothing more is sent after half of the answer's first piece, and the connection stays open.
    Stall,
}

/// A slow body.
#[derive(Clone, Copy, Debug)]
pub struct Drip {
    /// So many bytes at once.
    pub bytes: usize,
    /// And then so long nothing.
    pub pause: Duration,
}

/// The body as it goes out.
pub(super) struct Passage<B> {
    inner: B,
    switch: Arc<Switch>,
    fault: Option<Fault>,
    drip: Option<Drip>,
    /// Of the frame that came last.
    rest: Bytes,
    pausing: Option<Pin<Box<Sleep>>>,
    broken_off: bool,
}

impl<B> Passage<B> {
    pub(super) fn new(inner: B, switch: Arc<Switch>, fault: Option<Fault>, drip: Option<Drip>) -> Self {
        Self { inner, switch, fault, drip, rest: Bytes::new(), pausing: None, broken_off: false }
    }

    /// The next piece of what is there.
    fn piece(&mut self) -> Bytes {
        let most = match (self.fault, self.drip) {
            (Some(_), _) => {
                self.broken_off = true;
                self.rest.remaining() / 2
            }
            (None, Some(drip)) => drip.bytes,
            (None, None) => self.rest.remaining(),
        };
        let piece = self.rest.split_to(most.min(self.rest.remaining()));
        self.pausing = self.drip.map(|drip| Box::pin(tokio::time::sleep(drip.pause)));
        piece
    }

    /// What was sent so far is flushed while this is pending; then the rest is kept back.
    fn break_off(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.fault {
            Some(Fault::Reset) if self.rest.is_empty() => {
                self.switch.reset();
                Poll::Ready(Some(Err("reset, as asked".into())))
            }
            Some(fault) => {
                if fault == Fault::HalfClose {
                    self.switch.half_close();
                }
                if !self.rest.is_empty() {
                    self.rest.clear();
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
            None => Poll::Ready(None),
        }
    }
}

impl<B> Body for Passage<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BrokenOff>,
{
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.broken_off {
            return self.break_off(cx);
        }
        if let Some(pausing) = &mut self.pausing {
            std::task::ready!(pausing.as_mut().poll(cx));
            self.pausing = None;
        }
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(self.piece()))));
        }
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        let frame = match frame.transpose().map_err(Into::into)? {
            None => return Poll::Ready(None),
            Some(frame) => frame,
        };
        match frame.into_data() {
            Ok(data) => {
                self.rest = data;
                Poll::Ready(Some(Ok(Frame::data(self.piece()))))
            }
            Err(trailers) => Poll::Ready(Some(Ok(trailers))),
        }
    }
}
