//! A member with entries: for each a line with its index and length, its bytes, and a newline.

use super::BadBundle;
use super::archive::ArchiveReader;
use crate::entry::MAX_ENTRY;
use std::io::Read;

/// Greatest length of the line before an entry, in bytes: two numbers, a space, a newline.
pub(crate) const MAX_LINE: usize = 20 + 1 + 5 + 1;

/// Greatest length of a member with entries.
pub(crate) const MAX_GROUP: usize = 256 * (MAX_LINE + MAX_ENTRY + 1);

/// Appends one entry.
pub(crate) fn push(group: &mut Vec<u8>, index: u64, leaf: &[u8]) {
    group.extend_from_slice(format!("{index} {}\n", leaf.len()).as_bytes());
    group.extend_from_slice(leaf);
    group.push(b'\n');
}

/// Reads the next entry of the member into `leaf`; gives its index.
pub(super) fn next<R: Read>(archive: &mut ArchiveReader<R>, leaf: &mut Vec<u8>) -> Result<u64, BadBundle> {
    let at = archive.at();
    let framing = || BadBundle::Framing { at };
    let mut line = [0; MAX_LINE];
    let mut length = 0;
    loop {
        let byte = line.get_mut(length).ok_or_else(framing)?;
        archive.read(std::slice::from_mut(byte))?;
        if *byte == b'\n' {
            break;
        }
        length += 1;
    }
    let text = std::str::from_utf8(&line[..length]).map_err(|_| framing())?;
    let (index, size) = text.split_once(' ').ok_or_else(framing)?;
    let number = crate::checkpoint::decimal; // one number, one spelling
    let (index, size) = number(index).zip(number(size)).ok_or_else(framing)?;
    let size = usize::try_from(size).ok().filter(|size| *size <= MAX_ENTRY).ok_or_else(framing)?;
    leaf.resize(size, 0);
    archive.read(leaf)?;
    let mut end = [0];
    archive.read(&mut end)?;
    if end == [b'\n'] { Ok(index) } else { Err(framing()) }
}
