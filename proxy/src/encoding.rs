//! Content encodings: what a body says once it is decompressed, within bounds, whole or while it streams by.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;

/// How a body is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// gzip, one member or several.
    Gzip,
    /// `deflate`: a zlib stream; some senders leave its header out.
    Deflate,
    /// Another one, or several.
    Unknown,
}

impl Encoding {
    /// The encoding that these headers name.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(CONTENT_ENCODING).iter();
        match (values.next(), values.next()) {
            (None, _) => Self::Identity,
            (Some(value), None) => Self::named(value.to_str().unwrap_or("?").trim()),
            (Some(_), Some(_)) => Self::Unknown,
        }
    }

    fn named(name: &str) -> Self {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if name.is_empty() || is("identity") {
            Self::Identity
        } else if is("gzip") || is("x-gzip") {
            Self::Gzip
        } else if is("deflate") {
            Self::Deflate
        } else {
            Self::Unknown
        }
    }
}

/// A body that can't be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// In an encoding that is not read here.
    #[error("its Content-Encoding is not one of identity, gzip and deflate")]
    Unknown,
    /// Not what its encoding says.
    #[error("it is not what its Content-Encoding says")]
    Broken,
    /// Larger than the caller takes, once decoded.
    #[error("it is larger than {0} bytes once decoded")]
    TooLarge(usize),
}

/// Decodes a whole body of at most `limit` bytes once decoded.
///
/// # Errors
/// [`Undecodable`]. A bomb costs no more memory than the limit.
pub fn decode(encoding: Encoding, body: &[u8], limit: usize) -> Result<Vec<u8>, Undecodable> {
    let mut decoder = Decoder::new(encoding, Bounded { content: Vec::new(), room: limit, over: false });
    decoder.feed(body);
    let (bounded, whole) = decoder.finish().ok_or(Undecodable::Unknown)?;
    match whole {
        _ if bounded.over => Err(Undecodable::TooLarge(limit)),
        true => Ok(bounded.content),
        false => Err(Undecodable::Broken),
    }
}

/// The beginning of a body, decoded as it comes, up to a limit.
#[derive(Debug)]
pub struct Beginning(Decoder<Bounded>);

impl Beginning {
    /// Of a body in this encoding, at most `limit` bytes once decoded.
    #[must_use]
    pub fn new(encoding: Encoding, limit: usize) -> Self {
        Self(Decoder::new(encoding, Bounded { content: Vec::new(), room: limit, over: false }))
    }

    /// Takes the next piece.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.0.feed(bytes);
        self.0.flush();
    }

    /// What is decoded so far, and why it will never be more.
    #[must_use]
    pub fn decoded(&self) -> (&[u8], Option<Undecodable>) {
        match self.0.sink() {
            None => (&[], Some(Undecodable::Unknown)),
            Some(bounded) if bounded.over => {
                (&bounded.content, Some(Undecodable::TooLarge(bounded.content.len())))
            }
            Some(bounded) => (&bounded.content, self.0.broken.then_some(Undecodable::Broken)),
        }
    }
}

#[derive(Debug, Default)]
struct Bounded {
    content: Vec<u8>,
    room: usize,
    over: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.room);
        self.content.extend_from_slice(&bytes[..taken]);
        self.room -= taken;
        self.over |= taken < bytes.len();
        if self.over { Err(io::Error::other("over the limit")) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Decodes a body piece by piece into a sink. After an error the rest is ignored, and [`Decoder::finish`] says so.
#[derive(Debug)]
pub struct Decoder<W: Write + Default> {
    inner: Inner<W>,
    begun: bool,
    broken: bool,
}

#[derive(Debug)]
enum Inner<W: Write> {
    Identity(W),
    Gzip(Box<MultiGzDecoder<W>>),
    Deflate(Box<Inflate<W>>),
    Unknown,
}

impl<W: Write + Default> Decoder<W> {
    /// A decoder into `sink`.
    pub fn new(encoding: Encoding, sink: W) -> Self {
        let inner = match encoding {
            Encoding::Identity => Inner::Identity(sink),
            Encoding::Gzip => Inner::Gzip(Box::new(MultiGzDecoder::new(sink))),
            Encoding::Deflate => Inner::Deflate(Box::new(Inflate::new(sink))),
            Encoding::Unknown => Inner::Unknown,
        };
        Self { inner, begun: false, broken: false }
    }

    /// Takes the next piece.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.broken || bytes.is_empty() {
            return;
        }
        self.begun = true;
        let written = match &mut self.inner {
            Inner::Identity(sink) => sink.write_all(bytes),
            Inner::Gzip(decoder) => decoder.write_all(bytes),
            Inner::Deflate(inflate) => inflate.write(bytes),
            Inner::Unknown => Ok(()),
        };
        self.broken = written.is_err();
    }

    /// Brings all that can be decoded so far to the sink: decoders hold back what fills no buffer.
    fn flush(&mut self) {
        if let Inner::Gzip(decoder) = &mut self.inner
            && !self.broken
        {
            self.broken = decoder.flush().is_err();
        }
    }

    /// True when the data did not fit the encoding, or the sink took no more.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// The sink; `None` for an unknown encoding.
    pub fn sink(&self) -> Option<&W> {
        match &self.inner {
            Inner::Identity(sink) => Some(sink),
            Inner::Gzip(decoder) => Some(decoder.get_ref()),
            Inner::Deflate(inflate) => Some(&inflate.sink),
            Inner::Unknown => None,
        }
    }

    /// The sink, and whether the body was whole and what its encoding says; `None` for an unknown encoding. An empty body
    /// is whole in every encoding.
    pub fn finish(self) -> Option<(W, bool)> {
        let (sink, ended) = match self.inner {
            Inner::Identity(sink) => (sink, true),
            Inner::Gzip(mut decoder) => {
                let ended = decoder.try_finish().is_ok();
                (std::mem::take(decoder.get_mut()), ended)
            }
            Inner::Deflate(inflate) => (inflate.sink, inflate.ended),
            Inner::Unknown => return None,
        };
        Some((sink, !self.broken && (ended || !self.begun)))
    }
}

/// Bytes that tell a zlib header from raw deflate.
const ZLIB_HEADER: usize = 2;

/// Bytes that are inflated at once.
const INFLATE_BUFFER: usize = 16 * 1024;

#[derive(Debug)]
struct Inflate<W> {
    /// The first bytes, until they tell which it is.
    head: Vec<u8>,
    state: Option<Decompress>,
    sink: W,
    ended: bool,
}

impl<W: Write> Inflate<W> {
    fn new(sink: W) -> Self {
        Self { head: Vec::new(), state: None, sink, ended: false }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(mut state) = self.state.take() {
            let written = self.inflate(&mut state, bytes);
            self.state = Some(state);
            return written;
        }
        self.head.extend_from_slice(bytes);
        if self.head.len() < ZLIB_HEADER {
            return Ok(());
        }
        let head = std::mem::take(&mut self.head);
        self.state = Some(Decompress::new(is_zlib(&head)));
        self.write(&head)
    }

    fn inflate(&mut self, state: &mut Decompress, mut bytes: &[u8]) -> io::Result<()> {
        let mut buffer = [0; INFLATE_BUFFER];
        while !self.ended {
            let (read, written) = (state.total_in(), state.total_out());
            let status = state.decompress(bytes, &mut buffer, FlushDecompress::None)?;
            let read = usize::try_from(state.total_in() - read).map_err(io::Error::other)?;
            let written = usize::try_from(state.total_out() - written).map_err(io::Error::other)?;
            self.sink.write_all(&buffer[..written])?;
            bytes = &bytes[read..];
            self.ended = status == Status::StreamEnd;
            if !self.ended && bytes.is_empty() && written < buffer.len() {
                return Ok(());
            }
            if !self.ended && read == 0 && written == 0 {
                return Err(io::Error::other("no progress"));
            }
        }
        if bytes.is_empty() { Ok(()) } else { Err(io::Error::other("bytes after the end")) }
    }
}

/// RFC 1950: deflate with a window of at most 32 KiB, and a check that makes the two bytes a multiple of 31.
fn is_zlib(head: &[u8]) -> bool {
    let (first, second) = (head[0], head[1]);
    first & 0x0f == 8 && first >> 4 <= 7 && u16::from_be_bytes([first, second]) % 31 == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use proptest::prelude::*;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(content).expect("memory");
        encoder.finish().expect("memory")
    }

    fn zlib(content: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(content).expect("memory");
        encoder.finish().expect("memory")
    }

    fn raw(content: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(content).expect("memory");
        encoder.finish().expect("memory")
    }

    fn in_pieces(encoding: Encoding, body: &[u8], piece: usize) -> (Vec<u8>, bool) {
        let mut decoder = Decoder::new(encoding, Vec::new());
        body.chunks(piece).for_each(|piece| decoder.feed(piece));
        decoder.finish().expect("a known encoding")
    }

    #[test]
    fn encodings_are_read_from_the_headers() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_ENCODING, value.parse().expect("a value"));
            }
            Encoding::of(&headers)
        };
        assert_eq!(of(&[]), Encoding::Identity);
        assert_eq!(of(&["GZip"]), Encoding::Gzip);
        assert_eq!(of(&["deflate"]), Encoding::Deflate);
        for several in [&["br"][..], &["gzip, gzip"], &["gzip", "gzip"], &["identity", "gzip"]] {
            assert_eq!(of(several), Encoding::Unknown, "{several:?}");
        }
    }

    #[test]
    fn bombs_and_lies_are_refused() {
        let bomb = gzip(&vec![0; 1 << 20]);
        assert!(bomb.len() < 10_000);
        assert_eq!(decode(Encoding::Gzip, &bomb, 1 << 19), Err(Undecodable::TooLarge(1 << 19)));
        assert_eq!(decode(Encoding::Deflate, &zlib(&vec![0; 1 << 20]), 99), Err(Undecodable::TooLarge(99)));
        assert_eq!(decode(Encoding::Identity, b"abcd", 3), Err(Undecodable::TooLarge(3)));
        assert_eq!(decode(Encoding::Identity, b"abcd", 4).as_deref(), Ok(&b"abcd"[..]));
        assert_eq!(decode(Encoding::Gzip, b"{\"query\":1}", 99), Err(Undecodable::Broken));
        assert_eq!(decode(Encoding::Gzip, b"\x1f\x8b", 99), Err(Undecodable::Broken));
        assert_eq!(decode(Encoding::Unknown, b"", 99), Err(Undecodable::Unknown));
        for (encoding, body) in [
            (Encoding::Gzip, gzip(b"SELECT 1")),
            (Encoding::Deflate, zlib(b"SELECT 1")),
            (Encoding::Deflate, raw(b"SELECT 1")),
        ] {
            assert_eq!(decode(encoding, &body, 99).as_deref(), Ok(&b"SELECT 1"[..]));
            assert_eq!(decode(encoding, &body[..body.len() - 1], 99), Err(Undecodable::Broken), "cut off");
            assert_eq!(
                decode(encoding, &[&body[..], b"x"].concat(), 99),
                Err(Undecodable::Broken),
                "more after it"
            );
            assert_eq!(decode(encoding, b"", 99).as_deref(), Ok(&b""[..]), "an empty body is empty");
        }
    }

    #[test]
    fn the_beginning_is_there_as_soon_as_its_bytes_are() {
        let noise: Vec<u8> =
            (0..50_000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        for (encoding, body) in [
            (Encoding::Identity, noise.clone()),
            (Encoding::Gzip, gzip(&noise)),
            (Encoding::Deflate, zlib(&noise)),
        ] {
            let mut beginning = Beginning::new(encoding, 90_000);
            beginning.feed(&body[..body.len() / 4]);
            let (decoded, end) = beginning.decoded();
            assert!(
                decoded.len() > 30_000 && end.is_none() && noise.starts_with(decoded),
                "{encoding:?} {}",
                decoded.len()
            );
            beginning.feed(&body[body.len() / 4..]);
            let (decoded, end) = beginning.decoded();
            assert_eq!((decoded, end), (&noise[..90_000], Some(Undecodable::TooLarge(90_000))));
        }
        let mut lie = Beginning::new(Encoding::Gzip, 99);
        lie.feed(b"--x\r\ncontent-type");
        assert_eq!(lie.decoded().1, Some(Undecodable::Broken));
    }

    #[test]
    fn several_gzip_members_are_one_body() {
        let body = [gzip(b"SELECT "), gzip(b"1")].concat();
        assert_eq!(decode(Encoding::Gzip, &body, 99).as_deref(), Ok(&b"SELECT 1"[..]));
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(content: Vec<u8>, piece in 1usize..40) {
            for (encoding, body) in [
                (Encoding::Identity, content.clone()),
                (Encoding::Gzip, gzip(&content)),
                (Encoding::Deflate, zlib(&content)),
            ] {
                prop_assert_eq!(in_pieces(encoding, &body, piece), (content.clone(), true));
            }
        }

        #[test]
        fn any_bytes_end(bytes: Vec<u8>, piece in 1usize..9) {
            for encoding in [Encoding::Gzip, Encoding::Deflate] {
                let _decoded = in_pieces(encoding, &bytes, piece);
            }
        }
    }
}
