//! How things are printed: tables for people, JSON for programs.

use std::io::{self, IsTerminal as _, Write};

use comfy_table::{Cell, Color as TableColor, ContentArrangement, Table, presets};
use jiff::Timestamp;
use ledger::call::{Access, CallResult};
use ledger::search::sessions::SessionState;
use ledger::search::{Call, FoundTable};
use serde::Serialize;

use crate::args::{Color, Format};
use crate::text::{counted, escaped_json, grouped, one_line, printable};

/// Columns that a table may take when standard output is no terminal.
const DEFAULT_WIDTH: u16 = 160;

/// Below this width, in columns, a table of calls would break the names in it.
const NARROW: u16 = 132;

/// Below this width, in columns, a table of sessions would.
const NARROW_FOR_SESSIONS: u16 = DEFAULT_WIDTH;

/// Widest single line of SQL in a table, in characters; `--wide` shows it whole.
const SQL_WIDTH: usize = 90;

/// Most tables named in one line.
pub(crate) const TABLES_SHOWN: usize = 3;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(crate) format: Format,
    pub(crate) colored: bool,
    width: u16,
}

impl Output {
    pub(crate) fn new(format: Format, color: Color) -> Self {
        let terminal = io::stdout().is_terminal();
        let colored = match color {
            // https://no-color.org: an empty one does not count.
            Color::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
            Color::Always => true,
            Color::Never => false,
        };
        let width = terminal.then(|| rustix::termios::tcgetwinsize(io::stdout()).ok()).flatten();
        Self { format, colored, width: width.map_or(DEFAULT_WIDTH, |size| size.ws_col.max(60)) }
    }

    /// The same for a terminal of this width.
    #[cfg(test)]
    pub(crate) fn with_width(self, width: u16) -> Self {
        Self { width, ..self }
    }

    /// Too narrow for a table that says all of a call in one line.
    pub(crate) fn is_narrow(self) -> bool {
        self.width < NARROW
    }

    /// Too narrow for a table that says all of a session in one line.
    pub(crate) fn is_narrow_for_sessions(self) -> bool {
        self.width < NARROW_FOR_SESSIONS
    }

    /// Columns of the terminal.
    pub(crate) fn columns(self) -> usize {
        self.width.into()
    }

    pub(crate) fn line(self, text: &str) -> io::Result<()> {
        writeln!(io::stdout().lock(), "{text}")
    }

    pub(crate) fn json<T: Serialize>(self, value: &T) -> io::Result<()> {
        writeln!(io::stdout().lock(), "{}", escaped_json(&serde_json::to_string(value)?))
    }

    /// A table without lines, as wide as the terminal.
    pub(crate) fn table(self, header: &[&str]) -> Table {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(self.width);
        table.set_header(header.iter().map(|name| self.heading(name)));
        if self.colored {
            table.enforce_styling();
        }
        table
    }

    fn heading(self, name: &str) -> Cell {
        let cell = Cell::new(name);
        if self.colored { cell.add_attribute(comfy_table::Attribute::Bold) } else { cell }
    }

    /// Whether a session goes on, in words and colour.
    pub(crate) fn state(self, state: SessionState) -> Cell {
        let (text, color) = match state {
            SessionState::Open => ("open", TableColor::Yellow),
            SessionState::Ended => ("ended", TableColor::Green),
            SessionState::Lost => ("lost", TableColor::Red),
        };
        if self.colored { Cell::new(text).fg(color) } else { Cell::new(text) }
    }

    /// How the call ended, in words and colour.
    pub(crate) fn result(self, call: &Call) -> Cell {
        let (text, color) = result_of(call);
        let cell = Cell::new(text);
        if self.colored { cell.fg(color) } else { cell }
    }
}

/// `200`, `404 notFound`, `refused recorder_unavailable`, `open`
pub(crate) fn result_text(call: &Call) -> String {
    result_of(call).0
}

fn result_of(call: &Call) -> (String, TableColor) {
    let reason =
        call.reason.as_deref().map(|reason| format!(" {}", one_line(reason, 40))).unwrap_or_default();
    match (call.result, call.status) {
        (None, _) => ("open".into(), TableColor::Yellow),
        (Some(CallResult::Answered), status) => {
            let failed = call.reason.is_some() || status.is_some_and(|status| status >= 400);
            let color = if failed { TableColor::Red } else { TableColor::Green };
            (format!("{}{reason}", status.unwrap_or_default()), color)
        }
        (Some(CallResult::Refused), _) => (format!("refused{reason}"), TableColor::Magenta),
        (Some(CallResult::Failed), _) => (format!("failed{reason}"), TableColor::Red),
        (Some(CallResult::Aborted), _) => (format!("aborted{reason}"), TableColor::Red),
    }
}

/// `r billing.invoices, w staging.imports, +2`: read or written.
pub(crate) fn tables_text(call: &Call) -> String {
    let tables: Vec<_> = call.tables.iter().filter(|found| !is_anonymous(found)).collect();
    let named: Vec<String> = tables.iter().take(TABLES_SHOWN).map(|found| table_text(call, found)).collect();
    let more = tables.len().saturating_sub(TABLES_SHOWN);
    let more = if more > 0 { format!(" +{more}") } else { String::new() };
    let unlisted = if call.tables_truncated { " and unlisted ones" } else { "" };
    format!("{}{more}{unlisted}", named.join(", "))
}

/// BigQuery writes each result into an anonymous table of a hidden data set, whose name begins with `_`. JSON has it.
fn is_anonymous(found: &FoundTable) -> bool {
    found.table.dataset.as_deref().is_some_and(|dataset| dataset.starts_with('_'))
}

/// The project is left out when it is the call's own.
fn table_text(call: &Call, found: &FoundTable) -> String {
    let access = match found.table.access {
        Access::Read => "r",
        Access::Write => "w",
    };
    let own = call.http.path.split('/').skip_while(|part| *part != "projects").nth(1);
    let mut table = found.table.clone();
    if table.project.as_deref() == own {
        table.project = None;
    }
    format!("{access} {}", printable(&table.to_string()))
}

/// What came back: rows read, rows changed.
pub(crate) fn rows_text(call: &Call) -> String {
    match (call.affected_rows, call.rows.or(call.total_rows)) {
        (Some(changed), _) => format!("{changed} changed"),
        (None, Some(rows)) => rows.to_string(),
        (None, None) => String::new(),
    }
}

/// The statement, or what was called when there is none.
pub(crate) fn statement_text(call: &Call, wide: bool) -> String {
    let Some(sql) = &call.sql else { return format!("({})", printable(&call.method)) };
    let cut = if call.sql_truncated { "\u{2026}" } else { "" };
    if wide { format!("{}{cut}", printable(sql)) } else { one_line(&format!("{sql}{cut}"), SQL_WIDTH) }
}

/// How much of the log an answer covers, and whether that is all there is.
pub(crate) fn covered_text(size: u64, rebuilding_to: Option<u64>) -> String {
    let entries = counted(size, "entry");
    match rebuilding_to {
        None => format!("from a log of {entries}"),
        Some(of) => format!(
            "from {} of the log's {} entries: its index is being rebuilt, and what lies in the rest is not found yet",
            grouped(size),
            grouped(of)
        ),
    }
}

/// To the second, in UTC.
pub(crate) fn time_text(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// `512 B`, `1.5 KiB`, `64.0 MiB`
pub(crate) fn bytes_text(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..0x400 => return format!("{bytes} B"),
        0x400..0x10_0000 => (0x400, "KiB"),
        0x10_0000..0x4000_0000 => (0x10_0000, "MiB"),
        _ => (0x4000_0000, "GiB"),
    };
    format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit)
}

/// `1.2 ms`, `3.4 s`
pub(crate) fn duration_text(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} \u{b5}s"),
        1_000..1_000_000 => format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100),
        _ => format!("{}.{} s", micros / 1_000_000, micros % 1_000_000 / 100_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration_text(999), "999 \u{b5}s");
        assert_eq!(duration_text(1_250), "1.2 ms");
        assert_eq!(duration_text(61_900_000), "61.9 s");
    }

    #[test]
    fn an_answer_says_when_it_is_not_whole() {
        assert_eq!(covered_text(7, None), "from a log of 7 entries");
        let text = covered_text(120_000, Some(1_500_000));
        assert!(
            text.starts_with("from 120,000 of the log's 1,500,000 entries: its index is being rebuilt"),
            "{text}"
        );
    }

    #[test]
    fn times_are_utc() {
        assert_eq!(time_text("2026-11-22T10:00:00.123+02:00".parse().unwrap()), "2026-11-22 08:00:00");
    }
}
