//! `bqwitness verify FILE.bqw --key VKEY`: no network, and no trust in anything but the key.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use ledger::bundle::BadBundle;
use ledger::bundle::verify::{Report, Trust, verify_bundle};
use serde_json::json;

use crate::Verdict;
use crate::args::{BundleArgs, Format};
use crate::claims::{Claims, Page};
use crate::error::CliError;
use crate::page::PageMaker;
use crate::reader::{read_key, read_policy};
use crate::render::Output;
use crate::text::on_one_line;

pub(crate) fn run(args: &BundleArgs, out: Output) -> Result<Verdict, CliError> {
    let keys = read_key(&args.key)?;
    let mut maker = PageMaker::default();
    let policy = args.policy.as_deref().map(read_policy).transpose()?;
    let trust = Trust { keys: &keys, policy: policy.as_ref().map(|(policy, _)| policy) };
    match verify_bundle(open(&args.file)?, trust, &mut maker) {
        Ok(report) => {
            let made = maker.page().expect("a verified bundle has a manifest");
            let page = Page::compare(&report.manifest, &made);
            if let Some(file) = &args.page {
                std::fs::write(file, &made).map_err(|error| CliError::File { path: file.clone(), error })?;
            }
            tell(&report, page, out)
        }
        Err(error) if error.is_finding() => refuse(&error, out),
        Err(error) => Err(error.into()),
    }
}

/// Reads a bundle from a file, or from standard input.
pub(crate) fn open(file: &Path) -> Result<Box<dyn Read>, CliError> {
    if file == Path::new("-") {
        return Ok(Box::new(std::io::stdin().lock()));
    }
    let opened = File::open(file).map_err(|error| CliError::File { path: file.into(), error })?;
    Ok(Box::new(BufReader::with_capacity(1 << 18, opened)))
}

fn tell(report: &Report, page: Page, out: Output) -> Result<Verdict, CliError> {
    let claims = Claims::of(report, page);
    match out.format {
        Format::Json => out.json(&as_json(report, page, &claims))?,
        Format::Table => print(report, &claims, out)?,
    }
    Ok(if report.is_verified() { Verdict::Holds } else { Verdict::DoesNotHold })
}

/// Says that a bundle does not hold.
pub(super) fn refuse(error: &BadBundle, out: Output) -> Result<Verdict, CliError> {
    match out.format {
        Format::Json => out.json(&json!({
            "verified": false,
            "reason": error.category(),
            "message": error.to_string(),
        }))?,
        Format::Table => {
            out.line(&on_one_line(&format!("NOT VERIFIED: {error}. Nothing in this file is evidence.")))?;
        }
    }
    Ok(Verdict::DoesNotHold)
}

fn print(report: &Report, claims: &Claims, out: Output) -> Result<(), CliError> {
    out.line(&on_one_line(&claims.title))?;
    let parts =
        [("Proved:", &claims.proved), ("Not proved:", &claims.open), ("Rests on others:", &claims.rests)];
    for (title, lines) in parts.into_iter().filter(|(_, lines)| !lines.is_empty()) {
        out.line(&format!("\n{title}"))?;
        lines.iter().try_for_each(|line| out.line(&on_one_line(&format!("  - {line}"))))?;
    }
    out.line("")?;
    for finding in &report.findings {
        out.line(&on_one_line(&format!("WRONG {finding}")))?;
    }
    let unlisted = report.findings_total - report.findings.len() as u64;
    if unlisted > 0 {
        out.line(&format!("and {unlisted} more"))?;
    }
    out.line(if report.is_verified() { "VERIFIED" } else { "NOT VERIFIED: what is wrong is named above." })?;
    Ok(())
}

fn as_json(report: &Report, page: Page, claims: &Claims) -> serde_json::Value {
    let findings: Vec<_> = report
        .findings
        .iter()
        .map(|finding| json!({ "what": finding.what.category(), "index": finding.index, "message": finding.message }))
        .collect();
    json!({
        "verified": report.is_verified(),
        "log": report.manifest.log,
        "size": report.checkpoint.size,
        "manifest": report.manifest,
        "manifestDigest": report.digest,
        "authority": { "generations": report.authority.generations(), "entries": report.authority.versions() },
        "export": { "index": report.export, "received": report.exported, "reader": report.reader },
        "witnesses": report.witnesses.iter().map(|(name, at)| json!({ "name": name, "at": at })).collect::<Vec<_>>(),
        "witnessed": report.witnessed,
        "pageIsTheEntries": page == Page::Same,
        "tiles": report.tiles,
        "bytes": report.bytes,
        "proved": claims.proved,
        "notProved": claims.open,
        "restsOnOthers": claims.rests,
        "findings": findings,
        "findingsTotal": report.findings_total,
    })
}
