//! The page for people: one HTML file that needs nothing else, runs nothing, and prints. It is a pure function of a bundle's
//! manifest and entries, so that a verifier can make it again and compare.

mod authority;
mod calls;
mod coverage;
mod html;
mod joined;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ledger::authority::Authority;
use ledger::blob::Blob;
use ledger::bundle::manifest::{Contents, Manifest, Scope};
use ledger::bundle::verify::Observer;
use ledger::digest::Digest;
use ledger::entry::Entry;
use ledger::search::Call;
use ledger::statement::Statement;

use self::html::{escape, fact};
use crate::claims;
use crate::render::time_text;
use crate::text::counted;

pub(crate) use self::joined::Joined;

const STYLE: &str = include_str!("style.css");

/// Most calls on a page, so that a browser can show it; the page says how many more there are, and the bundle has them all.
pub(crate) const MAX_CALLS: usize = 2_000;

/// The page of these calls and their authority, of which `manifest` says the rest. Its `files` are not looked at: the page is one of them.
pub(crate) fn page(manifest: &Manifest, authority: &Authority, calls: &[&Call]) -> String {
    let title = format!("Evidence from {}", manifest.log);
    let hash = BASE64.encode(Digest::of(STYLE.as_bytes()).0);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{hash}'; \
         base-uri 'none'; form-action 'none'\">\n<meta name=\"referrer\" content=\"no-referrer\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n{}{}{}{}{}</body>\n</html>\n",
        head(manifest),
        coverage::section(manifest),
        authority::section(authority),
        calls::section(manifest, calls),
        limits(manifest, authority),
        title = escape(&title),
    )
}

fn head(manifest: &Manifest) -> String {
    let contents = &manifest.contents;
    let facts = [
        fact("Log", &manifest.log),
        fact("Taken out", &format!("{} UTC", time_text(manifest.created))),
        fact("Asked for", &asked_for(&manifest.scope)),
        fact(
            "Time",
            &format!("{} to {} UTC", time_text(manifest.period.from), time_text(manifest.period.to)),
        ),
        fact(
            "Here are",
            &format!(
                "{} of a log of {}: {} in {}",
                counted(contents.entries, "entry"),
                manifest.size,
                counted(contents.calls, "call"),
                counted(contents.sessions, "session")
            ),
        ),
        fact("Texts", &texts(manifest)),
    ]
    .concat();
    format!(
        "<header>\n<p class=\"kind\">Evidence bundle</p>\n<h1>{}</h1>\n<p class=\"note\">This page is for reading. \
         What proves it is the file that it lies in, with a key that did not come with it: \
         <code>bqwitness verify FILE.bqw --key LOG.vkey</code></p>\n<table class=\"facts\">\n{facts}</table>\n</header>\n",
        escape(&manifest.log)
    )
}

fn asked_for(scope: &Scope) -> String {
    let filter = match scope.to_query_string() {
        empty if empty.is_empty() => "no filter".into(),
        filter => filter,
    };
    match scope {
        Scope::Everything(_) => format!("everything ({filter})"),
        Scope::Sessions { .. } => format!("whole sessions ({filter})"),
        Scope::Calls { .. } => format!("calls ({filter})"),
    }
}

fn texts(manifest: &Manifest) -> String {
    let Contents { blobs: here, blobs_absent: absent, blobs_deleted: deleted, .. } = &manifest.contents;
    match (absent, deleted) {
        (0, _) => format!("{here}, all that the entries name"),
        (_, 0) => format!("{here}; {absent} more that entries name were not there any more"),
        _ => format!(
            "{here}; {absent} more that entries name were not there any more, {deleted} of which were deleted in order"
        ),
    }
}

fn limits(manifest: &Manifest, authority: &Authority) -> String {
    let lines: Vec<_> =
        claims::open(manifest, authority).iter().map(|line| format!("<li>{}</li>\n", escape(line))).collect();
    format!("<section>\n<h2>What this does not prove</h2>\n<ul>\n{}</ul>\n</section>\n", lines.concat())
}

/// Makes the page of a bundle while it is verified.
#[derive(Default)]
pub(crate) struct PageMaker {
    manifest: Option<Manifest>,
    authority: Authority,
    joined: Joined,
}

impl PageMaker {
    /// The page of what was heard.
    pub(crate) fn page(&self) -> Option<String> {
        self.manifest.as_ref().map(|manifest| page(manifest, &self.authority, &self.joined.calls()))
    }
}

impl Observer for PageMaker {
    fn manifest(&mut self, manifest: &Manifest) {
        self.manifest = Some(manifest.clone());
    }

    fn entry(&mut self, index: u64, entry: &Entry<'_>, statement: &Statement) {
        self.authority.take(index, entry, statement);
        self.joined.entry(index, entry, statement);
    }

    fn blob(&mut self, digest: Digest, blob: &Blob) {
        self.joined.blob(digest, blob);
    }
}

#[cfg(test)]
mod tests;
