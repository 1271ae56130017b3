//! HTTP/2 as far as it tells of faults: the preface that comes in, and the frames that go out (RFC 9113, sections 3.4, 4.1, 6.4
//! and 6.8).

use super::Fault;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame's head: its payload's length, kind, flags and stream.
const HEAD: usize = 9;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;

/// So much is wanted of a payload: all of HEADERS that are as short as h2's own, and the others up to the end of the error code.
const SHORT_HEADERS: usize = 8;
const CODE_OF_RST_STREAM: usize = 4;
const CODE_OF_GOAWAY: usize = 8;

/// Flags of HEADERS that are a whole answer: END_STREAM and END_HEADERS.
const WHOLE: u8 = 0x5;

/// Error codes (section 7) that say that the peer did what it must not: PROTOCOL_ERROR, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR,
/// COMPRESSION_ERROR, ENHANCE_YOUR_CALM. The others are part of everyday life.
const FAULTS: [u32; 5] = [1, 3, 6, 9, 11];

/// How much of the preface has come.
#[derive(Default)]
pub(super) struct Preface(usize);

impl Preface {
    /// False once, when it turns out to be something else: h2 then ends the connection without a frame.
    pub(super) fn goes_on(&mut self, bytes: &[u8]) -> bool {
        let wanted = &PREFACE[self.0..];
        let count = wanted.len().min(bytes.len());
        let same = wanted[..count] == bytes[..count];
        self.0 = if same { self.0 + count } else { PREFACE.len() };
        same
    }
}

/// The frames that go out, in whatever pieces.
#[derive(Default)]
pub(super) struct Frames {
    /// The beginning of a frame, as far as it is wanted.
    begun: [u8; HEAD + CODE_OF_GOAWAY],
    length: usize,
    /// What is left of a frame of which enough is known.
    skip: usize,
    /// The last stream that h2 answered by itself. It may reset it next, which is no other fault.
    answered: [u8; 4],
    /// The connection was said to be over. h2 may say so again.
    over: bool,
}

impl Frames {
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut found: impl FnMut(Fault)) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return;
            }
            let taken = (self.wanted() - self.length).min(bytes.len());
            self.begun[self.length..self.length + taken].copy_from_slice(&bytes[..taken]);
            self.length += taken;
            bytes = &bytes[taken..];
            if self.length >= HEAD && self.length == self.wanted() {
                self.fault().into_iter().for_each(&mut found);
                self.skip = HEAD + self.payload() - self.length;
                self.length = 0;
            }
        }
    }

    /// So much of a frame is looked at.
    fn wanted(&self) -> usize {
        if self.length < HEAD { HEAD } else { HEAD + self.code_ends().min(self.payload()) }
    }

    fn payload(&self) -> usize {
        let [high, middle, low, ..] = self.begun;
        usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low)
    }

    fn code_ends(&self) -> usize {
        match self.begun[3] {
            HEADERS if self.payload() <= SHORT_HEADERS => SHORT_HEADERS,
            RST_STREAM => CODE_OF_RST_STREAM,
            GOAWAY => CODE_OF_GOAWAY,
            _ => 0,
        }
    }

    fn fault(&mut self) -> Option<Fault> {
        let [_, _, _, kind, flags, stream @ .., _, _, _, _, _, _, _, _] = self.begun;
        let payload = &self.begun[HEAD..self.length];
        let is_fault =
            || payload.last_chunk::<4>().is_some_and(|code| FAULTS.contains(&u32::from_be_bytes(*code)));
        match kind {
            HEADERS if flags & WHOLE == WHOLE && is_431_alone(payload) => {
                self.answered = stream;
                Some(Fault::HeadTooLarge)
            }
            RST_STREAM if stream != self.answered && is_fault() => Some(Fault::Http2Stream),
            GOAWAY if is_fault() => {
                (!std::mem::replace(&mut self.over, true)).then_some(Fault::Http2Connection)
            }
            _ => None,
        }
    }
}

/// Is this h2's own answer to a head that is too large: a status without any header? In HPACK (RFC 7541) 431 is a literal behind
/// the index of `:status`, and from the second time on an index of the dynamic table. Answers of handlers have headers.
fn is_431_alone(block: &[u8]) -> bool {
    const STATUS_431: [&[u8]; 2] = [&[0x48, 3, b'4', b'3', b'1'], &[0x48, 0x83, 0x69, 0x90, 0xff]];
    const FIRST_DYNAMIC: u8 = 0x80 | 62;
    const TABLE_SIZE: std::ops::RangeInclusive<u8> = 0x20..=0x3e;
    let block = match block {
        [first, rest @ ..] if TABLE_SIZE.contains(first) => rest,
        block => block,
    };
    STATUS_431.contains(&block) || matches!(block, [index] if *index >= FIRST_DYNAMIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        [&length[1..], &[kind, 0, 0, 0, 0, 1], payload].concat()
    }

    fn found(bytes: &[u8], piece: usize) -> Vec<Fault> {
        let (mut frames, mut found) = (Frames::default(), Vec::new());
        bytes.chunks(piece).for_each(|piece| frames.feed(piece, |fault| found.push(fault)));
        found
    }

    #[test]
    fn resets_and_ends_that_the_peer_caused_are_found_in_any_pieces() {
        let code = |code: u32| code.to_be_bytes();
        let goaway = |error: u32| frame(GOAWAY, &[&code(7)[..], &code(error), b"why"].concat());
        let out = [
            frame(4, &[0; 36]),
            frame(0, &[1; 300]),
            frame(RST_STREAM, &code(0)),
            frame(RST_STREAM, &code(1)),
            frame(4, &[]),
            frame(RST_STREAM, &code(8)),
            goaway(0),
            goaway(11),
        ]
        .concat();
        for piece in [1, 2, 7, 13, 4096] {
            assert_eq!(found(&out, piece), [Fault::Http2Stream, Fault::Http2Connection], "{piece}");
        }
    }

    #[test]
    fn h2s_own_answer_to_a_large_head_is_found_once() {
        let headers = |flags: u8, block: &[u8]| {
            let mut frame = frame(HEADERS, block);
            frame[4] = flags;
            frame
        };
        let literal = [0x48, 3, b'4', b'3', b'1'];
        let out = [
            headers(WHOLE, &literal),
            frame(RST_STREAM, &1_u32.to_be_bytes()), // of the same stream
            headers(WHOLE, &[0x3e, 0xbe]),
            headers(WHOLE, &[0x89]),       // 204
            headers(4, &[0xbe]),           // a body follows
            headers(WHOLE, &[0xbe, 0xbf]), // a header follows
        ]
        .concat();
        for piece in [1, 5, 4096] {
            assert_eq!(found(&out, piece), [Fault::HeadTooLarge; 2], "{piece}");
        }
    }

    #[test]
    fn a_preface_is_looked_at_until_it_is_whole() {
        let mut preface = Preface::default();
        assert!(preface.goes_on(&PREFACE[..10]) && preface.goes_on(&PREFACE[10..]) && preface.goes_on(b"x"));
        let mut other = Preface::default();
        assert!(!other.goes_on(b"GET / HTTP/1.1\r\n"));
        assert!(other.goes_on(b"once is enough"));
    }
}
