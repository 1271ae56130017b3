//! What a bundle's entries add up to: the writer puts it into the manifest, the verifier adds it up again. Memory grows
//! with the number of sessions, not of entries.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::manifest::{Contents, Range, Scope};
use crate::authority::Authority;
use crate::coverage::{Period, Spans};
use crate::deletions::Deletions;
use crate::digest::Digest;
use crate::entry::{Entry, Role};
use crate::statement::Statement;
use crate::tree::Hash;
use crate::verify::sessions::{Extent, Sessions};

/// Adds up entries and blobs, in the bundle's order.
#[derive(Debug)]
pub struct Tally {
    range: Option<Range>,
    listing: Sha256,
    entries: u64,
    first: Option<u64>,
    last: Option<(u64, Timestamp)>,
    /// Index of the last entry of the range, where there is one.
    placed: Option<u64>,
    first_told: Option<Timestamp>,
    blobs: u64,
    blobs_absent: u64,
    deletions: Deletions,
    sessions: Sessions,
    spans: Spans,
    authority: Authority,
}

/// An entry as it was read: both parts, and the blobs that it names with their lengths.
pub(super) type Read<'a> = (Entry<'a>, Statement);

impl Tally {
    /// An empty bundle of this scope.
    #[must_use]
    pub fn new(scope: &Scope) -> Self {
        let (range, extent) = match scope {
            Scope::Everything(range) if range.from <= 1 => (Some(*range), Extent::Whole),
            Scope::Everything(range) => (Some(*range), Extent::Middle),
            Scope::Sessions { .. } => (None, Extent::Chosen),
            Scope::Calls { .. } => (None, Extent::Parts),
        };
        Self {
            range,
            listing: Sha256::new(),
            entries: 0,
            first: None,
            last: None,
            placed: None,
            first_told: None,
            blobs: 0,
            blobs_absent: 0,
            deletions: Deletions::default(),
            sessions: Sessions::new(extent),
            spans: Spans::default(),
            authority: Authority::default(),
        }
    }

    /// Adds an entry, which was read from the leaf with this hash; gives what does not hold.
    pub fn entry(
        &mut self,
        index: u64,
        leaf_hash: &Hash,
        entry: &Entry<'_>,
        statement: &Statement,
    ) -> Vec<String> {
        let mut wrong = Vec::new();
        let received = entry.envelope.received;
        if !entry.envelope.role.may_write(&statement.kind) {
            wrong.push(format!("a speaker with the role {:?} wrote {}", entry.envelope.role, statement.kind));
        }
        if self.last.is_some_and(|(_, before)| received < before) {
            wrong.push("it was received before an entry that precedes it".into());
        }
        if !self.is_ahead(index, entry, statement) {
            wrong.extend(self.place(index, received));
            wrong.extend(self.sessions.take(entry, statement));
            self.placed = Some(index);
        }
        self.spans.take(entry, statement);
        self.authority.take(index, entry, statement);
        self.deletions.entry(index, entry, statement);
        self.listing.update(format!("entry {index} {}\n", hex::encode(leaf_hash)));
        // A spec may have been accepted long before anybody acted under it.
        let told = statement.body.accepted.is_none() && statement.body.gone.is_none();
        self.first_told = self.first_told.or(told.then_some(received));
        self.entries += 1;
        self.first = self.first.or(Some(index));
        self.last = Some((index, received));
        wrong
    }

    /// Before a range there may be what operators had said of connections and pods, and what was so when it began. It is no part of the
    /// range, and nothing follows from what is missing there.
    fn is_ahead(&self, index: u64, entry: &Entry<'_>, statement: &Statement) -> bool {
        let body = &statement.body;
        let said = body.accepted.is_some() || body.gone.is_some() || body.coverage.is_some();
        let before = self.range.is_some_and(|range| index + 1 < range.from) && self.placed.is_none();
        before && said && entry.envelope.role == Role::Operator
    }

    /// What a range says of the entry at this place.
    fn place(&self, index: u64, received: Timestamp) -> Option<String> {
        let range = self.range?;
        let expected = self.placed.map_or(range.from.saturating_sub(1), |last| last + 1);
        if index != expected {
            return Some(format!("it stands where entry {expected} must be: the range is not whole"));
        }
        let timed = (
            range.since.is_some_and(|since| received < since),
            range.until.is_some_and(|until| received >= until),
        );
        let needed =
            (index < range.from && range.since.is_some(), index >= range.to && range.until.is_some());
        (timed != needed).then(|| "its time is not on its side of the range's".into())
    }

    /// Adds a blob that the entries since the last blob name: it is here, or it is not.
    pub fn blob(&mut self, digest: &Digest, here: bool) {
        let word = if here { "blob" } else { "absent" };
        self.listing.update(format!("{word} {}\n", digest.hex()));
        *(if here { &mut self.blobs } else { &mut self.blobs_absent }) += 1;
        if !here {
            self.deletions.absent(*digest);
        }
    }

    /// Index of the last entry.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.last.map(|(index, _)| index)
    }

    /// When the last entry was received.
    #[must_use]
    pub fn last_received(&self) -> Option<Timestamp> {
        self.last.map(|(_, received)| received)
    }

    /// The time that coverage must be told for, at least, when entries that were received from `since` until `until` were asked for, as far
    /// as that is limited; `None` when there is nothing to tell.
    #[must_use]
    pub fn told_time(&self, since: Option<Timestamp>, until: Option<Timestamp>) -> Option<Period> {
        let (first, last) = (self.first_told?, self.last_received()?);
        let from = since.unwrap_or(first);
        Some(Period { from, to: until.map_or(last, |until| until.min(last)).max(from) })
    }

    /// Under whose authority the calls ran.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The sum, with coverage in `period`.
    #[must_use]
    pub fn settle(mut self, period: Period) -> Contents {
        let sessions = self.sessions.summary();
        let (blobs_deleted, deletions) = self.deletions.settle();
        Contents {
            listing: Digest(self.listing.finalize().into()),
            entries: self.entries,
            first: self.first,
            last: self.last.map(|(index, _)| index),
            sessions: sessions.seen,
            calls: sessions.calls,
            open_calls: sessions.open_calls,
            blobs: self.blobs,
            blobs_absent: self.blobs_absent,
            blobs_deleted,
            deletions,
            gaps: sessions.holes,
            coverage: self.spans.pods(period),
        }
    }
}

/// Reads a leaf.
pub(super) fn read(leaf: &[u8]) -> Result<Read<'_>, String> {
    let entry = Entry::parse(leaf).map_err(|error| error.to_string())?;
    let statement = Statement::parse(entry.statement).map_err(|error| error.to_string())?;
    Ok((entry, statement))
}

/// The blobs that statements of one member name, with the length that they say.
pub type Named = BTreeMap<Digest, u64>;

/// Notes the blobs that a statement names; false when two statements differ in a blob's length.
#[must_use]
pub fn name_blobs(named: &mut Named, statement: &Statement) -> bool {
    let mut same = true;
    for blob in statement.blobs.values() {
        same &= *named.entry(blob.digest).or_insert(blob.size) == blob.size;
    }
    same
}
