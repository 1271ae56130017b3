//! A log on a disk, checked with the one verifier.

use std::sync::Arc;

use bqwitness_recorder::store::files::Files;
use ledger::digest::Digest;
use ledger::log_keys::LogKeys;
use ledger::receipt::ReceiptEntry;

/// A log as the store has it, for the one verifier.
pub struct LogFiles(pub Arc<dyn Files>);

impl ledger::verify::LogSource for LogFiles {
    type Error = String;

    fn checkpoint(&self) -> Result<Vec<u8>, String> {
        self.0.read("log/checkpoint").map_err(|error| error.to_string())
    }

    fn tile(&self, tile: ledger::tile::Tile) -> Result<Option<Vec<u8>>, String> {
        bqwitness_recorder::store::reader::read_tile(&*self.0, tile).map_err(|error| error.to_string())
    }

    fn blob(&self, digest: Digest) -> Result<Option<Vec<u8>>, String> {
        match self.0.read(&bqwitness_recorder::store::publish::blob_path(&digest)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// What was acknowledged: the promise and the statement.
pub type Acknowledged = Vec<(ReceiptEntry, Vec<u8>)>;

/// Every acknowledged entry is in the log, at its index; no statement is there twice; the log and every blob verify.
/// Gives the log's size.
pub fn verify(files: Arc<dyn Files>, acknowledged: &Acknowledged) -> u64 {
    use ledger::tile::{Level, TILE_WIDTH, Tile, parse_bundle};
    use ledger::verify::LogSource as _;
    let source = LogFiles(files);
    let vkey: LogKeys = String::from_utf8(source.0.read("log.vkey").unwrap()).unwrap().parse().unwrap();
    let report = ledger::verify::verify_log(&source, &vkey, |_| ()).unwrap();
    assert_eq!(report.findings, []);
    assert_eq!(report.blobs_absent, 0);
    let size = report.checkpoint.size;
    let mut seen = std::collections::HashMap::new();
    let mut leaves = Vec::new();
    for index in 0..size.div_ceil(TILE_WIDTH) {
        let tile = Tile::at(Level::Entries, index, size).unwrap();
        let bytes = source.tile(tile).unwrap().unwrap();
        for leaf in parse_bundle(tile, &bytes).unwrap() {
            let statement = ledger::entry::Entry::parse(leaf).unwrap().statement.to_vec();
            let twice = seen.insert(statement, leaves.len());
            assert_eq!(twice, None, "entry {} is there twice", leaves.len());
            leaves.push(leaf.to_vec());
        }
    }
    for (promise, statement) in acknowledged {
        let leaf = leaves.get(usize::try_from(promise.index).unwrap());
        let leaf = leaf.unwrap_or_else(|| panic!("entry {} was acknowledged and is lost", promise.index));
        assert_eq!(ledger::tree::leaf_hash(leaf), promise.leaf_hash, "entry {}", promise.index);
        assert_eq!(ledger::entry::Entry::parse(leaf).unwrap().statement, statement);
    }
    size
}
