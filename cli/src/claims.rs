//! What a verified bundle proves, what it leaves open, and what rests on whom, in words.

mod authority;

use jiff::Timestamp;
use ledger::authority::Authority;
use ledger::bundle::PAGE;
use ledger::bundle::manifest::{Contents, Manifest, Range, Scope};
use ledger::bundle::verify::Report;
use ledger::deletions::Deletion;
use ledger::digest::Digest;
use ledger::verify::MAX_FINDINGS;

use crate::render::time_text;
use crate::text::counted;

/// A bundle's claims, a sentence each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    pub(crate) title: String,
    pub(crate) proved: Vec<String>,
    /// What somebody might take it to prove, and it does not.
    pub(crate) open: Vec<String>,
    pub(crate) rests: Vec<String>,
}

/// What is known of the page for people: nothing in the log says that it shows what the entries say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    /// It is what this program makes of the entries.
    Same,
    /// It is not: another version made it, or somebody changed it before the export.
    Other,
    /// There is none.
    Absent,
}

impl Page {
    /// Holds the page that a bundle has against the one that its entries make.
    pub(crate) fn compare(manifest: &Manifest, made: &str) -> Self {
        match manifest.files.get(PAGE) {
            None => Self::Absent,
            Some(digest) if *digest == Digest::of(made.as_bytes()) => Self::Same,
            Some(_) => Self::Other,
        }
    }
}

impl Claims {
    pub(crate) fn of(report: &Report, page: Page) -> Self {
        let manifest = &report.manifest;
        let title = format!(
            "Evidence from the log {}, taken out {} UTC by {}",
            manifest.log,
            time_text(report.exported),
            report.reader
        );
        let (mut proved, mut open) = (proved(report), open(manifest, &report.authority));
        match page {
            Page::Same => proved.push("page.html shows what the entries say".into()),
            Page::Other => open.push(
                "that page.html shows what the entries say: this version makes another one of them. Read that one: --page FILE.html".into(),
            ),
            Page::Absent => {}
        }
        Self { title, proved, open, rests: rests(report) }
    }
}

fn proved(report: &Report) -> Vec<String> {
    let contents = &report.manifest.contents;
    let (entries, size) = (counted(contents.entries, "entry"), report.checkpoint.size);
    let mut proved = vec![
        format!(
            "{entries} with {} of {} are in the log, each at its place and unchanged, under a checkpoint of {size} entries that the log's key signed",
            counted(contents.calls, "call"),
            counted(contents.sessions, "session"),
        ),
        format!("{} are what the entries name", counted(contents.blobs, "text")),
        format!(
            "this very selection was entered in the log as entry {}, with who asked and for what, before the file was written",
            report.export
        ),
    ];
    match &report.manifest.scope {
        Scope::Everything(range) => proved.push(whole_range(range)),
        Scope::Sessions { .. } => proved.push(
            "of the agents' sessions here no statement is missing from their first to their last one here, but for what the log names as missing".into(),
        ),
        Scope::Calls { .. } => {}
    }
    proved.extend(authority::proved(&report.authority));
    for gap in &contents.gaps {
        proved.push(format!(
            "the log itself names a gap: session {} lacks statements {} to {}",
            gap.session, gap.from, gap.to
        ));
    }
    proved
}

fn whole_range(range: &Range) -> String {
    let day = |time: Timestamp| format!("{} UTC", time_text(time));
    let since = range.since.map_or("the log's beginning".into(), day);
    let until = range.until.map_or("the moment of the export".into(), day);
    format!("everything is here: no entry that the log has of the time from {since} to {until} is missing")
}

/// What a bundle with this manifest, whose entries say this of authority, leaves open.
pub(crate) fn open(manifest: &Manifest, authority: &Authority) -> Vec<String> {
    let contents = &manifest.contents;
    let mut open = Vec::new();
    match &manifest.scope {
        Scope::Everything(range) => open.extend(range.since.map(|since| {
            format!("what operators had said before {} UTC, but for what the recorder's index chose of it", time_text(since))
        })),
        Scope::Sessions { .. } => open.push(
            "that there was no other session that fits the filter: the recorder's index chose them".into(),
        ),
        Scope::Calls { .. } => open.push(
            "that no other call fits the filter: the recorder's index chose them. Export without such a filter to have that proved".into(),
        ),
    }
    if !matches!(manifest.scope, Scope::Everything(_)) {
        open.push(
            "that operators said nothing else of these connections and pods: the recorder's index chose that too"
                .into(),
        );
    }
    open.extend(authority::open(authority));
    open.extend(absent_texts(contents));
    if contents.open_calls > 0 {
        open.push(format!("how {} ended: no outcome is here", counted(contents.open_calls, "call")));
    }
    open.push("what happened where no sidecar was in force: see the coverage".into());
    open
}

/// What can't be read any more: deleted in order, or gone without a word.
fn absent_texts(contents: &Contents) -> Vec<String> {
    let deleted = contents.deletions.iter().map(|Deletion { index, by, reason, .. }| {
        format!("what a text said that {by} had deleted, as entry {index} says: {reason}")
    });
    let gone = contents.blobs_absent.saturating_sub(contents.blobs_deleted);
    let gone = (gone > 0).then(|| {
        let texts = counted(gone, "text");
        format!(
            "what {texts} said that the recorder had no more, without an entry here that says who deleted it"
        )
    });
    deleted.take(MAX_FINDINGS).chain(gone).collect()
}

fn rests(report: &Report) -> Vec<String> {
    let told = report.authority.connections() + report.authority.pods() > 0;
    let operators = told.then(|| {
        "the clusters' API servers and the operators: who asked for a connection's spec, and which pods ran without a sidecar".into()
    });
    let mut rests: Vec<String> = vec![
        "the cluster and the recorder: that each speaker is the workload that its token named".into(),
        "the sidecars: that they told what they saw; what an agent says of itself is marked as claimed"
            .into(),
        format!(
            "the recorder's clock: all times of receipt, {} UTC of the export included",
            time_text(report.exported)
        ),
        history(report),
    ];
    rests.splice(2..2, operators);
    rests
}

/// On whom it rests that this is the log's only history.
fn history(report: &Report) -> String {
    let signed = |(name, at): &(String, Timestamp)| format!("{name} at {} UTC", time_text(*at));
    let by = report.witnesses.iter().map(signed).collect::<Vec<_>>().join(", ");
    match (report.witnesses.is_empty(), report.witnessed) {
        (true, false) => "the recorder: that the log's history was not replaced as a whole. No witness has cosigned this checkpoint".into(),
        (true, true) => "the recorder: that the log's history was not replaced as a whole. The policy asks for no witness, and none has cosigned".into(),
        (false, true) => format!("the witnesses of your policy: that the log showed everybody this one history, which existed when they cosigned it ({by})"),
        (false, false) => format!("the recorder: that the log's history was not replaced as a whole. Cosigned by {by}, whom only the bundle names: use --policy to demand witnesses that you trust"),
    }
}
