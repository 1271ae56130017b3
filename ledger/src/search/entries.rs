//! Entries in a row: the answer of `GET /v1/entries?tile=N`. Each comes after a line with its index and its length, and before a
//! newline, as in a bundle.

use crate::bundle::group;
use crate::entry::MAX_ENTRY;
use crate::tile::TILE_WIDTH;

/// Greatest length of an answer, in bytes.
pub const MAX_ANSWER: usize = group::MAX_GROUP;

/// The bytes are not entries in a row.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {0}: not an entry after its index and length")]
pub struct BadRow(pub usize);

/// Appends one entry.
pub fn push(row: &mut Vec<u8>, index: u64, leaf: &[u8]) {
    group::push(row, index, leaf);
}

/// The entries, each with its index: at most [`TILE_WIDTH`], in ascending order.
///
/// # Errors
/// [`BadRow`]
pub fn parse(row: &[u8]) -> Result<Vec<(u64, &[u8])>, BadRow> {
    let (mut entries, mut rest): (Vec<(u64, &[u8])>, _) = (Vec::new(), row);
    while !rest.is_empty() {
        let bad = || BadRow(row.len() - rest.len());
        let (index, leaf, after) = next(rest).ok_or_else(bad)?;
        let follows = entries.last().is_none_or(|(last, _)| *last < index);
        if !follows || entries.len() as u64 == TILE_WIDTH {
            return Err(bad());
        }
        entries.push((index, leaf));
        rest = after;
    }
    Ok(entries)
}

fn next(row: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let end = row.iter().take(group::MAX_LINE).position(|byte| *byte == b'\n')?;
    let (index, size) = std::str::from_utf8(&row[..end]).ok()?.split_once(' ')?;
    let number = crate::checkpoint::decimal; // one number, one spelling
    let (index, size) = (number(index)?, usize::try_from(number(size)?).ok()?);
    let body = row.get(end + 1..).filter(|_| size <= MAX_ENTRY)?;
    let (leaf, after) = (body.get(..size)?, body.get(size..)?);
    Some((index, leaf, after.strip_prefix(b"\n")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let mut row = Vec::new();
        push(&mut row, 7, b"{}");
        push(&mut row, 300, b"");
        assert_eq!(parse(&row), Ok(vec![(7, &b"{}"[..]), (300, &b""[..])]));
        assert_eq!(parse(b""), Ok(Vec::new()));
    }

    #[test]
    fn anything_else_is_refused() {
        let wrong: [&[u8]; 9] = [
            b"7 2\n{}",
            b"7 3\n{}\n",
            b"7 2\n{} ",
            b"07 2\n{}\n",
            b"7 2\n{}\n7 2\n{}\n",
            b"8 2\n{}\n7 2\n{}\n",
            b"7\n",
            b"7 99999999\n",
            b"99999999999999999999999999999999999 1\n",
        ];
        for row in wrong {
            assert!(parse(row).is_err(), "{:?}", String::from_utf8_lossy(row));
        }
    }
}
