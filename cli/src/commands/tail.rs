//! `bqwitness tail`: new calls, one a line, as they are recorded. Ends with an interrupt.

use ledger::search::{Call, Query};

use crate::Verdict;
use crate::args::{Format, TailArgs};
use crate::error::CliError;
use crate::reader::Reader;
use crate::render::{Output, result_text, rows_text, statement_text, tables_text, time_text};

pub(crate) fn run(args: &TailArgs, out: Output) -> Result<Verdict, CliError> {
    let reader = Reader::new(&args.reader)?;
    let mut query = Query { limit: Some(1), ..args.filter.query(&args.reader) };
    let first = reader.search(&query)?;
    // What an index that is being rebuilt has not reached yet is not new.
    let mut size = first.rebuilding_to.unwrap_or(first.size);
    query.limit = None;
    loop {
        // The recorder answers when there is something new, or after a while with nothing.
        (query.from, query.wait) = (Some(size), Some(size + 1));
        let answer = reader.search(&query)?;
        for call in &answer.calls {
            match out.format {
                Format::Json => out.json(call)?,
                Format::Table => out.line(&line(call))?,
            }
        }
        size = answer.next.unwrap_or(size.max(answer.size));
    }
}

fn line(call: &Call) -> String {
    let parts = [
        time_text(call.received),
        format!("{}/{}", call.subject.namespace, call.subject.service_account),
        call.statement_kind.clone().unwrap_or_else(|| call.method.clone()),
        tables_text(call),
        result_text(call),
        rows_text(call),
        statement_text(call, false),
    ];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ")
}
