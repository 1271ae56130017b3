//! `bqwitness tail`: new calls, one a line, as they are recorded. Ends with an interrupt.

use std::io::Write as _;
use std::time::Duration;

use ledger::search::{Answer, Call, Query};

use crate::Verdict;
use crate::args::{Format, TailArgs};
use crate::error::CliError;
use crate::reader::Reader;
use crate::render::{Output, result_text, rows_text, statement_text, tables_text, time_text};

/// Time before a recorder that has gone is asked again, the first time. Each time in a row takes twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Longest time between two such questions. They go on until the recorder answers, or the user interrupts.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

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
        let answer = patiently(&reader, &query, size)?;
        for call in &answer.calls {
            match out.format {
                Format::Json => out.json(call)?,
                Format::Table => out.line(&line(call))?,
            }
        }
        size = answer.next.unwrap_or(size.max(answer.size));
    }
}

/// The answer, also when the recorder is away for a while: it restarts. The user is told once each time.
fn patiently(reader: &Reader, query: &Query, size: u64) -> Result<Answer, CliError> {
    let mut pause = FIRST_PAUSE;
    loop {
        match reader.search(query) {
            Err(error) if error.may_pass() => {
                if pause == FIRST_PAUSE {
                    let told = format!("{error}; asking again, and going on from entry {size}");
                    // When standard error is closed, the calls still come.
                    let _told = writeln!(std::io::stderr(), "bqwitness: {told}").is_ok();
                }
                reader.pause(pause);
                pause = longer(pause);
            }
            answer => return answer,
        }
    }
}

fn longer(pause: Duration) -> Duration {
    (pause * 2).min(LONGEST_PAUSE)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        let pauses: Vec<_> =
            std::iter::successors(Some(FIRST_PAUSE), |pause| Some(longer(*pause))).take(100).collect();
        assert_eq!(pauses[..3], [FIRST_PAUSE, FIRST_PAUSE * 2, FIRST_PAUSE * 4]);
        assert!(pauses.is_sorted());
        assert_eq!(pauses[99], LONGEST_PAUSE);
        assert_eq!(pauses.iter().filter(|pause| **pause == FIRST_PAUSE).count(), 1, "told once");
    }
}
