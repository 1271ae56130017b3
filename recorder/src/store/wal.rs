//! The write-ahead log: what is acknowledged and not yet in a checkpoint.
//!
//! A segment is a file `wal/<index of its first entry, 20 digits>` of records. A record is what one fdatasync made durable:
//!
//! ```text
//! "BQW1"                      4 bytes
//! index of the first leaf     u64, big-endian, as all numbers here
//! leaves                      u32
//! length of the body          u32
//! CRC-32 of the body          u32
//! CRC-32 of the 24 bytes above u32
//! body: blobs, then leaves, each: 'B' or 'L', u32 length, bytes
//! ```
//!
//! Reading stops at the first record that is not whole. At the end of the last segment, bytes that end before their record
//! does, or that are zeros only, are a write that was cut short by a crash: it was never acknowledged, and is cut off.
//! Anything else is damage, and refused: a record that is complete but does not fit its checksum may have been acknowledged.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ledger::blob::Blob;

use super::error::{StoreError, at};
use super::files::{Append, Files};

/// Directory of the segments.
pub const DIR: &str = "wal";

/// A new segment is begun above this length, in bytes,
pub const SEGMENT_BYTES: u64 = 16 << 20;

/// or when the current one is this old, so that no blob stays in the write-ahead log for long.
pub const SEGMENT_AGE: Duration = Duration::from_secs(10);

const MAGIC: &[u8; 4] = b"BQW1";
const HEADER: usize = 28;
const ITEM_HEADER: usize = 5;

/// One record: entries and their blobs.
#[derive(Debug, Default)]
pub struct Record {
    /// Blobs that the leaves name.
    pub blobs: Vec<Arc<Blob>>,
    /// Leaves, in the order of their indexes.
    pub leaves: Vec<Arc<[u8]>>,
}

impl Record {
    fn encode(&self, first: u64) -> Vec<u8> {
        let blobs = self.blobs.iter().map(|blob| (b'B', blob.as_bytes()));
        let items = blobs.chain(self.leaves.iter().map(|leaf| (b'L', &**leaf)));
        let length: usize = items.clone().map(|(_, bytes)| ITEM_HEADER + bytes.len()).sum();
        let mut record = Vec::with_capacity(HEADER + length);
        record.resize(HEADER, 0);
        for (tag, bytes) in items {
            record.push(tag);
            record.extend_from_slice(&number(bytes.len()));
            record.extend_from_slice(bytes);
        }
        let body_crc = crc32fast::hash(&record[HEADER..]);
        record[..4].copy_from_slice(MAGIC);
        record[4..12].copy_from_slice(&first.to_be_bytes());
        record[12..16].copy_from_slice(&number(self.leaves.len()));
        record[16..20].copy_from_slice(&number(length));
        record[20..24].copy_from_slice(&body_crc.to_be_bytes());
        let header_crc = crc32fast::hash(&record[..24]);
        record[24..HEADER].copy_from_slice(&header_crc.to_be_bytes());
        record
    }

    fn decode_body(mut body: &[u8]) -> Option<Self> {
        let mut record = Self::default();
        while let Some((&tag, rest)) = body.split_first() {
            let (length, rest) = rest.split_first_chunk::<4>()?;
            let (bytes, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
            match tag {
                b'B' => record.blobs.push(Arc::new(Blob::from_bytes(bytes.to_vec()).ok()?)),
                b'L' => record.leaves.push(bytes.into()),
                _ => return None,
            }
            body = rest;
        }
        Some(record)
    }
}

fn number(n: usize) -> [u8; 4] {
    u32::try_from(n).expect("a record is limited to far less than 4 GiB").to_be_bytes()
}

/// Appends records.
pub struct Wal {
    files: Arc<dyn Files>,
    segment: Option<Segment>,
}

struct Segment {
    path: String,
    file: Box<dyn Append>,
    bytes: u64,
    begun: Instant,
}

impl Wal {
    /// A write-ahead log. Before it is written to, recovery removes the segments of the last run.
    ///
    /// # Errors
    /// The system's.
    pub fn new(files: Arc<dyn Files>) -> Result<Self, StoreError> {
        files.create_dir(DIR).map_err(at("create", DIR))?;
        files.sync_dir(".").map_err(at("sync", "."))?;
        Ok(Self { files, segment: None })
    }

    /// Makes a record durable. Its first leaf gets index `first`.
    ///
    /// # Errors
    /// The system's. After one the recorder must stop: nobody knows what the disk has.
    pub fn append(&mut self, first: u64, record: &Record) -> Result<(), StoreError> {
        let bytes = record.encode(first);
        let segment = self.segment_for(first)?;
        segment.file.append(&bytes).map_err(at("append to", &segment.path))?;
        segment.file.sync_data().map_err(at("sync", &segment.path))?;
        segment.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Lets the next record begin a new segment, so that what lies in the ones before goes when a checkpoint covers it.
    pub fn begin_segment(&mut self) {
        self.segment = None;
    }

    /// The current segment, or a new one when that is long or old.
    fn segment_for(&mut self, first: u64) -> Result<&mut Segment, StoreError> {
        let fits = |segment: &Segment| segment.bytes < SEGMENT_BYTES && segment.begun.elapsed() < SEGMENT_AGE;
        let segment = match self.segment.take().filter(fits) {
            Some(segment) => segment,
            None => {
                let path = format!("{DIR}/{first:020}");
                let file = self.files.create_append(&path).map_err(at("create", &path))?;
                self.files.sync_dir(DIR).map_err(at("sync", DIR))?;
                Segment { path, file, bytes: 0, begun: Instant::now() }
            }
        };
        Ok(self.segment.insert(segment))
    }
}

/// The segments that are there, with the index that each begins at, ascending.
///
/// # Errors
/// The system's, or a name that is no segment's.
pub fn segments(files: &dyn Files) -> Result<Vec<(u64, String)>, StoreError> {
    let names = files.list(DIR).map_err(at("list", DIR))?;
    let segment = |name: String| {
        let first = (name.len() == 20).then(|| name.parse().ok()).flatten();
        let path = format!("{DIR}/{name}");
        first
            .map(|first| (first, path.clone()))
            .ok_or_else(|| StoreError::corrupt(&path, 0, "not a segment's name"))
    };
    names.into_iter().map(segment).collect()
}

/// Removes the segments whose entries all lie below `size`. The last one stays: it may still grow.
///
/// # Errors
/// The system's.
pub fn remove_covered(files: &dyn Files, size: u64) -> Result<(), StoreError> {
    let segments = segments(files)?;
    for pair in segments.windows(2) {
        let ((_, path), (next, _)) = (&pair[0], &pair[1]);
        if *next <= size {
            files.remove(path).map_err(at("remove", path))?;
        }
    }
    Ok(())
}

/// Removes all segments: a checkpoint covers them, and nobody appends.
///
/// # Errors
/// The system's.
pub fn remove_all(files: &dyn Files) -> Result<(), StoreError> {
    for (_, path) in segments(files)? {
        files.remove(&path).map_err(at("remove", &path))?;
    }
    files.sync_dir(DIR).map_err(at("sync", DIR))
}

/// Hands every record with the index of its first leaf to `take`, in order, and says how many torn bytes the end has.
///
/// # Errors
/// [`StoreError::Corrupt`], the system's, or `take`'s.
pub fn replay(
    files: &dyn Files,
    mut take: impl FnMut(&str, u64, u64, Record) -> Result<(), StoreError>,
) -> Result<u64, StoreError> {
    let segments = segments(files)?;
    for (number, (_, path)) in segments.iter().enumerate() {
        let bytes = files.read(path).map_err(at("read", path))?;
        let mut at = 0;
        while at < bytes.len() {
            match read_record(path, &bytes, at)? {
                Some((first, record, end)) => {
                    take(path, at as u64, first, record)?;
                    at = end;
                }
                None if number + 1 == segments.len() => return Ok((bytes.len() - at) as u64),
                None => {
                    return Err(StoreError::corrupt(
                        path,
                        at as u64,
                        "the segment ends inside a record, and is not the last",
                    ));
                }
            }
        }
    }
    Ok(0)
}

/// The record at `at` and where it ends; `None` when it is torn.
fn read_record(path: &str, bytes: &[u8], at: usize) -> Result<Option<(u64, Record, usize)>, StoreError> {
    let corrupt = |what: &str| StoreError::corrupt(path, at as u64, what);
    let rest = &bytes[at..];
    let Some((header, body)) = rest.split_first_chunk::<HEADER>() else {
        return Ok(None);
    };
    if rest.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let word = |from: usize| {
        u32::from_be_bytes([header[from], header[from + 1], header[from + 2], header[from + 3]])
    };
    if header[..4] != *MAGIC || word(24) != crc32fast::hash(&header[..24]) {
        return Err(corrupt("the record's header does not fit its checksum"));
    }
    let Some(body) = body.get(..word(16) as usize) else {
        return Ok(None);
    };
    if word(20) != crc32fast::hash(body) {
        return Err(corrupt("the record does not fit its checksum"));
    }
    let record = Record::decode_body(body).filter(|record| record.leaves.len() == word(12) as usize);
    let record = record.ok_or_else(|| corrupt("the record's parts do not add up"))?;
    let first = u64::from(word(4)) << 32 | u64::from(word(8));
    Ok(Some((first, record, at + HEADER + body.len())))
}

#[cfg(test)]
mod tests {
    use super::super::files::LocalFiles;
    use super::*;

    fn record(texts: &[&str]) -> Record {
        let leaves = texts.iter().map(|text| Arc::from(text.as_bytes())).collect();
        let blob = Blob::new([9; 32], texts[0].as_bytes()).expect("small");
        Record { blobs: vec![Arc::new(blob)], leaves }
    }

    fn written(dir: &std::path::Path) -> Arc<LocalFiles> {
        let files = Arc::new(LocalFiles::open(dir).expect("a directory"));
        let mut wal = Wal::new(files.clone()).expect("a directory");
        wal.append(0, &record(&["a", "b"])).expect("room");
        wal.append(2, &record(&["c"])).expect("room");
        files
    }

    fn read(files: &dyn Files) -> Result<(Vec<(u64, usize)>, u64), StoreError> {
        let mut seen = Vec::new();
        let torn = replay(files, |_, _, first, record| {
            seen.push((first, record.leaves.len()));
            Ok(())
        })?;
        Ok((seen, torn))
    }

    #[test]
    fn records_come_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = written(dir.path());
        assert_eq!(read(&*files).expect("whole"), (vec![(0, 2), (2, 1)], 0));
        assert_eq!(segments(&*files).expect("one").len(), 1, "one segment for both");
    }

    #[test]
    fn every_truncation_is_torn_or_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = written(dir.path());
        let path = segments(&*files).expect("one")[0].1.clone();
        let whole = files.read(&path).expect("readable");
        let first = 28 + (5 + 33) + 2 * 6;
        for length in 0..whole.len() {
            files.write(&path, &whole[..length], false).expect("writable");
            let (seen, torn) = read(&*files).expect("torn, not corrupt");
            assert_eq!(seen.len(), usize::from(length >= first), "cut at {length}");
            assert_eq!(
                usize::try_from(torn).expect("small"),
                if length >= first { length - first } else { length },
                "cut at {length}"
            );
        }
    }

    #[test]
    fn every_flipped_byte_is_found() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = written(dir.path());
        let path = segments(&*files).expect("one")[0].1.clone();
        let whole = files.read(&path).expect("readable");
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0x20;
            files.write(&path, &changed, false).expect("writable");
            let error = read(&*files).expect_err("found").to_string();
            assert!(error.starts_with(&format!("{path}, byte ")), "{at}: {error}");
        }
    }

    #[test]
    fn a_tail_of_zeros_is_torn() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = written(dir.path());
        let path = segments(&*files).expect("one")[0].1.clone();
        let bytes = [files.read(&path).expect("readable"), vec![0; 4096]].concat();
        files.write(&path, &bytes, false).expect("writable");
        assert_eq!(read(&*files).expect("torn"), (vec![(0, 2), (2, 1)], 4096));
    }
}
