//! `bqwitness tail`: new calls, one a line, as they are recorded. Ends with an interrupt, or when the log does not continue what
//! was seen of it.

use std::io::Write as _;
use std::time::{Duration, Instant};

use ledger::search::{Answer, Call, Query};

use crate::Verdict;
use crate::args::{Format, TailArgs};
use crate::continues::Seen;
use crate::error::CliError;
use crate::reader::Reader;
use crate::render::{Output, result_text, rows_text, statement_text, tables_text, time_text};

/// Time before a recorder that has gone is asked again, the first time. Each time in a row takes twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Longest time between two such questions. They go on until the recorder answers, or the user interrupts.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Time between two looks at whether the log continues what was seen of it. One that was away is looked at when it is back.
const LOOK: Duration = Duration::from_secs(10);

pub(crate) fn run(args: &TailArgs, out: Output) -> Result<Verdict, CliError> {
    let reader = Reader::new(&args.reader)?;
    let key = reader.has_key(args.key.as_deref()).then(|| reader.key(args.key.as_deref())).transpose()?;
    let mut query = Query { limit: Some(1), ..args.filter.query(&args.reader) };
    let first = reader.search(&query)?;
    // What an index that is being rebuilt has not reached yet is not new.
    let mut size = first.rebuilding_to.unwrap_or(first.size);
    let mut followed = Followed { reader: &reader, seen: Seen::first(&reader, key)?, looked: Instant::now() };
    query.limit = None;
    loop {
        // The recorder answers when there is something new, or after a while with nothing.
        (query.from, query.wait) = (Some(size), Some(size + 1));
        let answer = followed.ask(&query, size)?;
        for call in &answer.calls {
            match out.format {
                Format::Json => out.json(call)?,
                Format::Table => out.line(&line(call))?,
            }
        }
        size = answer.next.unwrap_or(size.max(answer.size));
    }
}

/// A recorder that is followed, and what was seen of its log.
struct Followed<'a> {
    reader: &'a Reader,
    seen: Seen,
    looked: Instant,
}

impl Followed<'_> {
    /// The answer of a log that continues what was seen of it, also when the recorder is away for a while: it restarts. The user
    /// is told once each time.
    fn ask(&mut self, query: &Query, size: u64) -> Result<Answer, CliError> {
        let mut pause = FIRST_PAUSE;
        loop {
            let was_away = pause > FIRST_PAUSE;
            match self.ask_once(query, size, was_away) {
                Err(error) if error.may_pass() => {
                    if !was_away {
                        let told = format!("{error}; asking again, and going on from entry {size}");
                        // When standard error is closed, the calls still come.
                        let _told = writeln!(std::io::stderr(), "bqwitness: {told}").is_ok();
                    }
                    self.reader.pause(pause);
                    pause = longer(pause);
                }
                answer => return answer,
            }
        }
    }

    fn ask_once(&mut self, query: &Query, size: u64, was_away: bool) -> Result<Answer, CliError> {
        if was_away {
            self.look(size)?;
        }
        let answer = self.reader.search(query)?;
        let covered = answer.rebuilding_to.unwrap_or(answer.size);
        if covered < size || self.looked.elapsed() > LOOK {
            self.look(size.max(covered))?;
        }
        Ok(answer)
    }

    /// Has the log still the `covered` entries that were seen, and those before them as they were?
    fn look(&mut self, covered: u64) -> Result<(), CliError> {
        self.seen.look(self.reader, covered)?;
        self.looked = Instant::now();
        Ok(())
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
