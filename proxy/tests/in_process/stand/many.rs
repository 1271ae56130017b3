//! Large bodies.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};

const PIECE: usize = 64 * 1024;

/// Many bytes that nobody holds.
pub struct Many {
    pub left: usize,
}

impl Body for Many {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        static ZEROS: [u8; PIECE] = [0; PIECE];
        let piece = self.left.min(PIECE);
        self.left -= piece;
        Poll::Ready((piece > 0).then(|| Ok(Frame::data(Bytes::from_static(&ZEROS[..piece])))))
    }
}
