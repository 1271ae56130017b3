//! Batches: how statements and the blobs that they name travel to the recorder in one request.
//!
//! A batch is a sequence of records: one byte of type (`B` blob, `S` statement), the length as a big-endian `u32`, and that
//! many bytes. Blobs come before the first statement. A batch is taken whole or not at all.

use crate::blob::{BadBlob, Blob, MAX_CONTENT, SALT_LEN};
use crate::statement::{BadStatement, MAX_STATEMENT};

/// The media type of a batch.
pub const MEDIA_TYPE: &str = "application/vnd.bqwitness.batch.v1";

/// Greatest length of a batch, in bytes (32 MiB); the recorder answers 413 above it.
pub const MAX_BATCH: usize = 32 << 20;

/// Most statements in a batch; the recorder answers 400 above it.
pub const MAX_STATEMENTS: usize = 512;

/// Most blobs in a batch; the recorder answers 400 above it.
pub const MAX_BLOBS: usize = 2048;

/// Bytes before each record's content: its type and its length.
pub const RECORD_HEADER: usize = 5;

/// Statements with the blobs that they name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Blobs, in no particular order.
    pub blobs: Vec<Blob>,
    /// Statements' bytes, in the order in which they are to be recorded.
    pub statements: Vec<Vec<u8>>,
}

/// The bytes are not a batch.
#[derive(Debug, thiserror::Error)]
pub enum BadBatch {
    /// Longer than [`MAX_BATCH`].
    #[error("a batch has at most {MAX_BATCH} bytes; this one has {0}")]
    TooLarge(usize),
    /// No statement in it.
    #[error("a batch has at least one statement")]
    Empty,
    /// Too many records.
    #[error("a batch has at most {MAX_STATEMENTS} statements and {MAX_BLOBS} blobs")]
    TooMany,
    /// The bytes end inside a record.
    #[error("the batch ends inside the record at byte {0}")]
    Torn(usize),
    /// Neither `B` nor `S`.
    #[error("unknown record type {1:#04x} at byte {0}")]
    UnknownRecord(usize, u8),
    /// A blob after a statement.
    #[error("the blob at byte {0} comes after a statement; blobs come first")]
    Order(usize),
    /// The record at this byte is no blob.
    #[error("blob at byte {0}: {1}")]
    Blob(usize, BadBlob),
    /// Statement number `.0` (from 0) is too large.
    #[error("statement {0} of the batch: {1}")]
    Statement(usize, BadStatement),
}

impl Batch {
    /// Bytes that [`Batch::encode`] will give.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let blobs: usize = self.blobs.iter().map(|blob| RECORD_HEADER + blob.as_bytes().len()).sum();
        let statements: usize = self.statements.iter().map(|statement| RECORD_HEADER + statement.len()).sum();
        blobs + statements
    }

    /// The bytes to send.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.encoded_len());
        let mut record = |tag: u8, content: &[u8]| {
            let length = u32::try_from(content.len())
                .expect("blobs and statements are limited to far less than 4 GiB");
            bytes.push(tag);
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(content);
        };
        self.blobs.iter().for_each(|blob| record(b'B', blob.as_bytes()));
        self.statements.iter().for_each(|statement| record(b'S', statement));
        bytes
    }

    /// Reads a batch. Statements are not looked into, beyond their length.
    ///
    /// # Errors
    /// [`BadBatch`], which says where.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadBatch> {
        if bytes.len() > MAX_BATCH {
            return Err(BadBatch::TooLarge(bytes.len()));
        }
        let mut batch = Self::default();
        let mut at = 0;
        while at < bytes.len() {
            let (tag, content) = record(bytes, at).ok_or(BadBatch::Torn(at))?;
            match tag {
                b'B' if !batch.statements.is_empty() => return Err(BadBatch::Order(at)),
                b'B' if content.len() > SALT_LEN + MAX_CONTENT => {
                    return Err(BadBatch::Blob(at, BadBlob::TooLarge(content.len() - SALT_LEN)));
                }
                b'B' => {
                    batch.blobs.push(Blob::from_bytes(content.to_vec()).map_err(|e| BadBatch::Blob(at, e))?);
                }
                b'S' if content.len() > MAX_STATEMENT => {
                    return Err(BadBatch::Statement(
                        batch.statements.len(),
                        BadStatement::TooLarge(content.len()),
                    ));
                }
                b'S' => batch.statements.push(content.to_vec()),
                other => return Err(BadBatch::UnknownRecord(at, other)),
            }
            if batch.statements.len() > MAX_STATEMENTS || batch.blobs.len() > MAX_BLOBS {
                return Err(BadBatch::TooMany);
            }
            at += RECORD_HEADER + content.len();
        }
        if batch.statements.is_empty() { Err(BadBatch::Empty) } else { Ok(batch) }
    }
}

fn record(bytes: &[u8], at: usize) -> Option<(u8, &[u8])> {
    let header = bytes.get(at..at + RECORD_HEADER)?;
    let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
    let start = at + RECORD_HEADER;
    Some((header[0], bytes.get(start..start.checked_add(length)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refusals_say_where() {
        let batch =
            Batch { blobs: vec![Blob::new([1; 32], b"x").expect("small")], statements: vec![b"{}".to_vec()] };
        let bytes = batch.encode();
        assert!(matches!(Batch::decode(&bytes[..bytes.len() - 1]), Err(BadBatch::Torn(38))));
        assert!(matches!(Batch::decode(&bytes[..38]), Err(BadBatch::Empty)));
        assert!(matches!(Batch::decode(b"X\0\0\0\0"), Err(BadBatch::UnknownRecord(0, b'X'))));
        assert!(matches!(Batch::decode(&[&bytes[38..], &bytes[..38]].concat()), Err(BadBatch::Order(7))));
        assert!(matches!(Batch::decode(b"B\0\0\0\x01x"), Err(BadBatch::Blob(0, BadBlob::NoSalt(1)))));
        assert!(matches!(Batch::decode(&[0xff; 9]), Err(BadBatch::Torn(0))));
        let many = Batch { blobs: vec![], statements: vec![b"{}".to_vec(); MAX_STATEMENTS + 1] };
        assert!(matches!(Batch::decode(&many.encode()), Err(BadBatch::TooMany)));
    }

    proptest! {
        #[test]
        fn written_and_read_back(
            blobs in prop::collection::vec(prop::collection::vec(any::<u8>(), 32..200), 0..5),
            statements in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..5),
        ) {
            let blobs = blobs.into_iter().map(|b| Blob::from_bytes(b).expect("long enough")).collect();
            let batch = Batch { blobs, statements };
            prop_assert_eq!(batch.encode().len(), batch.encoded_len());
            prop_assert_eq!(Batch::decode(&batch.encode()).expect("ours"), batch);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _outcome = Batch::decode(&bytes).is_ok();
        }
    }
}
