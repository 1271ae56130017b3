//! `bqwitness sessions`: who spoke, since when, and how it ended.

use comfy_table::{Cell, ColumnConstraint, Table};
use ledger::search::MAX_LIMIT;
use ledger::search::sessions::{Session, SessionAnswer, SessionQuery};

use crate::Verdict;
use crate::args::{Format, SessionsArgs};
use crate::error::CliError;
use crate::reader::Reader;
use crate::render::{Output, covered_text, time_text};
use crate::text::{counted, printable};

pub(crate) fn run(args: &SessionsArgs, out: Output) -> Result<Verdict, CliError> {
    let answer = find(&Reader::new(&args.reader)?, args)?;
    match out.format {
        Format::Json => out.json(&answer)?,
        Format::Table => print(&answer, out)?,
    }
    Ok(Verdict::Holds)
}

/// Asks for pages until there are as many sessions as were asked for.
fn find(reader: &Reader, args: &SessionsArgs) -> Result<SessionAnswer, CliError> {
    let mut query = args.query();
    let mut whole = SessionAnswer { size: 0, rebuilding_to: None, sessions: Vec::new(), next: None };
    loop {
        let missing = args.limit - u32::try_from(whole.sessions.len()).unwrap_or(args.limit);
        let page = reader.sessions(&SessionQuery { limit: Some(missing.min(MAX_LIMIT)), ..query.clone() })?;
        (whole.size, whole.rebuilding_to) = (page.size, page.rebuilding_to);
        whole.next = page.next;
        whole.sessions.extend(page.sessions);
        query.before = page.next;
        if whole.next.is_none() || whole.sessions.len() >= args.limit as usize {
            return Ok(whole);
        }
    }
}

fn print(answer: &SessionAnswer, out: Output) -> Result<(), CliError> {
    if out.is_narrow_for_sessions() {
        listed(&answer.sessions, out).iter().try_for_each(|line| out.line(line))?;
    } else if !answer.sessions.is_empty() {
        out.line(&table(answer, out).to_string())?;
    }
    let sessions = counted(answer.sessions.len() as u64, "session");
    out.line(&format!("{sessions}, {}", covered_text(answer.size, answer.rebuilding_to)))?;
    if let Some(next) = answer.next {
        out.line(&format!("There may be more: --before {next}"))?;
    }
    Ok(())
}

fn table(answer: &SessionAnswer, out: Output) -> Table {
    let mut table = out.table(&[
        "SESSION",
        "AGENT",
        "POD",
        "CONNECTION",
        "STARTED (UTC)",
        "LAST HEARD",
        "STATE",
        "CALLS",
        "REFUSED",
        "HOLES",
        "VERSION",
    ]);
    // The id is there to be copied: it stays on one line.
    if let Some(ids) = table.column_mut(0) {
        ids.set_constraint(ColumnConstraint::ContentWidth);
    }
    for session in &answer.sessions {
        table.add_row(row(session, out));
    }
    table
}

/// For narrow terminals: id and state of each session, and below them who it was, since when, and what was counted. Nothing is
/// broken, so all can be copied.
fn listed(sessions: &[Session], out: Output) -> Vec<String> {
    let mut table = out.table(&["SESSION", "STATE", "CALLS", "REFUSED", "HOLES"]);
    for session in sessions {
        table.add_row([
            Cell::new(session.session),
            out.state(session.state),
            Cell::new(calls_text(session)),
            Cell::new(refused_text(session)),
            Cell::new(holes_text(session)),
        ]);
    }
    table.column_iter_mut().for_each(|column| {
        column.set_constraint(ColumnConstraint::ContentWidth);
    });
    let mut facts = table.lines();
    let mut lines: Vec<String> = facts.next().filter(|_| !sessions.is_empty()).into_iter().collect();
    for (fact, session) in facts.zip(sessions) {
        lines.push(fact.trim_end().to_owned());
        lines.extend(below(session).map(|line| format!("{INDENT}{line}")));
    }
    lines
}

const INDENT: &str = "   ";

fn below(session: &Session) -> impl Iterator<Item = String> {
    let subject = &session.subject;
    let connection = session.connection.as_ref().map(|c| format!(", connection {}/{}", c.namespace, c.name));
    let who = format!("{}/{}, pod {}", subject.namespace, subject.service_account, subject.pod);
    let (started, heard) = (time_text(session.started), time_text(session.heard));
    [
        printable(&format!("{who}{}", connection.unwrap_or_default())),
        printable(&format!("from {started} to {heard} UTC, version {}", session.version)),
    ]
    .into_iter()
}

fn row(session: &Session, out: Output) -> Vec<Cell> {
    let subject = &session.subject;
    let connection = session.connection.as_ref().map(|c| format!("{}/{}", c.namespace, c.name));
    vec![
        Cell::new(session.session),
        Cell::new(printable(&format!("{}/{}", subject.namespace, subject.service_account))),
        Cell::new(printable(&subject.pod)),
        Cell::new(printable(&connection.unwrap_or_default())),
        Cell::new(time_text(session.started)),
        Cell::new(time_text(session.heard)),
        out.state(session.state),
        Cell::new(calls_text(session)),
        Cell::new(refused_text(session)),
        Cell::new(holes_text(session)),
        Cell::new(printable(&session.version)),
    ]
}

/// `12`, or `12 (1 open)`.
fn calls_text(session: &Session) -> String {
    match session.open_calls {
        0 => session.calls.to_string(),
        open => format!("{} ({open} open)", session.calls),
    }
}

/// `3`, or `3 +2 unrecorded`: two more that could not be recorded.
fn refused_text(session: &Session) -> String {
    match session.refused_unrecorded {
        0 => session.refused.to_string(),
        unrecorded => format!("{} +{unrecorded} unrecorded", session.refused),
    }
}

/// `0`, or `1 (5 statements)`.
fn holes_text(session: &Session) -> String {
    match session.holes {
        0 => "0".into(),
        holes => format!("{holes} ({})", counted(session.missing, "statement")),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::args::Color;
    use ledger::entry::{Role, Workload};
    use ledger::search::sessions::SessionState;
    use uuid::Uuid;

    /// An open session without calls.
    pub(crate) fn session() -> Session {
        Session {
            index: 3,
            session: Uuid::from_u128(7),
            subject: Workload {
                cluster: "prod".into(),
                namespace: "agents".into(),
                service_account: "billing".into(),
                pod: "billing-0".into(),
                pod_uid: "u".into(),
                node: None,
            },
            role: Role::Sidecar,
            connection: None,
            version: "0.1.0".into(),
            started: "2026-11-22T10:00:00Z".parse().unwrap(),
            heard: "2026-11-22T10:05:00Z".parse().unwrap(),
            state: SessionState::Open,
            end: None,
            calls: 2,
            open_calls: 0,
            refused: 0,
            refused_unrecorded: 0,
            holes: 0,
            missing: 0,
            named_holes: Vec::new(),
        }
    }

    #[test]
    fn what_is_not_as_it_should_be_is_said() {
        let fine = session();
        assert_eq!(
            (calls_text(&fine), refused_text(&fine), holes_text(&fine)),
            ("2".into(), "0".into(), "0".into())
        );
        let odd = Session { open_calls: 1, refused: 3, refused_unrecorded: 2, holes: 1, missing: 5, ..fine };
        assert_eq!(calls_text(&odd), "2 (1 open)");
        assert_eq!(refused_text(&odd), "3 +2 unrecorded");
        assert_eq!(holes_text(&odd), "1 (5 statements)");
    }

    #[test]
    fn a_narrow_terminal_breaks_nothing() {
        let odd = Session { open_calls: 1, refused_unrecorded: 2, holes: 1, missing: 5, ..session() };
        let lines = listed(&[session(), odd], Output::new(Format::Table, Color::Never).with_width(80));
        let facts: Vec<_> =
            lines.iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let id = session().session;
        assert_eq!(
            facts,
            [
                "SESSION STATE CALLS REFUSED HOLES".to_owned(),
                format!("{id} open 2 0 0"),
                "agents/billing, pod billing-0".into(),
                "from 2026-11-22 10:00:00 to 2026-11-22 10:05:00 UTC, version 0.1.0".into(),
                format!("{id} open 2 (1 open) 0 +2 unrecorded 1 (5 statements)"),
                "agents/billing, pod billing-0".into(),
                "from 2026-11-22 10:00:00 to 2026-11-22 10:05:00 UTC, version 0.1.0".into(),
            ]
        );
        assert!(listed(&[], Output::new(Format::Table, Color::Never)).is_empty());
    }

    #[test]
    fn an_id_stays_on_one_line() {
        let long = Session { version: "0.1.0-rc.1+build.of.a.long.name".repeat(4), ..session() };
        let answer = SessionAnswer { size: 4, rebuilding_to: None, sessions: vec![long], next: None };
        let text = table(&answer, Output::new(Format::Table, Color::Never)).to_string();
        assert!(text.contains(&session().session.to_string()), "{text}");
    }
}
