//! `bqwitness show INDEX`: an entry with its blobs, and the proof that it is in the log.

use bytes::Bytes;
use ledger::blob::Blob;
use ledger::digest::Digest;
use ledger::entry::{Entry, Subject};
use ledger::statement::Statement;
use serde_json::{Value, json};

use super::proof::prove;
use crate::Verdict;
use crate::args::{EntryArgs, Format};
use crate::error::CliError;
use crate::reader::Reader;
use crate::render::Output;
use crate::source::Served;
use crate::text::printable;

pub(crate) fn run(args: &EntryArgs, out: Output) -> Result<Verdict, CliError> {
    let reader = Reader::new(&args.reader)?;
    let proven = prove(&reader, args.index, &reader.key(args.key.as_deref())?)?;
    let bad = |message: String| CliError::Entry { index: args.index, message };
    let entry = Entry::parse(&proven.leaf).map_err(|error| bad(error.to_string()))?;
    let statement = Statement::parse(entry.statement).map_err(|error| bad(error.to_string()))?;
    let blobs = read_blobs(&reader, args.index, &statement)?;
    let proof = format!(
        "entry {} is in log {}: proved against its checkpoint of {} entries",
        args.index, proven.checkpoint.origin, proven.checkpoint.size
    );
    match out.format {
        Format::Json => out.json(&as_json(&proven.leaf, &blobs, args.index, proven.checkpoint.size)?)?,
        Format::Table => {
            out.line(&head(&entry, &statement))?;
            out.line(&pretty(&statement)?)?;
            for (role, text) in &blobs {
                out.line(&format!("\n{role}:\n{}", text.as_deref().map_or("(deleted)".into(), printable)))?;
            }
            out.line(&format!("\n{proof}"))?;
        }
    }
    Ok(Verdict::Holds)
}

/// The blobs' texts by their role; `None` when one was deleted. One that is not its digest is an error.
fn read_blobs(
    reader: &Reader,
    index: u64,
    statement: &Statement,
) -> Result<Vec<(String, Option<String>)>, CliError> {
    let read = |(role, reference): (&String, &ledger::blob::BlobRef)| {
        let blob = match Served::new(reader).blob_of(index, reference.digest) {
            Err(CliError::Deleted { .. }) => None,
            fetched => fetched?,
        };
        let text = blob.map(|bytes| blob_text(bytes, reference.digest)).transpose()?;
        Ok((role.clone(), text))
    };
    statement.blobs.iter().map(read).collect()
}

fn blob_text(bytes: Vec<u8>, digest: Digest) -> Result<String, CliError> {
    match Blob::from_bytes(bytes) {
        Ok(blob) if blob.digest() == digest => Ok(String::from_utf8_lossy(blob.content()).into_owned()),
        _ => Err(CliError::Answer(format!("the blob is not {digest}"))),
    }
}

fn head(entry: &Entry<'_>, statement: &Statement) -> String {
    let who = match &entry.envelope.subject {
        Subject::Workload(workload) => format!(
            "{}/{} in pod {} ({}), cluster {}",
            workload.namespace, workload.service_account, workload.pod, workload.pod_uid, workload.cluster
        ),
        Subject::Log { log } => format!("the recorder of {log}"),
    };
    printable(&format!("{}\nby {who}\nreceived {}\n", statement.kind, entry.envelope.received))
}

fn pretty(statement: &Statement) -> Result<String, CliError> {
    let text =
        serde_json::to_string_pretty(statement).map_err(|error| CliError::Answer(error.to_string()))?;
    Ok(printable(&text))
}

/// The entry as it lies in the log, with what its blobs hold beside it.
fn as_json(
    leaf: &Bytes,
    blobs: &[(String, Option<String>)],
    index: u64,
    size: u64,
) -> Result<Value, CliError> {
    let entry: Value = serde_json::from_slice(leaf).map_err(|error| CliError::Answer(error.to_string()))?;
    let blobs: serde_json::Map<String, Value> =
        blobs.iter().map(|(role, text)| (role.clone(), json!(text))).collect();
    Ok(json!({ "index": index, "entry": entry, "blobs": blobs, "proved": { "size": size } }))
}
