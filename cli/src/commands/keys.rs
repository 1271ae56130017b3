//! `bqwitness keys`: the keys that a log signs with now, as far as the one that you hold vouches for them.

use ledger::checkpoint::Checkpoint;
use ledger::log_keys::LogKeys;
use ledger::verify::LogSource as _;
use serde_json::json;

use crate::Verdict;
use crate::args::{Format, KeysArgs};
use crate::error::CliError;
use crate::reader::{Reader, read_key};
use crate::render::Output;
use crate::source::Served;
use crate::text::on_one_line;

pub(crate) fn run(args: &KeysArgs, out: Output) -> Result<Verdict, CliError> {
    let held = read_key(&args.key)?;
    let reader = Reader::open(&args.recorder, args.recorder_ca.as_deref(), None)?;
    let log = Served::new(&reader);
    let keys = log.keys(&held)?;
    // It has these keys, and does not only say so.
    Checkpoint::verify(&log.checkpoint()?, &keys)?;
    if let Some(file) = &args.out {
        std::fs::write(file, format!("{keys}\n"))
            .map_err(|error| CliError::File { path: file.clone(), error })?;
    }
    tell(&held, &keys, out)?;
    Ok(Verdict::Holds)
}

fn tell(held: &LogKeys, keys: &LogKeys, out: Output) -> Result<(), CliError> {
    let is_held = |key| held.keys().contains(key);
    match out.format {
        Format::Json => {
            let listed: Vec<_> = keys
                .keys()
                .iter()
                .map(|key| json!({ "vkey": key.to_string(), "held": is_held(key) }))
                .collect();
            out.json(&json!({ "log": keys.name(), "keys": listed }))?;
        }
        Format::Table => {
            for key in keys.keys() {
                let whose = if is_held(key) { "yours" } else { "new: a key that you hold vouches for it" };
                out.line(&on_one_line(&format!("{key}  {whose}")))?;
            }
        }
    }
    Ok(())
}
