//! `bqwitness verify-log DIR|URL --key`

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use ledger::deletions::Deletion;
use ledger::log_keys::LogKeys;
use ledger::verify::{LogSource, MAX_FINDINGS, Report, verify_log};
use serde_json::json;

use crate::Verdict;
use crate::args::{Format, VerifyArgs};
use crate::error::CliError;
use crate::reader::{Reader, read_key};
use crate::render::Output;
use crate::source::{Directory, Served};
use crate::text::on_one_line;

pub(crate) fn run(args: &VerifyArgs, out: Output) -> Result<Verdict, CliError> {
    let held = read_key(&args.key)?;
    let report = if args.log.starts_with("https://") {
        let reader = Reader::open(&args.log, args.recorder_ca.as_deref(), args.token_file.as_deref())?;
        let log = Served::new(&reader);
        verify(&log, &log.keys(&held)?)?
    } else {
        let log = Directory::new(Path::new(&args.log));
        let keys =
            log.keys(&held).map_err(|error| CliError::File { path: args.log.clone().into(), error })?;
        verify(&log, &keys)?
    };
    match out.format {
        Format::Json => out.json(&as_json(&report))?,
        Format::Table => print(&report, out)?,
    }
    Ok(if report.is_verified() { Verdict::Holds } else { Verdict::DoesNotHold })
}

/// Shows on a terminal how far it is: a long log takes a while.
fn verify<S: LogSource>(source: &S, keys: &LogKeys) -> Result<Report, CliError> {
    let watched = std::io::stderr().is_terminal();
    let report = verify_log(source, keys, |entries| {
        if watched && entries % (256 * 64) == 0 {
            let _shown = write!(std::io::stderr(), "\r{entries} entries").is_ok();
        }
    })?;
    if watched {
        let _cleared = write!(std::io::stderr(), "\r\x1b[K").is_ok();
    }
    Ok(report)
}

fn print(report: &Report, out: Output) -> Result<(), CliError> {
    let Report { checkpoint, sessions, open_sessions, calls, open_calls, .. } = report;
    out.line(&format!("Log {} at {} entries, signed by its key", checkpoint.origin, checkpoint.size))?;
    out.line(&format!(
        "  {} entries hashed; {sessions} sessions ({open_sessions} open), {calls} calls ({open_calls} open)",
        report.entries
    ))?;
    out.line(&format!(
        "  {} blobs fit their digests; {} are not there, {} of which were deleted in order",
        report.blobs_verified, report.blobs_absent, report.blobs_deleted
    ))?;
    for Deletion { index, digest, by, reason } in report.deletions.iter().take(MAX_FINDINGS) {
        let line = format!("  deleted by {by}, as entry {index} says: {digest} ({reason})");
        out.line(&on_one_line(&line))?;
    }
    for hole in &report.holes {
        out.line(&format!(
            "  gap named by the log: session {} lacks {} to {}",
            hole.session, hole.from, hole.to
        ))?;
    }
    for finding in &report.findings {
        out.line(&on_one_line(&format!("  WRONG {finding}")))?;
    }
    let unlisted = report.findings_total - report.findings.len() as u64;
    if unlisted > 0 {
        out.line(&format!("  and {unlisted} more"))?;
    }
    if report.has_no_blobs() {
        out.line("  TEXTS NOT CHECKED: the log names blobs, and none of them is here")?;
    }
    out.line(if report.is_verified() {
        "VERIFIED. No witness has cosigned this checkpoint: that nothing older was replaced, and when it was written, rests on the recorder."
    } else {
        "NOT VERIFIED: this is not what was recorded."
    })?;
    Ok(())
}

fn as_json(report: &Report) -> serde_json::Value {
    let findings: Vec<_> = report
        .findings
        .iter()
        .map(|finding| json!({ "what": finding.what.category(), "index": finding.index, "message": finding.message }))
        .collect();
    json!({
        "verified": report.is_verified(),
        "origin": report.checkpoint.origin,
        "size": report.checkpoint.size,
        "entries": report.entries,
        "sessions": report.sessions,
        "openSessions": report.open_sessions,
        "calls": report.calls,
        "openCalls": report.open_calls,
        "holes": report.holes,
        "blobsVerified": report.blobs_verified,
        "blobsAbsent": report.blobs_absent,
        "blobsChecked": !report.has_no_blobs(),
        "blobsDeleted": report.blobs_deleted,
        "deletions": report.deletions,
        "findings": findings,
        "findingsTotal": report.findings_total,
    })
}
