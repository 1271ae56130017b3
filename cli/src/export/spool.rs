//! A file without a name that holds what was gathered, so that an export of any size takes little memory. It is read by the
//! process that wrote it, and goes with it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, Write as _};

use ledger::blob::Blob;
use ledger::digest::Digest;

/// Entries that lie under one tile of level 0, and the blobs that they name.
pub(super) struct Group {
    pub(super) index: u64,
    pub(super) entries: Vec<(u64, Vec<u8>)>,
    pub(super) blobs: BTreeMap<Digest, Blob>,
}

pub(super) struct Writer {
    file: BufWriter<File>,
    groups: u64,
}

pub(super) struct Reader {
    file: BufReader<File>,
    left: u64,
}

impl Writer {
    pub(super) fn new(file: File) -> Self {
        Self { file: BufWriter::new(file), groups: 0 }
    }

    pub(super) fn push(&mut self, group: &Group) -> io::Result<()> {
        self.number(group.index)?;
        self.number(group.entries.len() as u64)?;
        for (index, leaf) in &group.entries {
            self.number(*index)?;
            self.bytes(leaf)?;
        }
        self.number(group.blobs.len() as u64)?;
        group.blobs.values().try_for_each(|blob| self.bytes(blob.as_bytes()))?;
        self.groups += 1;
        Ok(())
    }

    /// Reads it from its beginning.
    pub(super) fn finish(self) -> io::Result<Reader> {
        let mut file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        Ok(Reader { file: BufReader::new(file), left: self.groups })
    }

    fn number(&mut self, number: u64) -> io::Result<()> {
        self.file.write_all(&number.to_le_bytes())
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.number(bytes.len() as u64)?;
        self.file.write_all(bytes)
    }
}

impl Reader {
    pub(super) fn next(&mut self) -> io::Result<Option<Group>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let (index, entries) = (self.number()?, self.number()?);
        let entries = (0..entries).map(|_| Ok((self.number()?, self.bytes()?))).collect::<io::Result<_>>()?;
        let blobs = self.number()?;
        let blobs = (0..blobs).map(|_| {
            let blob = Blob::from_bytes(self.bytes()?).map_err(io::Error::other)?;
            Ok((blob.digest(), blob))
        });
        let blobs = blobs.collect::<io::Result<_>>()?;
        Ok(Some(Group { index, entries, blobs }))
    }

    fn number(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.file.read_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn bytes(&mut self) -> io::Result<Vec<u8>> {
        let length = self.number()?;
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let blob = Blob::new([1; 32], b"SELECT 1").unwrap();
        let group = Group {
            index: 7,
            entries: vec![(1800, b"{}".to_vec()), (1801, Vec::new())],
            blobs: BTreeMap::from([(blob.digest(), blob)]),
        };
        let mut writer = Writer::new(tempfile::tempfile().unwrap());
        writer.push(&group).unwrap();
        let mut reader = writer.finish().unwrap();
        let back = reader.next().unwrap().unwrap();
        assert_eq!((back.index, back.entries, back.blobs), (group.index, group.entries, group.blobs));
        assert!(reader.next().unwrap().is_none());
    }
}
