//! `bqwitness proof INDEX`, and the proving that `show` does too.

use bytes::Bytes;
use ledger::checkpoint::Checkpoint;
use ledger::log_keys::LogKeys;
use ledger::proof::prove_inclusion;
use ledger::tlog_proof::TlogProof;
use ledger::verify::LogSource as _;

use crate::Verdict;
use crate::args::EntryArgs;
use crate::error::CliError;
use crate::reader::Reader;
use crate::render::Output;
use crate::source::Served;

/// An entry that is in the log.
pub(crate) struct Proven {
    pub(crate) leaf: Bytes,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) proof: TlogProof,
}

pub(crate) fn run(args: &EntryArgs, out: Output) -> Result<Verdict, CliError> {
    let reader = Reader::new(&args.reader)?;
    let proven = prove(&reader, args.index, &reader.key(args.key.as_deref())?)?;
    out.line(proven.proof.to_string().trim_end_matches('\n'))?;
    Ok(Verdict::Holds)
}

/// Fetches an entry, the newest checkpoint and the tiles between them, and verifies the whole.
pub(crate) fn prove(reader: &Reader, index: u64, held: &LogKeys) -> Result<Proven, CliError> {
    let log = Served::new(reader);
    let keys = log.keys(held)?;
    let note = log.checkpoint()?;
    let size = Checkpoint::verify(&note, &keys)?.size;
    if index >= size {
        return Err(CliError::NoEntry { index, size });
    }
    let leaf = reader.get_private(&format!("/v1/entries/{index}"))?;
    let checkpoint = String::from_utf8(note).map_err(|error| CliError::Answer(error.to_string()))?;
    let proof = TlogProof { index, hashes: prove_inclusion(&log, index, size)?, checkpoint };
    let checkpoint = proof.verify(&leaf, &keys)?;
    Ok(Proven { leaf, checkpoint, proof })
}
