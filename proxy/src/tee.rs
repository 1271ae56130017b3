//! Reading along with a body that streams by: its bytes are counted, its decoded content is hashed, and its beginning is kept.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::HeaderMap;
use ledger::call::{BodyDigest, BodySoFar, RowsSent};
use ledger::digest::Digest;
use sha2::{Digest as _, Sha256};

use crate::bigquery::RowCounter;
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
    /// Its rows, if they were counted and it was whole.
    pub rows: Option<RowsSent>,
}

impl Tee {
    /// Reads along with a body under these headers, and keeps at most `keep` bytes of its content.
    #[must_use]
    pub fn new(headers: &HeaderMap, keep: usize) -> Self {
        Self::into_sink(headers, Sink { keep, hasher: Some(Sha256::new()), ..Sink::default() })
    }

    /// The same without a digest.
    #[must_use]
    pub fn unhashed(headers: &HeaderMap, keep: usize) -> Self {
        Self::into_sink(headers, Sink { keep, ..Sink::default() })
    }

    /// The same, of a body of an insertAll, whose rows are counted.
    #[must_use]
    pub fn of_rows(headers: &HeaderMap) -> Self {
        let (hasher, rows) = (Some(Sha256::new()), Some(RowCounter::default()));
        Self::into_sink(headers, Sink { hasher, rows, ..Sink::default() })
    }

    fn into_sink(headers: &HeaderMap, sink: Sink) -> Self {
        Self { decoder: Decoder::new(Encoding::of(headers), sink), wire_bytes: 0 }
    }

    /// What has passed.
    #[must_use]
    pub fn so_far(&self) -> BodySoFar {
        let sink = self.decoder.sink().filter(|_| !self.decoder.is_broken());
        BodySoFar {
            wire_bytes: self.wire_bytes,
            content_bytes: sink.map_or(0, |sink| sink.content_bytes),
            digest: sink.and_then(|sink| sink.hasher.clone()).map(sealed),
        }
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
                rows: None,
            };
        };
        let whole = whole && complete;
        let digest = sink.hasher.filter(|_| whole).map(sealed);
        let truncated = !whole || sink.content_bytes > sink.kept.len() as u64;
        let rows = sink.rows.filter(|_| whole).and_then(|rows| rows.finish());
        Teed { body: BodyDigest { wire_bytes, digest }, kept: sink.kept, truncated, rows }
    }
}

/// A body that passes, shared by who passes it on and who asks how far it is. Clones share it.
#[derive(Clone, Debug)]
pub struct Passing(Arc<Mutex<Flow>>);

#[derive(Debug)]
enum Flow {
    Going(Box<Tee>),
    Ended { last: BodySoFar, body: BodyDigest, rows: Option<RowsSent> },
}

impl Passing {
    /// A body that `tee` reads along with.
    #[must_use]
    pub fn new(tee: Tee) -> Self {
        Self(Arc::new(Mutex::new(Flow::Going(Box::new(tee)))))
    }

    /// The next piece.
    pub fn feed(&self, bytes: &[u8]) {
        if let Flow::Going(tee) = &mut *self.lock() {
            tee.feed(bytes);
        }
    }

    /// The end; what the body was, the first time.
    pub fn finish(&self, complete: bool) -> Option<Teed> {
        let mut flow = self.lock();
        let Flow::Going(tee) = &*flow else { return None };
        let last = tee.so_far();
        let ended = Flow::Ended { last, body: BodyDigest::default(), rows: None };
        let Flow::Going(tee) = std::mem::replace(&mut *flow, ended) else { return None };
        let teed = tee.finish(complete);
        *flow = Flow::Ended { last, body: teed.body, rows: teed.rows };
        Some(teed)
    }

    /// Its size so far; the digest, and the rows that were counted, once all of it has passed.
    #[must_use]
    pub fn sum(&self) -> (BodyDigest, Option<RowsSent>) {
        match &*self.lock() {
            Flow::Going(tee) => (BodyDigest { wire_bytes: tee.wire_bytes, digest: None }, None),
            Flow::Ended { body, rows, .. } => (*body, *rows),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Flow> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner) // a torn tee has no whole digest
    }
}

impl deliver::Passing for Passing {
    /// What has passed so far, with the digest of it.
    fn so_far(&self) -> BodySoFar {
        match &*self.lock() {
            Flow::Going(tee) => tee.so_far(),
            Flow::Ended { last, .. } => *last,
        }
    }
}

#[derive(Debug, Default)]
struct Sink {
    hasher: Option<Sha256>,
    content_bytes: u64,
    keep: usize,
    kept: Vec<u8>,
    rows: Option<RowCounter>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.content_bytes += bytes.len() as u64;
        if self.content_bytes > DECODED_LIMIT {
            return Err(io::Error::other("more than is decoded of one body"));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        if let Some(rows) = &mut self.rows {
            rows.feed(bytes);
        }
        let room = self.keep - self.kept.len();
        self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn sealed(hasher: Sha256) -> Digest {
    Digest(hasher.finalize().into())
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
    fn without_a_digest_all_else_is_as_it_was() {
        let headers = HeaderMap::new();
        let told = |mut tee: Tee| {
            tee.feed(b"SELECT 1");
            let (so_far, teed) = (tee.so_far(), tee.finish(true));
            ((so_far.wire_bytes, so_far.content_bytes, teed.kept, teed.truncated), so_far.digest, teed.body)
        };
        let (hashed, plain) = (told(Tee::new(&headers, 7)), told(Tee::unhashed(&headers, 7)));
        assert_eq!(hashed.0, plain.0);
        assert_eq!((plain.1, plain.2), (None, BodyDigest { wire_bytes: 8, digest: None }));
        assert_eq!((hashed.1, hashed.2.digest), (hashed.2.digest, Some(Digest::of(b"SELECT 1"))));
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
