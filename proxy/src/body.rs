//! The two bodies of a call: what goes to BigQuery, and what goes to the agent. Both stream; neither is changed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use deliver::Going;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::capture::Captured;
use crate::tee::Passing;

/// What the agent is answered.
#[derive(Debug)]
pub enum AgentBody {
    /// Ours, or none.
    Own(Option<Bytes>),
    /// BigQuery's, recorded as it passes.
    Captured(Box<Captured>),
}

impl Body for AgentBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Captured(captured) => Pin::new(captured.as_mut()).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_none(),
            Self::Captured(captured) => captured.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Captured(captured) => captured.size_hint(),
        }
    }
}

/// What BigQuery is sent: what was read of the request's body before it left, then the rest as it comes.
#[derive(Debug)]
pub struct OutBody {
    read: Option<Bytes>,
    rest: Option<Incoming>,
    meter: Option<Meter>,
}

impl OutBody {
    /// A body that was read whole.
    #[must_use]
    pub fn whole(bytes: Bytes) -> Self {
        Self { read: Some(bytes).filter(|bytes| !bytes.is_empty()), rest: None, meter: None }
    }

    /// A body of which `read` was read; the rest streams.
    #[must_use]
    pub fn streamed(read: Bytes, rest: Option<Incoming>) -> Self {
        let rest = rest.filter(|rest| !rest.is_end_stream());
        Self { rest, ..Self::whole(read) }
    }

    /// What was not read yet, when nothing is to leave after all.
    #[must_use]
    pub fn into_rest(self) -> Option<Incoming> {
        self.rest
    }

    /// Reads along with the body as it leaves.
    #[must_use]
    pub fn metered(mut self, body: Passing, going: Arc<Going>) -> Self {
        if self.is_end_stream() {
            let _empty = body.finish(true);
        }
        self.meter = Some(Meter { body, going });
        self
    }

    fn poll_parts(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(read) = self.read.take() {
            return Poll::Ready(Some(Ok(Frame::data(read))));
        }
        match &mut self.rest {
            Some(rest) => Pin::new(rest).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }
}

impl Body for OutBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let body = self.get_mut();
        let polled = body.poll_parts(cx);
        let ended = body.is_end_stream();
        if let (Poll::Ready(frame), Some(meter)) = (&polled, &body.meter) {
            meter.read(frame.as_ref(), ended);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_none() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let read = self.read.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let rest = self.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + read);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + read);
        }
        hint
    }
}

/// Reads along with the request's body as it leaves.
#[derive(Debug)]
struct Meter {
    body: Passing,
    going: Arc<Going>,
}

impl Meter {
    fn read(&self, frame: Option<&Result<Frame<Bytes>, hyper::Error>>, ended: bool) {
        if let Some(Ok(frame)) = frame
            && let Some(data) = frame.data_ref()
        {
            self.body.feed(data);
            self.going.passed(data.len());
        }
        let _ended = match frame {
            Some(Ok(frame)) if !ended && !frame.is_trailers() => None,
            Some(Err(_)) => self.body.finish(false),
            Some(Ok(_)) | None => self.body.finish(true),
        };
    }
}
