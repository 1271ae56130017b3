//! `bqwitness search`

use comfy_table::{Cell, ColumnConstraint};
use ledger::search::{Answer, Call, MAX_LIMIT};

use crate::Verdict;
use crate::args::{Format, SearchArgs};
use crate::error::CliError;
use crate::reader::Reader;
use crate::render::{Output, covered_text, rows_text, statement_text, tables_text, time_text};
use crate::text::one_line;

pub(crate) fn run(args: &SearchArgs, out: Output) -> Result<Verdict, CliError> {
    let answer = find(&Reader::new(&args.reader)?, args)?;
    match out.format {
        Format::Json => out.json(&answer)?,
        Format::Table => print(&answer, args.wide, out)?,
    }
    Ok(Verdict::Holds)
}

/// Asks for pages until there are as many calls as were asked for.
fn find(reader: &Reader, args: &SearchArgs) -> Result<Answer, CliError> {
    let mut query = args.filter.query(&args.reader);
    (query.before, query.wait) = (args.before, args.wait);
    let mut whole = Answer { size: 0, rebuilding_to: None, calls: Vec::new(), next: None };
    loop {
        let missing = args.limit - u32::try_from(whole.calls.len()).unwrap_or(args.limit);
        query.limit = Some(missing.min(MAX_LIMIT));
        let page = reader.search(&query)?;
        (whole.size, whole.rebuilding_to) = (page.size, page.rebuilding_to);
        whole.next = page.next;
        whole.calls.extend(page.calls);
        query.before = page.next;
        if whole.next.is_none() || whole.calls.len() >= args.limit as usize {
            return Ok(whole);
        }
    }
}

fn print(answer: &Answer, wide: bool, out: Output) -> Result<(), CliError> {
    if out.is_narrow() {
        listed(&answer.calls, wide, out).iter().try_for_each(|line| out.line(line))?;
    } else if !answer.calls.is_empty() {
        let mut table = out.table(&COLUMNS);
        for call in &answer.calls {
            table.add_row(row(call, wide, out));
        }
        out.line(&table.to_string())?;
    }
    let calls =
        if answer.calls.len() == 1 { "1 call".into() } else { format!("{} calls", answer.calls.len()) };
    out.line(&format!("{calls}, {}", covered_text(answer.size, answer.rebuilding_to)))?;
    if answer.calls.iter().any(|call| call.tables_truncated) {
        out.line("\"unlisted\": the call names more tables than its entry holds; a search by table finds it under every name. `show INDEX` has its SQL.")?;
    }
    if let Some(next) = answer.next {
        out.line(&format!("There may be more: --before {next}"))?;
    }
    Ok(())
}

const COLUMNS: [&str; 9] =
    ["INDEX", "RECEIVED (UTC)", "AGENT", "POD", "KIND", "TABLES", "RESULT", "ROWS", "STATEMENT"];

/// For narrow terminals: a line of facts for each call, none of which is broken, then its tables and its statement below.
fn listed(calls: &[Call], wide: bool, out: Output) -> Vec<String> {
    let mut table = out.table(&["INDEX", "RECEIVED (UTC)", "AGENT", "KIND", "RESULT", "ROWS"]);
    for call in calls {
        let [index, received, agent, _pod, kind, _tables, result, rows, _statement] = row(call, wide, out);
        table.add_row([index, received, agent, kind, result, rows]);
    }
    table.column_iter_mut().for_each(|column| {
        column.set_constraint(ColumnConstraint::ContentWidth);
    });
    let mut facts = table.lines();
    let mut lines: Vec<String> = facts.next().filter(|_| !calls.is_empty()).into_iter().collect();
    for (fact, call) in facts.zip(calls) {
        lines.push(fact.trim_end().to_owned());
        let width = out.columns().saturating_sub(INDENT.len());
        let statement =
            if wide { statement_text(call, true) } else { one_line(&statement_text(call, true), width) };
        let below = [one_line(&tables_text(call), width), statement];
        let below = below.iter().flat_map(|text| text.lines()).filter(|line| !line.is_empty());
        lines.extend(below.map(|line| format!("{INDENT}{line}")));
    }
    lines
}

const INDENT: &str = "       ";

fn row(call: &Call, wide: bool, out: Output) -> [Cell; 9] {
    let agent = format!("{}/{}", call.subject.namespace, call.subject.service_account);
    [
        Cell::new(call.index),
        Cell::new(time_text(call.received)),
        Cell::new(agent),
        Cell::new(&call.subject.pod),
        Cell::new(call.statement_kind.as_deref().unwrap_or(&call.method)),
        Cell::new(tables_text(call)),
        out.result(call),
        Cell::new(rows_text(call)),
        Cell::new(statement_text(call, wide)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Color, Format};

    fn call(index: u64, sql: &str) -> Call {
        let json = serde_json::json!({
            "index": index, "outcomeIndex": index + 1, "received": "2026-11-22T10:00:00Z", "time": "2026-11-22T10:00:00Z",
            "subject": {"cluster": "prod", "namespace": "agents", "serviceAccount": "billing-reports",
                "pod": "billing-reports-7d4b9c6f5-x2x9k", "podUID": "u"},
            "session": "00000000-0000-0000-0000-000000000007", "seq": 1, "method": "jobs.query",
            "http": {"verb": "POST", "host": "bigquery.googleapis.com", "path": "/bigquery/v2/projects/acme/queries"},
            "statementKind": "SELECT", "sql": sql, "result": "answered", "status": 200, "rows": 3,
            "tables": [{"dataset": "billing", "table": "invoices_of_last_year", "access": "read", "reported": true}],
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_narrow_terminal_breaks_no_name() {
        let sql = format!(
            "SELECT account_id\nFROM billing.invoices_of_last_year WHERE {}",
            "x = 1 AND ".repeat(20)
        );
        for width in [80, 100] {
            let out = Output::new(Format::Table, Color::Never).with_width(width);
            let lines = listed(&[call(120_345, &sql), call(7, "SELECT 1")], false, out);
            assert!(lines.iter().all(|line| line.chars().count() <= usize::from(width)), "{lines:#?}");
            assert_eq!(lines.len(), 1 + 2 * 3, "{lines:#?}");
            let text = lines.join("\n");
            for name in
                ["120345", "2026-11-22 10:00:00", "agents/billing-reports", "r billing.invoices_of_last_year"]
            {
                assert!(text.contains(name), "{name} is broken: {text}");
            }
            assert!(lines[6].trim_start().starts_with("SELECT 1"), "{text}");
        }
        let out = Output::new(Format::Table, Color::Never).with_width(80);
        assert_eq!(listed(&[], false, out), Vec::<String>::new());
    }
}
