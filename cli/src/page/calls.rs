//! The calls on a page, oldest first.

use ledger::bundle::manifest::Manifest;
use ledger::search::Call;

use super::MAX_CALLS;
use super::html::escape;
use crate::render::{duration_text, result_text, rows_text, tables_text, time_text};
use crate::text::counted;

pub(super) fn section(manifest: &Manifest, calls: &[&Call]) -> String {
    let gaps: Vec<_> = manifest
        .contents
        .gaps
        .iter()
        .map(|gap| {
            let said = format!("session {} lacks statements {} to {}", gap.session, gap.from, gap.to);
            format!("<p class=\"gap\">Named by the log as missing: {}</p>\n", escape(&said))
        })
        .collect();
    let more = manifest.contents.calls.saturating_sub(calls.len() as u64);
    let more = match more {
        0 => String::new(),
        more => format!(
            "<p class=\"gap\">{} more are in the bundle: a page shows the first {MAX_CALLS}.</p>\n",
            counted(more, "call")
        ),
    };
    let calls: Vec<_> = calls.iter().map(|call| article(call)).collect();
    format!("<section>\n<h2>Calls</h2>\n{}{}{more}</section>\n", gaps.concat(), calls.concat())
}

fn article(call: &Call) -> String {
    let subject = &call.subject;
    let who = format!("{}/{}", subject.namespace, subject.service_account);
    let kind = call.statement_kind.as_deref().unwrap_or(&call.method);
    let result = match (&call.refused, call.result) {
        (Some(reason), None) => format!("refused {reason}"),
        _ => result_text(call),
    };
    let rows = Some(rows_text(call)).filter(|rows| !rows.is_empty()).map(|rows| format!("{rows} rows"));
    let outcome = call.outcome_index.map_or_else(String::new, |index| format!(" and {index}"));
    let facts = [
        Some(tables_text(call)).filter(|tables| !tables.is_empty()),
        Some(result),
        rows,
        call.duration_micros.map(duration_text),
        call.job.as_ref().map(|job| format!("job {}", job.id)),
        Some(format!("pod {}", subject.pod)),
        Some(format!("entry {}{outcome}", call.index)),
    ];
    let facts: Vec<_> = facts.into_iter().flatten().map(|fact| escape(&fact)).collect();
    format!(
        "<article>\n<h3><time>{}</time> <b>{}</b> {}</h3>\n<p>{}</p>\n{}</article>\n",
        escape(&time_text(call.received)),
        escape(&who),
        escape(kind),
        facts.join(" &middot; "),
        statement(call)
    )
}

fn statement(call: &Call) -> String {
    let Some(sql) = &call.sql else { return String::new() };
    let cut = if call.sql_truncated { "\n\u{2026} (the bundle has it whole)" } else { "" };
    format!("<pre>{}{cut}</pre>\n", escape(sql))
}
