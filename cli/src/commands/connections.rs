//! `bqwitness connections`: which specs were accepted, on whose word, and what is missing between them.

use std::collections::BTreeMap;

use comfy_table::Cell;
use ledger::search::MAX_LIMIT;
use ledger::search::cluster::{ConnectionAnswer, ConnectionEntry, ConnectionQuery};

use crate::Verdict;
use crate::args::{ConnectionsArgs, Format};
use crate::error::CliError;
use crate::reader::Reader;
use crate::render::{Output, covered_text, time_text};
use crate::text::{counted, printable};

pub(crate) fn run(args: &ConnectionsArgs, out: Output) -> Result<Verdict, CliError> {
    let answer = find(&Reader::new(&args.reader)?, args)?;
    match out.format {
        Format::Json => out.json(&answer)?,
        Format::Table => print(&answer, args.current, out)?,
    }
    Ok(Verdict::Holds)
}

/// Asks for pages until there are as many entries as were asked for.
fn find(reader: &Reader, args: &ConnectionsArgs) -> Result<ConnectionAnswer, CliError> {
    let mut query = ConnectionQuery {
        namespace: args.reader.namespace.clone(),
        connection: args.connection.clone(),
        current: args.current.then_some(true),
        before: args.before,
        ..ConnectionQuery::default()
    };
    let mut whole = ConnectionAnswer { size: 0, rebuilding_to: None, entries: Vec::new(), next: None };
    loop {
        let missing = args.limit - u32::try_from(whole.entries.len()).unwrap_or(args.limit);
        query.limit = Some(missing.min(MAX_LIMIT));
        let page = reader.connections(&query)?;
        (whole.size, whole.rebuilding_to, whole.next) = (page.size, page.rebuilding_to, page.next);
        whole.entries.extend(page.entries);
        query.before = page.next;
        if whole.next.is_none() || whole.entries.len() >= args.limit as usize {
            return Ok(whole);
        }
    }
}

fn print(answer: &ConnectionAnswer, current: bool, out: Output) -> Result<(), CliError> {
    if !answer.entries.is_empty() {
        let mut table =
            out.table(&["INDEX", "RECEIVED (UTC)", "CONNECTION", "UID", "GENERATION", "WHAT", "BY", "SPEC"]);
        for entry in &answer.entries {
            table.add_row(row(entry));
        }
        out.line(&table.to_string())?;
    }
    for missing in if current { Vec::new() } else { missing(&answer.entries) } {
        out.line(&missing)?;
    }
    let entries = counted(answer.entries.len() as u64, "entry");
    out.line(&format!("{entries}, {}", covered_text(answer.size, answer.rebuilding_to)))?;
    if let Some(next) = answer.next {
        out.line(&format!("There may be more: --before {next}"))?;
    }
    Ok(())
}

fn row(entry: &ConnectionEntry) -> Vec<Cell> {
    let connection = &entry.connection;
    let by = entry.accepted.as_ref().and_then(|accepted| accepted.by.as_ref());
    vec![
        Cell::new(entry.index),
        Cell::new(time_text(entry.received)),
        Cell::new(printable(&format!("{}/{}", connection.namespace, connection.name))),
        Cell::new(printable(&connection.uid)),
        Cell::new(connection.generation),
        Cell::new(what(entry)),
        Cell::new(by.map_or_else(String::new, |by| printable(&by.user))),
        Cell::new(spec(entry)),
    ]
}

fn what(entry: &ConnectionEntry) -> &'static str {
    match (&entry.accepted, entry.gone) {
        (Some(accepted), _) if accepted.by.is_none() => "accepted, nobody knows on whose word",
        (Some(_), _) => "accepted",
        (None, Some(gone)) if gone.seen => "deleted",
        (None, Some(_)) => "found deleted",
        (None, None) => "something that this version does not know",
    }
}

/// The spec's digest, as calls name it; and that it is not the digest of the spec beside it.
fn spec(entry: &ConnectionEntry) -> String {
    let Some(digest) = entry.connection.spec_digest else { return String::new() };
    match &entry.accepted {
        Some(accepted) if accepted.spec_digest() != digest => format!("{digest}, WHICH IS NOT OF ITS SPEC"),
        _ => digest.to_string(),
    }
}

/// Generations count up by one: one that is missing between two others was in force, and is not on record.
fn missing(entries: &[ConnectionEntry]) -> Vec<String> {
    let mut of: BTreeMap<&str, Vec<&ConnectionEntry>> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.accepted.is_some()) {
        of.entry(&entry.connection.uid).or_default().push(entry);
    }
    let mut lines = Vec::new();
    for mut entries in of.into_values() {
        entries.sort_by_key(|entry| entry.connection.generation);
        for pair in entries.windows(2) {
            let (from, to) = (pair[0].connection.generation + 1, pair[1].connection.generation);
            if from < to {
                let name =
                    printable(&format!("{}/{}", pair[0].connection.namespace, pair[0].connection.name));
                lines.push(format!(
                    "MISSING: {name} had generations {from} to {} that are not on record",
                    to - 1
                ));
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::entry::Workload;
    use ledger::operator::{Accepted, Gone, Requester};
    use ledger::statement::Connection;
    use serde_json::json;

    fn accepted(generation: u64, by: Option<&str>) -> ConnectionEntry {
        let by = by.map(|user| Requester { user: user.into(), ..Requester::default() });
        let accepted = Accepted { spec: json!({"project": "acme"}), by, superseded: false };
        ConnectionEntry {
            index: generation,
            received: "2026-11-22T10:00:00Z".parse().unwrap(),
            subject: Workload {
                cluster: "prod".into(),
                namespace: "bqwitness".into(),
                service_account: "operator".into(),
                pod: "operator-0".into(),
                pod_uid: "u".into(),
                node: None,
            },
            connection: Connection {
                namespace: "agents".into(),
                name: "billing".into(),
                uid: "u-1".into(),
                generation,
                spec_digest: Some(accepted.spec_digest()),
            },
            accepted: Some(accepted),
            gone: None,
        }
    }

    #[test]
    fn what_happened_is_said_and_what_nobody_knows() {
        assert_eq!(what(&accepted(1, Some("dev-lead"))), "accepted");
        assert_eq!(what(&accepted(1, None)), "accepted, nobody knows on whose word");
        let gone = |seen| ConnectionEntry { accepted: None, gone: Some(Gone { seen }), ..accepted(2, None) };
        assert_eq!((what(&gone(true)), what(&gone(false))), ("deleted", "found deleted"));
    }

    #[test]
    fn a_spec_that_is_not_its_digests_is_called_so() {
        let mut entry = accepted(1, None);
        assert_eq!(spec(&entry), entry.connection.spec_digest.unwrap().to_string());
        entry.accepted = Some(Accepted { spec: json!({"project": "other"}), ..Accepted::default() });
        assert!(spec(&entry).ends_with("WHICH IS NOT OF ITS SPEC"));
    }

    #[test]
    fn a_generation_between_two_others_is_missed() {
        let entries = [accepted(5, None), accepted(2, None), accepted(1, None)];
        assert_eq!(
            missing(&entries),
            ["MISSING: agents/billing had generations 3 to 4 that are not on record"]
        );
        assert!(missing(&entries[1..]).is_empty());
    }
}
