//! Who authorized the calls: the generations that they ran under, and what operators said of these connections.

use ledger::authority::{Authority, Generation, Said, Standing, Version};

use super::html::escape;
use crate::render::time_text;
use crate::text::counted;

pub(super) fn section(authority: &Authority) -> String {
    let (generations, versions) = (authority.generations(), authority.versions());
    if generations.is_empty() && versions.is_empty() && authority.calls_unnamed() == 0 {
        return String::new();
    }
    format!(
        "<section>\n<h2>Authority</h2>\n<p>Under which generation of a connection calls ran, and who asked the cluster for it, as operators \
         entered it.</p>\n{}{}</section>\n",
        used(&generations, authority),
        history(versions, authority)
    )
}

fn used(generations: &[Generation], authority: &Authority) -> String {
    let rows: String = generations.iter().map(used_row).collect();
    let without = [
        (authority.calls_unnamed(), "named no connection"),
        (authority.calls_beyond(), "named further generations, which are only counted"),
    ];
    let without = without.into_iter().filter(|(calls, _)| *calls > 0);
    let without: String = without
        .map(|(calls, what)| format!("<p class=\"gap\">{} {what}.</p>\n", counted(calls, "call")))
        .collect();
    if rows.is_empty() {
        return without;
    }
    format!(
        "<table class=\"coverage\">\n<tr><th>Connection</th><th>Generation</th><th>Calls</th><th>Asked for by</th></tr>\n{rows}</table>\n{without}"
    )
}

fn used_row(generation: &Generation) -> String {
    let connection = &generation.connection;
    let (class, by) = match generation.standing() {
        Standing::Asked { by, entry } => ("recorded", format!("{by} (entry {})", entry.index)),
        Standing::Nobody(entry) => ("gap", format!("nobody knows (entry {})", entry.index)),
        Standing::Other(entry) => {
            ("gap", format!("entry {} has another spec than the calls name", entry.index))
        }
        Standing::Unknown => ("gap", "no entry here says".into()),
    };
    row(
        class,
        &[
            format!("{}/{}", connection.namespace, connection.name),
            connection.generation.to_string(),
            generation.calls.to_string(),
            by,
        ],
    )
}

fn history(versions: &[Version], authority: &Authority) -> String {
    if versions.is_empty() {
        return String::new();
    }
    let rows: String = versions.iter().map(version_row).collect();
    let more = match authority.versions_beyond() {
        0 => String::new(),
        more => format!("<p class=\"gap\">{more} more are in the bundle.</p>\n"),
    };
    format!(
        "<table class=\"coverage\">\n<tr><th>Entry</th><th>Received (UTC)</th><th>Connection</th><th>Generation</th><th>What</th>\
         <th>Spec</th></tr>\n{rows}</table>\n{more}"
    )
}

fn version_row(version: &Version) -> String {
    let connection = &version.connection;
    let (class, what) = match &version.said {
        Said::Accepted { by: Some(by), .. } => ("recorded", format!("accepted, asked for by {by}")),
        Said::Accepted { by: None, .. } => ("gap", "accepted, nobody knows on whose word".into()),
        Said::Deleted { seen: true } => ("recorded", "deleted".into()),
        Said::Deleted { seen: false } => ("gap", "found deleted".into()),
    };
    let digest = connection.spec_digest.map(|digest| digest.to_string()).unwrap_or_default();
    let spec = match version.said {
        Said::Accepted { spec_is_its_digests: false, .. } => format!("{digest}, WHICH IS NOT OF ITS SPEC"),
        _ => digest,
    };
    row(
        class,
        &[
            version.index.to_string(),
            time_text(version.received),
            format!("{}/{}", connection.namespace, connection.name),
            connection.generation.to_string(),
            what,
            spec,
        ],
    )
}

fn row(class: &str, cells: &[String]) -> String {
    let cells: String = cells.iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
    format!("<tr class=\"{class}\">{cells}</tr>\n")
}
