//! `bqwitness search`

use ledger::search::{Answer, Call, MAX_LIMIT};

use crate::Verdict;
use crate::args::{Format, SearchArgs};
use crate::error::CliError;
use crate::reader::Reader;
use crate::render::{Output, covered_text, rows_text, statement_text, tables_text, time_text};

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
    let mut query = args.filter.query();
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
    if !answer.calls.is_empty() {
        let mut table = out.table(&[
            "INDEX",
            "RECEIVED (UTC)",
            "AGENT",
            "POD",
            "KIND",
            "TABLES",
            "RESULT",
            "ROWS",
            "STATEMENT",
        ]);
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

pub(super) fn row(call: &Call, wide: bool, out: Output) -> Vec<comfy_table::Cell> {
    use comfy_table::Cell;
    let agent = format!("{}/{}", call.subject.namespace, call.subject.service_account);
    vec![
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
