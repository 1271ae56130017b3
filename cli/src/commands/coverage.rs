//! `bqwitness coverage`: when each pod was under recording, and why it was not in between.

use comfy_table::Cell;
use jiff::Timestamp;
use ledger::coverage::{Period, Pod, Span, Told, pods};
use ledger::search::MAX_LIMIT;
use ledger::search::cluster::CoverageQuery;
use ledger::search::sessions::SessionQuery;
use serde_json::json;

use crate::Verdict;
use crate::args::{CoverageArgs, Format};
use crate::error::CliError;
use crate::reader::Reader;
use crate::render::{Output, time_text};
use crate::text::{counted, printable};

/// What the index says of a period.
struct Covered {
    size: u64,
    period: Period,
    pods: Vec<Pod>,
}

pub(crate) fn run(args: &CoverageArgs, out: Output) -> Result<Verdict, CliError> {
    let covered = read(&Reader::new(&args.reader)?, args)?;
    match out.format {
        Format::Json => out.json(&json!({
            "size": covered.size,
            "from": covered.period.from,
            "to": covered.period.to,
            "pods": covered.pods,
        }))?,
        Format::Table => print(&covered, out)?,
    }
    Ok(Verdict::Holds)
}

/// All sessions that lived in the period, of which the sidecars' say when their pods were under recording; and what operators saw of pods
/// in it.
fn read(reader: &Reader, args: &CoverageArgs) -> Result<Covered, CliError> {
    let now = Timestamp::now();
    let to = args.to.unwrap_or(now).min(now);
    let (told, told_size) = told(reader, args, to)?;
    let mut question = SessionQuery {
        namespace: args.reader.namespace.clone(),
        connection: args.connection.clone(),
        since: Some(args.from),
        until: Some(to),
        limit: Some(MAX_LIMIT),
        ..SessionQuery::default()
    };
    let (mut spans, mut size) = (Vec::new(), told_size);
    loop {
        let answer = reader.sessions(&question)?;
        size = size.min(answer.size);
        let sidecars = answer.sessions.iter().filter(|session| session.role == ledger::entry::Role::Sidecar);
        spans.extend(sidecars.map(Span::from));
        question.before = answer.next;
        if answer.next.is_none() {
            let period = Period { from: args.from, to: to.max(args.from) };
            return Ok(Covered { size, period, pods: pods(spans, &told, period) });
        }
    }
}

/// What was true of pods in the period, and how many entries of the log the answers cover.
fn told(reader: &Reader, args: &CoverageArgs, to: Timestamp) -> Result<(Vec<Told>, u64), CliError> {
    let mut question = CoverageQuery {
        namespace: args.reader.namespace.clone(),
        connection: args.connection.clone(),
        since: Some(args.from),
        until: Some(to),
        limit: Some(MAX_LIMIT),
        ..CoverageQuery::default()
    };
    let (mut told, mut size) = (Vec::new(), u64::MAX);
    loop {
        let answer = reader.coverage(&question)?;
        size = size.min(answer.size);
        told.extend(answer.entries.into_iter().map(Told::from));
        question.before = answer.next;
        if answer.next.is_none() {
            return Ok((told, size));
        }
    }
}

fn print(covered: &Covered, out: Output) -> Result<(), CliError> {
    if !covered.pods.is_empty() {
        let mut table = out.table(&["POD", "CONNECTION", "FROM (UTC)", "TO", ""]);
        for pod in &covered.pods {
            rows(pod).into_iter().for_each(|row| {
                table.add_row(row);
            });
        }
        out.line(&table.to_string())?;
    }
    let gaps = covered.pods.iter().map(|pod| pod.gaps.len() as u64).sum();
    out.line(&format!(
        "{}, {}; from a log of {} entries. Of pods without a sidecar only those are in it that an operator saw.",
        counted(covered.pods.len() as u64, "pod"),
        counted(gaps, "gap"),
        covered.size
    ))?;
    Ok(())
}

/// Times under recording and gaps of a pod, in order; then what is missing of its sessions.
fn rows(pod: &Pod) -> Vec<Vec<Cell>> {
    let recorded = pod.recorded.iter().map(|one| (one.period, "under recording".to_owned()));
    let gaps = pod.gaps.iter().map(|gap| (gap.period, format!("GAP: {}", gap.describe())));
    let mut parts: Vec<_> = recorded.chain(gaps).collect();
    parts.sort_by_key(|(period, _)| period.from);
    let named = |from: String, to: String, said: String| {
        let name = printable(&format!("{}/{}", pod.subject.namespace, pod.subject.pod));
        let connection = printable(pod.connection.as_deref().unwrap_or_default());
        [name, connection, from, to, said].into_iter().map(Cell::new).collect()
    };
    let mut rows: Vec<Vec<Cell>> = parts
        .into_iter()
        .map(|(period, said)| named(time_text(period.from), time_text(period.to), said))
        .collect();
    if pod.missing_statements > 0 {
        let said = format!("{} never came", counted(pod.missing_statements, "statement"));
        rows.push(named(String::new(), String::new(), said));
    }
    if pod.refused_unrecorded > 0 {
        let said = format!("{} refused without room to record", counted(pod.refused_unrecorded, "call"));
        rows.push(named(String::new(), String::new(), said));
    }
    rows
}
