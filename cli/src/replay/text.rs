//! A replay in words: who, each run, each step in it with its calls, what is missing, and how every session ended.

use std::collections::BTreeMap;

use ledger::call::{Access, CallResult, StatementUse};
use ledger::search::Call;
use ledger::search::sessions::{Ending, NamedHole, Session, SessionState};

use super::chains::Chain;
use super::runs::{By, How, Run};
use super::steps::{Step, Told};
use crate::render::{
    TABLES_SHOWN, bytes_text, duration_text, result_text, rows_text, tables_text, time_text,
};
use crate::text::{counted, printable};

/// Most statements of a script that a step shows. The entry has more of them, and the text below has all.
const STATEMENTS_SHOWN: usize = 20;

/// Between the facts of a line.
const DOT: &str = " \u{b7} ";

/// A pod's sessions and runs, as lines.
pub(crate) fn chain(chain: &Chain, how: &How) -> Vec<String> {
    let mut lines = vec![head(chain)];
    let several = chain.runs.len() > 1 || chain.runs.iter().any(|run| run.name.is_some());
    let mut marks = marks(chain);
    for run in &chain.runs {
        if several {
            lines.push(format!("== {} ==\n", run_line(run, how)));
        }
        for step in &run.steps {
            lines.extend(before(&mut marks, step.first().index));
            lines.push(step_text(step));
        }
    }
    lines.extend(marks.into_values());
    lines.extend(chain.sessions.iter().map(|session| ending(session, chain)));
    lines
}

fn head(chain: &Chain) -> String {
    let subject = &chain.subject;
    let connection =
        chain.connection.as_ref().map(|connection| format!("connection {connection}\n")).unwrap_or_default();
    let first = chain.sessions.first().map(began).unwrap_or_default();
    printable(&format!(
        "{}/{} in pod {} of cluster {}\n{connection}{first}\n",
        subject.namespace, subject.service_account, subject.pod, subject.cluster
    ))
}

/// `Session 0199..., sidecar 0.1.0, from ... UTC · entry 3`
fn began(session: &Session) -> String {
    let version =
        if session.version.is_empty() { String::new() } else { format!(", sidecar {}", session.version) };
    format!(
        "Session {}{version}, from {} UTC{DOT}entry {}",
        session.session,
        time_text(session.started),
        session.index
    )
}

/// What stands between calls, by its place in the log: holes, and sidecars that began anew.
fn marks(chain: &Chain) -> BTreeMap<u64, String> {
    let holes = chain.sessions.iter().flat_map(|session| &session.named_holes);
    let holes = holes.map(|named| (named.index, gap(named)));
    let restarts = chain.sessions.windows(2).map(|pair| (pair[1].index, restart(&pair[0], &pair[1])));
    holes.chain(restarts).collect()
}

/// Takes what stands before the entry at `index`.
fn before(marks: &mut BTreeMap<u64, String>, index: u64) -> Vec<String> {
    let later = marks.split_off(&index);
    std::mem::replace(marks, later).into_values().collect()
}

fn gap(named: &NamedHole) -> String {
    let (from, to) = (named.hole.from, named.hole.to);
    let missing = if from == to { format!("statement {from}") } else { format!("statements {from} to {to}") };
    format!("--:--:--      MISSING: {missing} of the session never came{DOT}entry {}\n", named.index)
}

fn restart(before: &Session, after: &Session) -> String {
    let why = match before.state {
        SessionState::Ended => "had ended in order",
        SessionState::Lost => "had fallen silent",
        SessionState::Open => "was not closed yet",
    };
    printable(&format!("--:--:--      The session before {why}. {}\n", began(after)))
}

fn run_line(run: &Run, how: &How) -> String {
    let by = match run.by {
        By::Label => format!(", as its label {} claims", how.label.as_deref().unwrap_or_default()),
        By::Trace => ", as its trace claims".into(),
        By::Idle => String::new(),
    };
    let name = run.name.as_deref().map_or("A run without a name".into(), |name| format!("Run {name}"));
    let calls = counted(run.calls(), "call");
    printable(&format!("{name}{by}: {calls}, {} to {} UTC", time_text(run.from), clock(run.to)))
}

fn clock(time: jiff::Timestamp) -> String {
    time.strftime("%H:%M:%S").to_string()
}

/// What was done, with its statement below; then the calls of the job, where there are several.
fn step_text(step: &Step) -> String {
    let told = leading(step);
    let call = &told.call;
    let what = call.statement_kind.clone().unwrap_or_else(|| request(call));
    let job = step.job.as_ref().map(|job| format!("job {job}"));
    let several = step.calls.len() > 1;
    let facts = [
        Some(what),
        filled(tables_text(call)),
        Some(call_result(call)),
        sent(call),
        rows(call),
        took(call),
        job,
    ];
    let entry = Some(format!("entry {}", call.index));
    let facts = facts.into_iter().chain([entry]);
    let mut lines = vec![format!("{}  {}", milliseconds(step.begun()), printable(&join(facts)))];
    lines.extend(statements(call).iter().map(|line| indent(&printable(line), 4)));
    if let Some(sql) = &call.sql {
        let cut = if call.sql_truncated { "\u{2026}" } else { "" };
        lines.push(indent(&printable(&format!("{sql}{cut}")), 4));
    }
    if several {
        lines.extend(step.calls.iter().map(part));
    } else {
        lines.extend(told.progress.as_ref().map(|_| indent(&going(told), 4)));
    }
    format!("{}\n", lines.join("\n"))
}

/// A line for each statement of a script: `INSERT  w d.done, r d.queue`.
fn statements(call: &Call) -> Vec<String> {
    let one = |statement: &StatementUse| {
        let tables = statement.tables.iter().take(TABLES_SHOWN).map(|table| match table.access {
            Access::Read => format!("r {table}"),
            Access::Write => format!("w {table}"),
        });
        let more = statement.tables.len().saturating_sub(TABLES_SHOWN);
        let more = if more > 0 { format!(" +{more}") } else { String::new() };
        let unlisted = if statement.tables_truncated { " and unlisted ones" } else { "" };
        let kind = statement.kind.as_deref().unwrap_or("(unknown)");
        let line = format!("{kind}  {}{more}{unlisted}", tables.collect::<Vec<_>>().join(", "));
        line.trim_end().to_owned()
    };
    let mut lines: Vec<_> = call.statements.iter().take(STATEMENTS_SHOWN).map(one).collect();
    if call.statements.len() > STATEMENTS_SHOWN || call.statements_truncated {
        lines.push("and more statements: `show` has them".into());
    }
    lines
}

/// The call of a job that says most: the one with a statement, else the one that came first.
fn leading(step: &Step) -> &Told {
    let with_sql = step.calls.iter().find(|told| told.call.sql.is_some());
    with_sql.or(step.calls.first()).expect("a step has a call")
}

/// One call of a job: `    10:00:01.250  GET jobs.getQueryResults, next page · 200 · 500 rows · 12.0 ms · entry 8`
fn part(told: &Told) -> String {
    let call = &told.call;
    let facts = [Some(request(call)), Some(call_result(call)), sent(call), rows(call), took(call)];
    let facts = facts.into_iter().chain([Some(format!("entry {}", call.index))]);
    let mut line = format!("    {}  {}", milliseconds(call.received), printable(&join(facts)));
    if told.progress.is_some() {
        line.push_str(&format!("\n{}", indent(&going(told), 8)));
    }
    line
}

/// `64.0 MiB sent by 10:02:03 · entry 7`: the last that was said of a call while it went on.
fn going(told: &Told) -> String {
    let Some(going) = &told.progress else { return String::new() };
    let sent = going.progress.sent.map(|body| format!("{} sent", bytes_text(body.wire_bytes)));
    let came =
        going.progress.answer.map(|body| format!("{} of the answer came", bytes_text(body.wire_bytes)));
    let what: Vec<_> = sent.into_iter().chain(came).collect();
    let what = if what.is_empty() { "nothing had passed".into() } else { what.join(", ") };
    format!("going on: {what} by {}{DOT}entry {}", clock(going.received), going.index)
}

/// The verb and the method, which tell a `PUT` of an upload from the `POST` that began it, and a page from the one before.
fn request(call: &Call) -> String {
    let (_, query) = call.http.path.split_once('?').unwrap_or_default();
    let further =
        query.split('&').any(|part| part.starts_with("pageToken=") && part.len() > "pageToken=".len());
    let page = if further { ", next page" } else { "" };
    let upload = if call.upload.is_some() { ", upload" } else { "" };
    format!("{} {}{page}{upload}", call.http.verb, call.method).trim_start().to_owned()
}

/// A refusal is named, also while its outcome has not come.
fn call_result(call: &Call) -> String {
    match (&call.refused, call.result) {
        (Some(reason), None) => format!("refused {reason}"),
        _ => result_text(call),
    }
}

/// Rows that an insertAll sent, or the data of an upload.
fn sent(call: &Call) -> Option<String> {
    match (call.rows_sent, call.sent_bytes) {
        (Some(rows), _) => {
            let refused = call.row_errors.filter(|errors| *errors > 0);
            let refused = refused.map(|errors| format!(", {errors} not taken")).unwrap_or_default();
            Some(format!("{} sent{refused}", counted(rows, "row")))
        }
        (None, Some(bytes)) => Some(format!("{} sent", bytes_text(bytes))),
        (None, None) => None,
    }
}

fn rows(call: &Call) -> Option<String> {
    filled(rows_text(call)).map(|rows| format!("{rows} rows"))
}

fn took(call: &Call) -> Option<String> {
    call.duration_micros.map(duration_text)
}

fn filled(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn join(facts: impl Iterator<Item = Option<String>>) -> String {
    facts.flatten().collect::<Vec<_>>().join(DOT)
}

fn milliseconds(time: jiff::Timestamp) -> String {
    time.strftime("%H:%M:%S%.3f").to_string()
}

fn indent(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{:by$}{line}", "")).collect::<Vec<_>>().join("\n")
}

/// How a session ended, and what the record does not have of it.
fn ending(session: &Session, chain: &Chain) -> String {
    let mut lines = Vec::new();
    if chain.sessions.len() > 1 {
        lines.push(format!("Session {}", session.session));
    }
    lines.push(state_line(session));
    lines.push(format!("{}, {} without outcome", counted(session.calls, "call"), session.open_calls));
    let refusals = refusals(session, chain);
    lines.extend(refusals.into_iter().map(|(reason, count)| format!("  refused {count}: {reason}")));
    if session.refused_unrecorded > 0 {
        lines.push(format!(
            "  refused {} more, which the sidecar had no room to record",
            session.refused_unrecorded
        ));
    }
    if session.holes > 0 {
        lines.push(format!(
            "{} never came, in {}",
            counted(session.missing, "statement"),
            counted(session.holes, "hole")
        ));
    }
    printable(&lines.join("\n"))
}

fn state_line(session: &Session) -> String {
    let heard = time_text(session.heard);
    match (session.state, &session.end) {
        (SessionState::Ended, Some(Ending { reason, received, index, .. })) => format!(
            "Ended {} UTC: {}{DOT}entry {index}",
            time_text(*received),
            reason.as_deref().unwrap_or("no reason given")
        ),
        (SessionState::Lost, Some(Ending { received, index, .. })) => format!(
            "LOST: silent since {heard} UTC, closed {} with {}{DOT}entry {index}",
            time_text(*received),
            counted(session.open_calls, "open call")
        ),
        _ => format!("Open; last heard {heard} UTC"),
    }
}

/// The session's refusals by reason.
fn refusals<'a>(session: &Session, chain: &'a Chain) -> BTreeMap<&'a str, u64> {
    let steps = chain.runs.iter().flat_map(|run| &run.steps);
    let calls = steps.flat_map(|step| &step.calls).map(|told| &told.call);
    let mut refusals = BTreeMap::new();
    for call in calls.filter(|call| call.session == session.session) {
        let after_intent = call.reason.as_deref().filter(|_| call.result == Some(CallResult::Refused));
        if let Some(reason) = call.refused.as_deref().or(after_intent) {
            *refusals.entry(reason).or_default() += 1;
        }
    }
    refusals
}

#[cfg(test)]
mod tests;
