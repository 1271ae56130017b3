//! `bqwitness replay SESSION`: one session as a timeline: who spoke, what was called, what is missing, how it ended.

use std::collections::BTreeMap;

use ledger::call::CallResult;
use ledger::search::sessions::{Ending, NamedHole, Session, SessionQuery, SessionState};
use ledger::search::{Call, MAX_LIMIT, Query};
use serde::Serialize;

use crate::Verdict;
use crate::args::{Format, ReplayArgs};
use crate::error::CliError;
use crate::reader::Reader;
use crate::render::{Output, covered_text, duration_text, result_text, rows_text, tables_text, time_text};
use crate::text::{counted, printable};

/// A whole session, as far as a log of `size` entries has it.
#[derive(Debug, Serialize)]
struct Replay {
    size: u64,
    /// The index is being rebuilt to this size: calls may be missing here that the log has.
    #[serde(rename = "rebuildingTo", skip_serializing_if = "Option::is_none")]
    rebuilding_to: Option<u64>,
    session: Session,
    calls: Vec<Call>,
}

pub(crate) fn run(args: &ReplayArgs, out: Output) -> Result<Verdict, CliError> {
    let replay = read(&Reader::new(&args.reader)?, args)?;
    match out.format {
        Format::Json => out.json(&replay)?,
        Format::Table => print(&replay, out)?,
    }
    Ok(Verdict::Holds)
}

/// The calls first, then the session from an index that covers at least those: its counts are never behind what is told.
fn read(reader: &Reader, args: &ReplayArgs) -> Result<Replay, CliError> {
    let (size, calls) = read_calls(reader, args)?;
    let question = SessionQuery { session: Some(args.session), wait: Some(size), ..SessionQuery::default() };
    let answer = reader.sessions(&question)?;
    match answer.sessions.into_iter().next() {
        Some(session) => Ok(Replay { size, rebuilding_to: answer.rebuilding_to, session, calls }),
        None => Err(CliError::NoSession { session: args.session, size: answer.size }),
    }
}

fn read_calls(reader: &Reader, args: &ReplayArgs) -> Result<(u64, Vec<Call>), CliError> {
    let mut query =
        Query { session: Some(args.session), from: Some(0), limit: Some(MAX_LIMIT), ..Query::default() };
    let mut calls = Vec::new();
    loop {
        let page = reader.search(&query)?;
        calls.extend(page.calls);
        match page.next {
            Some(next) => query.from = Some(next),
            None => return Ok((page.size, calls)),
        }
    }
}

fn print(replay: &Replay, out: Output) -> Result<(), CliError> {
    out.line(&head(&replay.session))?;
    for (_, step) in timeline(replay) {
        out.line(&step)?;
    }
    out.line(&ending(&replay.session, &replay.calls))?;
    if replay.rebuilding_to.is_some() {
        out.line(&format!("INCOMPLETE: {}", covered_text(replay.size, replay.rebuilding_to)))?;
    }
    Ok(())
}

fn head(session: &Session) -> String {
    let subject = &session.subject;
    let connection = session
        .connection
        .as_ref()
        .map(|c| format!("connection {}/{}, ", c.namespace, c.name))
        .unwrap_or_default();
    printable(&format!(
        "Session {}\n{}/{} in pod {} of cluster {}\n{connection}sidecar {}, from {} UTC\n",
        session.session,
        subject.namespace,
        subject.service_account,
        subject.pod,
        subject.cluster,
        session.version,
        time_text(session.started),
    ))
}

/// Calls and holes in the order of the log.
fn timeline(replay: &Replay) -> BTreeMap<u64, String> {
    let calls = replay.calls.iter().map(|call| (call.index, step(call)));
    let holes = replay.session.named_holes.iter().map(|named| (named.index, gap(named)));
    calls.chain(holes).collect()
}

/// One call: when, what, how it ended and how long it took; then its statement, indented.
fn step(call: &Call) -> String {
    let facts = [
        call.statement_kind.clone().unwrap_or_else(|| call.method.clone()),
        tables_text(call),
        call_result(call),
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

/// A refusal is named, also while its outcome has not come.
fn call_result(call: &Call) -> String {
    match (&call.refused, call.result) {
        (Some(reason), None) => format!("refused {reason}"),
        _ => result_text(call),
    }
}

fn gap(named: &NamedHole) -> String {
    let (from, to) = (named.hole.from, named.hole.to);
    let missing = if from == to { format!("statement {from}") } else { format!("statements {from} to {to}") };
    format!("--:--:--      MISSING: {missing} of the session never came \u{b7} entry {}\n", named.index)
}

/// How it ended, and what the record does not have of it.
fn ending(session: &Session, calls: &[Call]) -> String {
    let mut lines = vec![state_line(session)];
    lines.push(format!("{}, {} without outcome", counted(session.calls, "call"), session.open_calls));
    lines.extend(refusals(calls).into_iter().map(|(reason, count)| format!("  refused {count}: {reason}")));
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
            "Ended {} UTC: {} \u{b7} entry {index}",
            time_text(*received),
            reason.as_deref().unwrap_or("no reason given")
        ),
        (SessionState::Lost, Some(Ending { received, index, .. })) => format!(
            "LOST: silent since {heard} UTC, closed {} with {} \u{b7} entry {index}",
            time_text(*received),
            counted(session.open_calls, "open call")
        ),
        _ => format!("Open; last heard {heard} UTC"),
    }
}

/// The refusals by reason.
fn refusals(calls: &[Call]) -> BTreeMap<&str, u64> {
    let mut refusals = BTreeMap::new();
    for call in calls {
        let after_intent = call.reason.as_deref().filter(|_| call.result == Some(CallResult::Refused));
        if let Some(reason) = call.refused.as_deref().or(after_intent) {
            *refusals.entry(reason).or_default() += 1;
        }
    }
    refusals
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::sessions::tests::session;
    use ledger::call::HttpTarget;
    use ledger::statement::Hole;

    fn call(index: u64, refused: Option<&str>) -> Call {
        Call {
            index,
            outcome_index: None,
            progress_index: None,
            received: "2026-11-22T10:00:01Z".parse().unwrap(),
            time: "2026-11-22T10:00:01Z".parse().unwrap(),
            subject: session().subject,
            connection: None,
            session: session().session,
            seq: index,
            method: "jobs.query".into(),
            http: HttpTarget::default(),
            statement_kind: None,
            tables: Vec::new(),
            tables_truncated: false,
            sql: None,
            sql_truncated: false,
            job: None,
            joined: None,
            upload: None,
            result: None,
            status: None,
            reason: None,
            rows: None,
            total_rows: None,
            affected_rows: None,
            rows_sent: None,
            row_errors: None,
            sent_bytes: None,
            answer_bytes: None,
            forwarded: None,
            duration_micros: None,
            refused: refused.map(str::to_owned),
        }
    }

    fn ended(state: SessionState, reason: Option<&str>) -> Session {
        let end = Ending {
            index: 9,
            received: "2026-11-22T10:06:00Z".parse().unwrap(),
            reason: reason.map(str::to_owned),
            open_intents: Vec::new(),
        };
        Session { state, end: Some(end), ..session() }
    }

    #[test]
    fn a_replay_ends_with_how_the_session_ended() {
        assert_eq!(
            ending(&session(), &[]),
            "Open; last heard 2026-11-22 10:05:00 UTC\n2 calls, 0 without outcome"
        );
        assert!(
            ending(&ended(SessionState::Ended, Some("shutdown")), &[])
                .starts_with("Ended 2026-11-22 10:06:00 UTC: shutdown \u{b7} entry 9\n")
        );
        let lost = Session { open_calls: 2, ..ended(SessionState::Lost, None) };
        assert!(ending(&lost, &[]).starts_with(
            "LOST: silent since 2026-11-22 10:05:00 UTC, closed 2026-11-22 10:06:00 with 2 open calls \u{b7} entry 9\n"
        ));
    }

    #[test]
    fn what_is_not_in_the_record_is_named() {
        let session = Session { refused_unrecorded: 3, holes: 1, missing: 4, ..session() };
        let mut late = call(5, None);
        (late.result, late.reason) = (Some(CallResult::Refused), Some("recorder_unavailable".into()));
        let calls = [call(4, Some("unknown_method")), late, call(6, Some("unknown_method")), call(7, None)];
        let text = ending(&session, &calls);
        for line in [
            "  refused 2: unknown_method",
            "  refused 1: recorder_unavailable",
            "  refused 3 more, which the sidecar had no room to record",
            "4 statements never came, in 1 hole",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
        }
    }

    #[test]
    fn holes_stand_where_they_are_in_the_log() {
        let hole = Hole { session: session().session, from: 2, to: 5 };
        let session = Session { named_holes: vec![NamedHole { index: 5, hole }], ..session() };
        let replay = Replay {
            size: 9,
            rebuilding_to: None,
            session,
            calls: vec![call(4, None), call(6, Some("rule"))],
        };
        let steps: Vec<_> = timeline(&replay).into_iter().collect();
        assert_eq!(steps.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [4, 5, 6]);
        assert!(steps[1].1.contains("MISSING: statements 2 to 5"), "{}", steps[1].1);
        assert!(steps[2].1.contains("refused rule"), "{}", steps[2].1);
    }
}
