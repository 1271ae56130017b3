//! Phase 3: what BigQuery answered.

use ledger::call::{Access, JobReference, Reported, TableUse};

use super::bounded::{Columns, Tables};
use super::path::cut;
use super::recognise::Recognised;
use super::walk::{Finder, Step, walk};

/// Longest reason, state or kind that is kept, in bytes; BigQuery's are short words. A longer one is cut.
const MAX_WORD: usize = 128;

/// Longest id that is kept, in bytes; BigQuery's are at most 1,024. A longer one is left out.
const MAX_ID: usize = 1024;

/// Longest error message that is kept, in bytes; the rest is cut off.
const MAX_MESSAGE: usize = 16 * 1024;

/// What an answer says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// What it reports about the job or the rows; `None` when it reports nothing that is read here.
    pub reported: Option<Reported>,
    /// BigQuery's reason (`notFound`) when the call, its job, or a row of it failed.
    pub reason: Option<String>,
    /// BigQuery's message that goes with the reason. It may quote the SQL or data: it belongs in a blob.
    pub error_message: Option<String>,
}

/// Methods whose answers report on a job or its rows.
const REPORTING: [&str; 6] = [
    "jobs.query",
    "jobs.insert",
    "jobs.get",
    "jobs.getQueryResults",
    "tabledata.list",
    "tabledata.insertAll",
];

/// Reads an answer. `body` is decoded from any content encoding; `truncated` says that it was cut, or broke off.
///
/// Anything that is not the JSON of this method gives an empty answer. A report of what could not be read to its end is
/// marked as truncated, and has no count of rows unless all of them were there.
#[must_use]
pub fn read_answer(recognised: &Recognised, status: u16, body: &[u8], truncated: bool) -> Answer {
    let mut found = Found::default();
    let cut_short = !walk(body, &mut found) || truncated;
    if !(200..300).contains(&status) {
        return found.refused();
    }
    if !REPORTING.contains(&recognised.method) || !body.trim_ascii_start().starts_with(b"{") {
        return Answer::default();
    }
    found.answered(cut_short)
}

/// What a walk through an answer finds.
#[derive(Default)]
struct Found {
    job: JobReference,
    report: Reported,
    tables: Tables,
    columns: Columns,
    /// The table reference that is being read.
    table: (Option<String>, Option<String>, Option<String>),
    /// Rows by kind of change; counts only when no sum was given.
    changed_rows: Option<u64>,
    /// `error` of an error answer.
    error: Failure,
    /// `error.status`, or `error` itself in OAuth's form.
    error_status: Option<String>,
    /// `status.errorResult`: the job failed.
    job_error: Failure,
    /// `errors[]` of a query's answer: failures or warnings.
    query_errors: Failure,
    /// `insertErrors[].errors[]`: rows that were not taken.
    row_errors: Failure,
    /// The error of a list that is being read.
    error_item: Failure,
}

/// First reason and message of a list of errors.
#[derive(Default)]
struct Failure {
    reason: Option<String>,
    message: Option<String>,
}

impl Found {
    /// BigQuery refused the call.
    fn refused(self) -> Answer {
        let job = Some(self.job).filter(|job| !job.id.is_empty());
        Answer {
            reported: job.map(|job| Reported { job: Some(job), ..Reported::default() }),
            reason: self.error.reason.or(self.error_status),
            error_message: self.error.message,
        }
    }

    /// BigQuery took the call, which says nothing yet of the job or the rows.
    fn answered(mut self, cut_short: bool) -> Answer {
        let failure = self.failure();
        let mut report = self.report;
        report.job = Some(self.job).filter(|job| !job.id.is_empty());
        report.affected_rows = report.affected_rows.or(self.changed_rows);
        report.truncated = cut_short || self.tables.truncated || self.columns.truncated;
        report.tables = self.tables.into_list();
        report.columns = self.columns.list;
        let reported = (report != Reported::default()).then_some(report);
        Answer { reported, reason: failure.reason, error_message: failure.message }
    }

    fn failure(&mut self) -> Failure {
        let warning = self.report.total_rows.is_some()
            || self.report.rows.is_some()
            || self.report.affected_rows.is_some()
            || !self.columns.list.is_empty();
        let candidates = [&mut self.job_error, &mut self.row_errors, &mut self.query_errors];
        let failed = candidates.into_iter().map(std::mem::take).enumerate().find(|(place, failure)| {
            let only_a_warning = *place == 2 && warning; // the query gave a result all the same
            failure.reason.is_some() && !only_a_warning
        });
        failed.map(|(_, failure)| failure).unwrap_or_default()
    }

    fn table_part(&mut self, part: &str, value: &str) {
        let slot = match part {
            "projectId" => &mut self.table.0,
            "datasetId" => &mut self.table.1,
            "tableId" => &mut self.table.2,
            _ => return,
        };
        *slot = id(value);
    }

    fn end_table(&mut self, access: Access) {
        if let (project, dataset, Some(table)) = std::mem::take(&mut self.table) {
            self.tables.push(TableUse { project, dataset, table, access });
        }
    }

    fn error_part(&mut self, path: &str, value: &str) {
        let (list, member) = path.rsplit_once('/').unwrap_or(("", path));
        let failure = match list {
            "error" => &mut self.error,
            "status/errorResult" => &mut self.job_error,
            _ => &mut self.error_item,
        };
        match member {
            "reason" => failure.reason = Some(word(value)),
            "message" => failure.message = Some(cut(value.to_owned(), MAX_MESSAGE)),
            _ => (),
        }
    }

    /// The first error of a list counts, but for `stopped`: it marks the good rows of a request that had a bad one.
    fn end_error(&mut self, list: &str) {
        let item = std::mem::take(&mut self.error_item);
        let failure = match list {
            "error/errors/*" => {
                self.error.reason = self.error.reason.take().or(item.reason);
                return;
            }
            "errors/*" => &mut self.query_errors,
            _ => &mut self.row_errors,
        };
        if failure.reason.as_deref().is_none_or(|reason| reason == "stopped") && item.reason.is_some() {
            *failure = item;
        }
    }
}

/// Where answers have table references, and what was done with these tables.
const REFERENCES: [(&str, Access); 11] = [
    ("statistics/query/referencedTables/*", Access::Read),
    ("statistics/query/ddlTargetTable", Access::Write),
    ("statistics/query/ddlDestinationTable", Access::Write),
    ("statistics/query/dclTargetTable", Access::Write),
    ("statistics/query/dclTargetView", Access::Write),
    ("configuration/query/destinationTable", Access::Write),
    ("configuration/load/destinationTable", Access::Write),
    ("configuration/copy/destinationTable", Access::Write),
    ("configuration/copy/sourceTable", Access::Read),
    ("configuration/copy/sourceTables/*", Access::Read),
    ("configuration/extract/sourceTable", Access::Read),
];

/// Other values that are read.
const VALUES: [&str; 34] = [
    "jobReference/projectId",
    "jobReference/jobId",
    "jobReference/location",
    "status/state",
    "status/errorResult/reason",
    "status/errorResult/message",
    "statementType",
    "totalRows",
    "totalBytesProcessed",
    "numDmlAffectedRows",
    "dmlStats/insertedRowCount",
    "dmlStats/updatedRowCount",
    "dmlStats/deletedRowCount",
    "schema/fields/*/name",
    "errors/*/reason",
    "errors/*/message",
    "insertErrors/*/errors/*/reason",
    "insertErrors/*/errors/*/message",
    "error/message",
    "error/status",
    "error/errors/*/reason",
    "error/errors/*/message",
    "error_description",
    "statistics/totalBytesProcessed",
    "statistics/load/outputRows",
    "statistics/query/statementType",
    "statistics/query/totalBytesProcessed",
    "statistics/query/numDmlAffectedRows",
    "statistics/query/dmlStats/insertedRowCount",
    "statistics/query/dmlStats/updatedRowCount",
    "statistics/query/dmlStats/deletedRowCount",
    "statistics/query/schema/fields/*/name",
    "configuration/jobType",
    "error",
];

/// Is `path` this value, or on the way to it?
fn leads_to(path: &str, value: &str) -> bool {
    // Most names differ in their first byte, and answers have many.
    value.as_bytes().first() == path.as_bytes().first()
        && value.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Finder for Found {
    fn step(&self, path: &str) -> Step {
        let parent = path.rsplit_once('/').map(|(parent, _)| parent);
        let is_part = |(object, _): &(&str, Access)| leads_to(path, object) || parent == Some(object);
        if path == "rows" {
            Step::Count
        } else if VALUES.iter().any(|value| leads_to(path, value)) || REFERENCES.iter().any(is_part) {
            Step::Into
        } else {
            Step::Over
        }
    }

    fn scalar(&mut self, path: &str, value: &str) {
        let number = || value.parse::<u64>().ok();
        let report = &mut self.report;
        match path {
            "jobReference/projectId" => self.job.project = id(value),
            "jobReference/jobId" => self.job.id = id(value).unwrap_or_default(),
            "jobReference/location" => self.job.location = id(value),
            "status/state" => report.state = Some(word(value)),
            "statementType" | "statistics/query/statementType" => report.statement_kind = Some(word(value)),
            // A job without SQL: its type is BigQuery's word for what it does.
            "configuration/jobType" if value != "QUERY" && report.statement_kind.is_none() => {
                report.statement_kind = Some(word(value));
            }
            "totalRows" => report.total_rows = number(),
            "numDmlAffectedRows" | "statistics/query/numDmlAffectedRows" | "statistics/load/outputRows" => {
                report.affected_rows = number();
            }
            "totalBytesProcessed"
            | "statistics/totalBytesProcessed"
            | "statistics/query/totalBytesProcessed" => {
                report.bytes_processed = number();
            }
            "schema/fields/*/name" | "statistics/query/schema/fields/*/name" => self.columns.push(value),
            "error" | "error/status" => self.error_status = Some(word(value)),
            "error_description" => self.error.message = Some(cut(value.to_owned(), MAX_MESSAGE)),
            _ => match path.rsplit_once('/') {
                Some((_, "insertedRowCount" | "updatedRowCount" | "deletedRowCount")) => {
                    self.changed_rows =
                        number().map(|rows| rows.saturating_add(self.changed_rows.unwrap_or_default()));
                }
                Some((object, part)) if REFERENCES.iter().any(|(place, _)| *place == object) => {
                    self.table_part(part, value);
                }
                _ => self.error_part(path, value),
            },
        }
    }

    fn counted(&mut self, path: &str, items: u64) {
        match path {
            "rows" => self.report.rows = Some(items),
            "insertErrors" if items > 0 => self.report.row_errors = Some(items),
            _ => {}
        }
    }

    fn left(&mut self, path: &str) {
        if let Some((_, access)) = REFERENCES.iter().find(|(place, _)| *place == path) {
            self.end_table(*access);
        } else if ["error/errors/*", "errors/*", "insertErrors/*/errors/*"].contains(&path) {
            self.end_error(path);
        }
    }
}

fn id(value: &str) -> Option<String> {
    (!value.is_empty() && value.len() <= MAX_ID).then(|| value.to_owned())
}

fn word(value: &str) -> String {
    cut(value.to_owned(), MAX_WORD)
}

#[cfg(test)]
mod tests;
