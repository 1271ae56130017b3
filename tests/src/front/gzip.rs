//! A body that is compressed as it goes by.

use std::io::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::{Body, Frame};

/// `inner`, gzipped. Each frame is flushed, so that nothing waits for what comes later; trailers are kept.
#[derive(Debug)]
pub(super) struct Gzip<B> {
    inner: B,
    /// `None` when the end of the stream was written.
    encoder: Option<GzEncoder<Vec<u8>>>,
    trailers: Option<Frame<Bytes>>,
}

impl<B> Gzip<B> {
    pub(super) fn new(inner: B) -> Self {
        Self { inner, encoder: Some(GzEncoder::new(Vec::new(), Compression::fast())), trailers: None }
    }

    fn compress(&mut self, data: &[u8]) -> Bytes {
        let Some(encoder) = &mut self.encoder else { return Bytes::new() };
        encoder.write_all(data).and_then(|()| encoder.flush()).expect("a Vec takes all that is written");
        Bytes::from(std::mem::take(encoder.get_mut()))
    }

    fn finish(&mut self) -> Option<Bytes> {
        let rest = self.encoder.take()?.finish().expect("a Vec takes all that is written");
        Some(Bytes::from(rest))
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Gzip<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if self.encoder.is_none() {
            return Poll::Ready(self.trailers.take().map(Ok));
        }
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        Poll::Ready(match frame.transpose()? {
            None => self.finish().map(|rest| Ok(Frame::data(rest))),
            Some(frame) => match frame.into_data() {
                Ok(data) => Some(Ok(Frame::data(self.compress(&data)))),
                Err(trailers) => {
                    self.trailers = Some(trailers);
                    self.finish().map(|rest| Ok(Frame::data(rest)))
                }
            },
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::convert::Infallible;
    use std::io::Read as _;

    use flate2::read::GzDecoder;
    use http::HeaderMap;
    use http_body_util::{BodyExt as _, Channel};

    use super::*;

    #[tokio::test]
    async fn each_frame_can_be_read_at_once_and_trailers_come_last() {
        let (mut sender, body) = Channel::<Bytes, Infallible>::new(4);
        let mut gzip = Gzip::new(body);
        sender.send_data(Bytes::from("first ")).await.unwrap();
        let first = gzip.frame().await.unwrap().unwrap().into_data().unwrap();
        let mut read = [0; 6];
        GzDecoder::new(&first[..]).read_exact(&mut read).unwrap();
        assert_eq!(&read, b"first ");

        sender.send_data(Bytes::from("second")).await.unwrap();
        let trailers = HeaderMap::from_iter([(http::header::ETAG, "x".parse().unwrap())]);
        sender.send_trailers(trailers.clone()).await.unwrap();
        drop(sender);
        let rest = gzip.collect().await.unwrap();
        assert_eq!(rest.trailers(), Some(&trailers));
        let (whole, mut text) = ([first, rest.to_bytes()].concat(), String::new());
        GzDecoder::new(&whole[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, "first second");
    }
}
