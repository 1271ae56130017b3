//! Under whose authority the calls ran, in words.

use ledger::authority::{Authority, Generation, Standing};

use crate::render::time_text;
use crate::text::counted;

/// Most generations that are told one by one; the page has more of them.
const MOST: usize = 20;

/// What entries here say of it.
pub(super) fn proved(authority: &Authority) -> Vec<String> {
    let (connections, pods) = (authority.connections(), authority.pods());
    let said = (connections + pods > 0).then(|| {
        format!(
            "{} of operators are among these: {connections} about connections, {pods} about pods",
            counted(connections + pods, "entry")
        )
    });
    let told = authority.generations();
    let told = told.iter().filter_map(|generation| match generation.standing() {
        Standing::Asked { by, entry } => Some(format!(
            "{} ran under {}, which {by} had asked the cluster for, as the operator's entry {} says (received {} UTC)",
            counted(generation.calls, "call"),
            name(generation),
            entry.index,
            time_text(entry.received)
        )),
        _ => None,
    });
    said.into_iter().chain(cut(told.collect())).collect()
}

/// What they don't say.
pub(super) fn open(authority: &Authority) -> Vec<String> {
    let told = authority.generations();
    let told = told.iter().filter_map(|generation| {
        let (calls, name) = (counted(generation.calls, "call"), name(generation));
        match generation.standing() {
            Standing::Asked { .. } => None,
            Standing::Nobody(entry) => Some(format!(
                "who authorized {calls} under {name}: entry {} says that it was accepted, and that nobody knows on whose word",
                entry.index
            )),
            Standing::Other(entry) => Some(format!(
                "that {calls} under {name} ran by the spec that was accepted: entry {} has another one than they name",
                entry.index
            )),
            Standing::Unknown => Some(format!(
                "who authorized {calls} under {name}: no entry here says that it was accepted"
            )),
        }
    });
    let mut open = cut(told.collect());
    if authority.calls_unnamed() > 0 {
        open.push(format!(
            "who authorized {} more, which named no connection",
            counted(authority.calls_unnamed(), "call")
        ));
    }
    if authority.calls_beyond() > 0 {
        open.push(format!(
            "who authorized {} more, of more generations than are told apart",
            counted(authority.calls_beyond(), "call")
        ));
    }
    open
}

fn name(generation: &Generation) -> String {
    let connection = &generation.connection;
    format!("{}/{}, generation {}", connection.namespace, connection.name, connection.generation)
}

fn cut(mut lines: Vec<String>) -> Vec<String> {
    let more = lines.len().saturating_sub(MOST);
    lines.truncate(MOST);
    lines.extend((more > 0).then(|| format!("and so on for {more} generations more: the page has them")));
    lines
}
