//! Reading along with a body that streams by: its bytes are counted, its decoded content is hashed, and its beginning is kept.

use std::io::{self, Write};

use http::HeaderMap;
use ledger::call::BodyDigest;
use ledger::digest::Digest;
use sha2::{Digest as _, Sha256};

use crate::encoding::{Decoder, Encoding};

/// Most bytes of one body that are decoded (4 GiB), against bodies that expand without end. A longer body passes untouched
/// and is recorded without a digest.
const DECODED_LIMIT: u64 = 4 << 30;

/// Reads along with one body.
#[derive(Debug)]
pub struct Tee {
    decoder: Decoder<Sink>,
    wire_bytes: u64,
}

/// What a body was.
#[derive(Debug)]
pub struct Teed {
    /// Its size and its digest; no digest when it broke off, or is not what its encoding says.
    pub body: BodyDigest,
    /// The beginning of its content, decoded.
    pub kept: Vec<u8>,
    /// There is more than what was kept, or it could not be decoded to the end.
    pub truncated: bool,
}

impl Tee {
    /// Reads along with a body under these headers, and keeps at most `keep` bytes of its content.
    #[must_use]
    pub fn new(headers: &HeaderMap, keep: usize) -> Self {
        let sink = Sink { keep, ..Sink::default() };
        Self { decoder: Decoder::new(Encoding::of(headers), sink), wire_bytes: 0 }
    }

    /// The next piece, as it is on the wire.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.wire_bytes += bytes.len() as u64;
        self.decoder.feed(bytes);
    }

    /// The end. `complete` says that it was the body's own.
    #[must_use]
    pub fn finish(self, complete: bool) -> Teed {
        let wire_bytes = self.wire_bytes;
        let Some((sink, whole)) = self.decoder.finish() else {
            return Teed {
                body: BodyDigest { wire_bytes, digest: None },
                kept: Vec::new(),
                truncated: wire_bytes > 0,
            };
        };
        let whole = whole && complete;
        let digest = whole.then(|| Digest(sink.hasher.finalize().into()));
        let truncated = !whole || sink.content_bytes > sink.kept.len() as u64;
        Teed { body: BodyDigest { wire_bytes, digest }, kept: sink.kept, truncated }
    }
}

#[derive(Debug, Default)]
struct Sink {
    hasher: Sha256,
    content_bytes: u64,
    keep: usize,
    kept: Vec<u8>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.content_bytes += bytes.len() as u64;
        if self.content_bytes > DECODED_LIMIT {
            return Err(io::Error::other("more than is decoded of one body"));
        }
        self.hasher.update(bytes);
        let room = self.keep - self.kept.len();
        self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::CONTENT_ENCODING;

    fn teed(encoding: Option<&'static str>, pieces: &[&[u8]], keep: usize, complete: bool) -> Teed {
        let mut headers = HeaderMap::new();
        if let Some(encoding) = encoding {
            headers.insert(CONTENT_ENCODING, http::HeaderValue::from_static(encoding));
        }
        let mut tee = Tee::new(&headers, keep);
        pieces.iter().for_each(|piece| tee.feed(piece));
        tee.finish(complete)
    }

    #[test]
    fn hashed_whole_and_kept_in_part() {
        let all = teed(None, &[b"SELECT", b" 1"], 100, true);
        assert_eq!((all.body.wire_bytes, all.body.digest), (8, Some(Digest::of(b"SELECT 1"))));
        assert_eq!((&all.kept[..], all.truncated), (&b"SELECT 1"[..], false));
        let part = teed(None, &[b"SELECT", b" 1"], 7, true);
        assert_eq!((&part.kept[..], part.truncated), (&b"SELECT "[..], true));
        assert_eq!(part.body.digest, all.body.digest);
        assert!(!teed(None, &[b"SELECT 1"], 8, true).truncated);
    }

    #[test]
    fn what_broke_off_has_no_digest() {
        let broken = teed(None, &[b"SELECT"], 100, false);
        assert_eq!((broken.body.wire_bytes, broken.body.digest, broken.truncated), (6, None, true));
        let lie = teed(Some("gzip"), &[b"SELECT 1"], 100, true);
        assert_eq!((lie.body.wire_bytes, lie.body.digest, lie.truncated), (8, None, true));
        let unknown = teed(Some("br"), &[b"SELECT 1"], 100, true);
        assert_eq!((unknown.body.wire_bytes, unknown.body.digest, unknown.truncated), (8, None, true));
        let empty = teed(Some("gzip"), &[], 100, true);
        assert_eq!((empty.body.digest, empty.truncated), (Some(Digest::of(b"")), false));
    }
}
