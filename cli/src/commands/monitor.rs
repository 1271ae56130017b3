//! `bqwitness monitor`: does the log still continue what was seen of it last time?

use std::fs;
use std::io;
use std::path::Path;

use jiff::Timestamp;
use ledger::checkpoint::Checkpoint;
use ledger::log_keys::LogKeys;
use ledger::proof::{prove_consistency, verify_consistency};
use ledger::verify::LogSource as _;
use serde_json::json;

use crate::Verdict;
use crate::args::{Format, MonitorArgs};
use crate::error::CliError;
use crate::reader::{Reader, read_key};
use crate::render::Output;
use crate::source::Served;
use crate::text::on_one_line;

/// What was seen last time, and now.
struct Seen {
    before: Option<Checkpoint>,
    now: Checkpoint,
    /// Why the one does not continue the other.
    broken: Option<String>,
}

pub(crate) fn run(args: &MonitorArgs, out: Output) -> Result<Verdict, CliError> {
    let held = read_key(&args.key)?;
    let reader = Reader::open(&args.recorder, args.recorder_ca.as_deref(), None)?;
    let log = Served::new(&reader);
    let keys = log.keys(&held)?;
    let (note, seen) = look(&log, &keys, &args.state)?;
    if seen.broken.is_none() {
        put(&args.state, &note)?;
    }
    if let Some(file) = &args.metrics {
        put(file, metrics(&seen).as_bytes())?;
    }
    tell(&seen, &new_keys(&held, &keys), out)?;
    Ok(if seen.broken.is_none() { Verdict::Holds } else { Verdict::DoesNotHold })
}

fn look(log: &Served<'_>, keys: &LogKeys, state: &Path) -> Result<(Vec<u8>, Seen), CliError> {
    let before = match fs::read(state) {
        Ok(note) => Some(Checkpoint::verify(&note, keys)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(CliError::File { path: state.into(), error }),
    };
    let note = log.checkpoint()?;
    let now = Checkpoint::verify(&note, keys)?;
    let broken = match &before {
        None => None,
        Some(before) if before.size > now.size => {
            Some(format!("it had {} entries and has {} now: it was rolled back", before.size, now.size))
        }
        Some(before) => {
            let proof = prove_consistency(log, before.size, now.size)?;
            let held = verify_consistency((before.size, &before.root), (now.size, &now.root), &proof);
            held.err().map(|error| format!("its first {} entries are others now: {error}", before.size))
        }
    };
    Ok((note, Seen { before, now, broken }))
}

/// Seen whole or not at all, also after a power cut.
fn put(file: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let failed = |error| CliError::File { path: file.into(), error };
    let temporary = file.with_extension("tmp");
    let written = fs::File::create(&temporary).and_then(|mut written| {
        io::Write::write_all(&mut written, bytes)?;
        written.sync_all()
    });
    written.and_then(|()| fs::rename(&temporary, file)).map_err(failed)
}

/// Keys of the log that whoever asks does not hold yet.
fn new_keys(held: &LogKeys, now: &LogKeys) -> Vec<String> {
    now.keys().iter().filter(|key| !held.keys().contains(key)).map(ToString::to_string).collect()
}

fn metrics(seen: &Seen) -> String {
    let good = u8::from(seen.broken.is_none());
    format!(
        "# HELP bqwitness_monitor_consistent 1 when the log continues what was seen last time\n\
         # TYPE bqwitness_monitor_consistent gauge\nbqwitness_monitor_consistent {good}\n\
         # HELP bqwitness_monitor_size Entries of the log\n\
         # TYPE bqwitness_monitor_size gauge\nbqwitness_monitor_size {}\n\
         # HELP bqwitness_monitor_time_seconds When it was looked at\n\
         # TYPE bqwitness_monitor_time_seconds gauge\nbqwitness_monitor_time_seconds {}\n",
        seen.now.size,
        Timestamp::now().as_second()
    )
}

fn tell(seen: &Seen, new: &[String], out: Output) -> Result<(), CliError> {
    let before = seen.before.as_ref().map(|before| before.size);
    match (out.format, &seen.broken) {
        (Format::Json, broken) => out.json(&json!({
            "log": seen.now.origin, "size": seen.now.size, "before": before,
            "consistent": broken.is_none(), "message": broken, "newKeys": new,
        }))?,
        (Format::Table, Some(broken)) => {
            out.line(&on_one_line(&format!("THE LOG {} WAS CHANGED: {broken}", seen.now.origin)))?;
        }
        (Format::Table, None) => {
            let since = before.map_or("seen for the first time".into(), |size| format!("continues {size}"));
            out.line(&on_one_line(&format!("{}: {} entries, {since}", seen.now.origin, seen.now.size)))?;
            new.iter().try_for_each(|key| {
                out.line(&format!(
                    "The log signs with a new key, for which yours vouches: add it to yours\n  {key}"
                ))
            })?;
        }
    }
    Ok(())
}
