//! The bundle's outer form: a POSIX `ustar` archive of which there is exactly one for given members. Every header byte
//! follows from a member's name and length, so a reader makes the header that must be there and compares.

use std::io::{self, Read, Write};

use super::BadBundle;

/// Headers and contents fill whole blocks of this many bytes; the rest of the last one is zero.
pub(super) const BLOCK: usize = 512;

/// Greatest length of a name: the header's field. Our longest has 73 bytes.
const MAX_NAME: usize = 100;

/// Greatest length of a member: eleven octal digits.
const MAX_SIZE: u64 = 0o77_777_777_777;

/// A member's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) size: u64,
}

impl Member {
    /// The one header for this member; `None` when its name or length does not fit.
    pub(super) fn header(&self) -> Option<[u8; BLOCK]> {
        let fits = !self.name.is_empty() && self.name.len() < MAX_NAME && self.size <= MAX_SIZE;
        let plain = self.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b));
        if !fits || !plain {
            return None;
        }
        let mut header = [0; BLOCK];
        let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
        put(0, self.name.as_bytes());
        put(100, b"0000444\0"); // mode: evidence is read, not written
        put(108, b"0000000\0"); // uid
        put(116, b"0000000\0"); // gid
        put(124, format!("{:011o}\0", self.size).as_bytes());
        put(136, b"00000000000\0"); // mtime: the same members are the same bytes
        put(148, b"        "); // the checksum counts itself as spaces
        put(156, b"0"); // a regular file
        put(257, b"ustar\x0000");
        put(329, b"0000000\x000000000\0"); // device numbers
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        Some(header)
    }

    fn parse(header: &[u8; BLOCK]) -> Option<Self> {
        let name = header[..MAX_NAME].split(|byte| *byte == 0).next()?;
        let digits = std::str::from_utf8(&header[124..135]).ok()?;
        let name = std::str::from_utf8(name).ok()?.to_owned();
        let member = Self { name, size: u64::from_str_radix(digits, 8).ok()? };
        (member.header()? == *header).then_some(member)
    }
}

fn padding(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK as u64).expect("below 512");
    (BLOCK - over) % BLOCK
}

/// Writes members one after the other.
pub(super) struct ArchiveWriter<W> {
    out: W,
}

impl<W: Write> ArchiveWriter<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out }
    }

    pub(super) fn member(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let member = Member { name: name.into(), size: content.len() as u64 };
        let too_large = || io::Error::new(io::ErrorKind::InvalidInput, format!("{name} does not fit"));
        self.out.write_all(&member.header().ok_or_else(too_large)?)?;
        self.out.write_all(content)?;
        self.out.write_all(&[0; BLOCK][..padding(member.size)])
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Reads members one after the other, and holds none of them.
pub(super) struct ArchiveReader<R> {
    input: R,
    /// Bytes read so far.
    at: u64,
    /// Bytes of the current member that are not yet read, and how much padding follows it.
    left: u64,
    padding: usize,
}

impl<R: Read> ArchiveReader<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, at: 0, left: 0, padding: 0 }
    }

    /// How many bytes were read.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// The next member, whose content comes next; `None` at the archive's end, after which there is nothing.
    pub(super) fn next(&mut self) -> Result<Option<Member>, BadBundle> {
        debug_assert_eq!(self.left, 0, "the member before was read");
        let mut block = [0; BLOCK];
        self.fill(&mut block[..self.padding])?;
        if block.iter().any(|byte| *byte != 0) {
            return Err(BadBundle::Framing { at: self.at });
        }
        self.padding = 0;
        self.fill(&mut block)?;
        if block == [0; BLOCK] {
            self.fill(&mut block)?;
            return if block == [0; BLOCK] { self.end() } else { Err(BadBundle::Framing { at: self.at }) };
        }
        let member = Member::parse(&block).ok_or(BadBundle::Framing { at: self.at - BLOCK as u64 })?;
        (self.left, self.padding) = (member.size, padding(member.size));
        Ok(Some(member))
    }

    fn end(&mut self) -> Result<Option<Member>, BadBundle> {
        let mut byte = [0];
        loop {
            match self.input.read(&mut byte) {
                Ok(0) => return Ok(None),
                Ok(_) => return Err(BadBundle::Trailing { at: self.at }),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(BadBundle::Unreadable(error)),
            }
        }
    }

    /// Bytes of the current member that are not yet read.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// The next bytes of the current member, all of `buffer`.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<(), BadBundle> {
        let left = self.left.checked_sub(buffer.len() as u64);
        self.left = left.ok_or(BadBundle::Framing { at: self.at })?;
        self.fill(buffer)
    }

    /// The whole current member, which may have at most `limit` bytes.
    pub(super) fn content(&mut self, member: &Member, limit: usize) -> Result<Vec<u8>, BadBundle> {
        let size = usize::try_from(member.size).ok().filter(|size| *size <= limit);
        let size = size.ok_or_else(|| BadBundle::Large { name: member.name.clone(), limit })?;
        let mut content = Vec::new();
        // Only what is there is taken from memory: a header may promise more than the file has.
        let taken = self.input.by_ref().take(size as u64).read_to_end(&mut content);
        let taken = taken.map_err(BadBundle::Unreadable)?;
        self.at += taken as u64;
        self.left = 0;
        if taken == size { Ok(content) } else { Err(BadBundle::Truncated { at: self.at }) }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), BadBundle> {
        match self.input.read_exact(buffer) {
            Ok(()) => {
                self.at += buffer.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(BadBundle::Truncated { at: self.at })
            }
            Err(error) => Err(BadBundle::Unreadable(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_has_one_header() {
        let member = Member { name: "blobs/ab/cd".into(), size: 7 };
        let header = member.header().expect("it fits");
        assert_eq!(Member::parse(&header), Some(member));
        for place in 0..BLOCK {
            for bit in 0..8 {
                let mut changed = header;
                changed[place] ^= 1 << bit;
                assert_eq!(Member::parse(&changed), None, "byte {place}, bit {bit}");
            }
        }
    }

    #[test]
    fn names_that_go_elsewhere_have_no_header() {
        for name in ["", "a b", "a\\b", "ä", "a\nb", &"x".repeat(100)] {
            assert_eq!(Member { name: name.into(), size: 0 }.header(), None, "{name}");
        }
        assert_eq!(Member { name: "x".into(), size: MAX_SIZE + 1 }.header(), None);
    }
}
