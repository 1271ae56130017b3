//! `bqwitness replay SESSION|FILE.bqw`: what agents did, as a timeline: from a recorder, or from a bundle without a network.

use std::path::Path;

use ledger::bundle::verify::Trust;
use serde_json::{Value, json};
use uuid::Uuid;

use super::verify::{open, refuse};
use crate::Verdict;
use crate::args::{Format, ReplayArgs};
use crate::error::CliError;
use crate::reader::{Reader, read_key, read_policy};
use crate::render::{Output, covered_text, time_text};
use crate::replay::bundled::{self, Bundled};
use crate::replay::chains::{Chain, chains};
use crate::replay::{How, recorded, text};
use crate::text::on_one_line;

pub(crate) fn run(args: &ReplayArgs, out: Output) -> Result<Verdict, CliError> {
    match args.what.as_deref() {
        Some(what) if what.parse::<Uuid>().is_err() => from_bundle(args, Path::new(what), out),
        _ => from_recorder(args, out),
    }
}

fn from_recorder(args: &ReplayArgs, out: Output) -> Result<Verdict, CliError> {
    let how = args.how();
    let found = recorded::find(&Reader::new(&args.reader)?, &args.wanted())?;
    let (size, rebuilding_to) = (found.size, found.rebuilding_to);
    let chains = chains(found, &how);
    match out.format {
        Format::Json => {
            let mut told = as_json(size, &chains);
            if let Some(of) = rebuilding_to {
                told["rebuildingTo"] = of.into();
            }
            out.json(&told)?;
        }
        Format::Table => {
            print(&chains, &how, out)?;
            if rebuilding_to.is_some() {
                out.line(&format!("INCOMPLETE: {}", covered_text(size, rebuilding_to)))?;
            }
        }
    }
    Ok(Verdict::Holds)
}

fn from_bundle(args: &ReplayArgs, file: &Path, out: Output) -> Result<Verdict, CliError> {
    let (how, keys) = (args.how(), read_key(args.key.as_deref().ok_or(CliError::NoKey)?)?);
    let policy = args.policy.as_deref().map(read_policy).transpose()?;
    let trust = Trust { keys: &keys, policy: policy.as_ref().map(|(policy, _)| policy) };
    let Bundled { report, found, notes } = match bundled::find(open(file)?, trust, &args.wanted()) {
        Err(CliError::Bundle(error)) if error.is_finding() => return refuse(&error, out),
        found => found?,
    };
    if !report.is_verified() {
        return Err(CliError::Unsound(report.findings_total));
    }
    if found.sessions.is_empty() {
        return Err(CliError::NothingFound);
    }
    let (size, chains) = (found.size, chains(found, &how));
    match out.format {
        Format::Json => {
            let mut told = as_json(size, &chains);
            told["bundle"] = json!({ "verified": true, "log": report.manifest.log, "manifest": report.digest,
                "export": report.export, "exported": report.exported, "notes": notes });
            out.json(&told)?;
        }
        Format::Table => {
            let (log, at) = (&report.manifest.log, time_text(report.exported));
            out.line(&on_one_line(&format!("From a bundle of the log {log}, taken out {at} UTC: VERIFIED")))?;
            notes.iter().try_for_each(|note| out.line(&on_one_line(&format!("Note: {note}"))))?;
            out.line("")?;
            print(&chains, &how, out)?;
        }
    }
    Ok(Verdict::Holds)
}

fn print(chains: &[Chain], how: &How, out: Output) -> Result<(), CliError> {
    for (number, chain) in chains.iter().enumerate() {
        if number > 0 {
            out.line("")?;
        }
        text::chain(chain, how).iter().try_for_each(|line| out.line(line))?;
    }
    Ok(())
}

fn as_json(size: u64, chains: &[Chain]) -> Value {
    json!({ "size": size, "pods": chains })
}
