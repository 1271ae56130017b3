//! `bqwitness replay SESSION`: one session as a timeline.

use ledger::search::{Answer, Call, MAX_LIMIT, Query};

use crate::Verdict;
use crate::args::{Format, ReplayArgs};
use crate::error::CliError;
use crate::reader::Reader;
use crate::render::{Output, duration_text, result_text, rows_text, tables_text, time_text};
use crate::text::printable;

pub(crate) fn run(args: &ReplayArgs, out: Output) -> Result<Verdict, CliError> {
    let whole = read_session(&Reader::new(&args.reader)?, args)?;
    match out.format {
        Format::Json => out.json(&whole)?,
        Format::Table => print(&whole, args, out)?,
    }
    Ok(Verdict::Holds)
}

fn read_session(reader: &Reader, args: &ReplayArgs) -> Result<Answer, CliError> {
    let mut query =
        Query { session: Some(args.session), from: Some(0), limit: Some(MAX_LIMIT), ..Query::default() };
    let mut whole = Answer { size: 0, calls: Vec::new(), next: None };
    loop {
        let page = reader.search(&query)?;
        whole.size = page.size;
        whole.calls.extend(page.calls);
        match page.next {
            Some(next) => query.from = Some(next),
            None => return Ok(whole),
        }
    }
}

fn print(session: &Answer, args: &ReplayArgs, out: Output) -> Result<(), CliError> {
    let Some(first) = session.calls.first() else {
        let size = session.size;
        return Ok(out.line(&format!("Session {} has no calls in a log of {size} entries.", args.session))?);
    };
    out.line(&title(first, session, args))?;
    for call in &session.calls {
        out.line(&step(call))?;
    }
    Ok(())
}

fn title(first: &Call, session: &Answer, args: &ReplayArgs) -> String {
    let subject = &first.subject;
    let connection = first
        .connection
        .as_ref()
        .map(|c| format!(", connection {}/{}", c.namespace, c.name))
        .unwrap_or_default();
    printable(&format!(
        "Session {}\n{}/{} in pod {} of cluster {}{connection}\n{} calls, from {} UTC\n",
        args.session,
        subject.namespace,
        subject.service_account,
        subject.pod,
        subject.cluster,
        session.calls.len(),
        time_text(first.received),
    ))
}

/// One call: when, what, how it ended and how long it took; then its statement, indented.
fn step(call: &Call) -> String {
    let facts = [
        call.statement_kind.clone().unwrap_or_else(|| call.method.clone()),
        tables_text(call),
        result_text(call),
        Some(rows_text(call))
            .filter(|rows| !rows.is_empty())
            .map(|rows| format!("{rows} rows"))
            .unwrap_or_default(),
        call.duration_micros.map(duration_text).unwrap_or_default(),
        format!("entry {}", call.index),
    ];
    let facts = facts.into_iter().filter(|fact| !fact.is_empty()).collect::<Vec<_>>().join(" \u{b7} ");
    let statement =
        call.sql.as_deref().map(|sql| format!("\n{}", indent(&printable(sql)))).unwrap_or_default();
    format!("{}  {}{statement}\n", call.received.strftime("%H:%M:%S%.3f"), printable(&facts))
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}
