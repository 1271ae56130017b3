//! Every read is an entry, and is one before the reader has the answer. What asks for the same again soon after, be it the next
//! page or a tail that follows the log, is counted; the read's last word says how much that was.
//!
//! ```text
//! first request ──> read.search (found, requests 1) ──> the answer
//! the same again ─> counted ──> the answer
//! a minute of silence, or an hour ──> read.search (found, requests, began)
//! ```

pub mod ranges;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ledger::search::entered_filter;
use ledger::statement::{Body, MAX_FILTER, Read, kind};
use tokio::sync::Mutex as Turn;

use crate::authn::verifier::User;
use crate::error::{Reason, Refusal};
use crate::sequencer::Queue;
use ranges::Ranges;

/// A read for which nobody asks any more for this long is over. A tail asks at least every
/// [`ledger::search::MAX_WAIT_SECONDS`].
pub const IDLE: Duration = Duration::from_secs(60);

/// A read that goes on is over after this long, and begins anew: so long at most its last word may be missing.
pub const LONGEST: Duration = Duration::from_secs(3600);

/// How often the recorder looks for reads that are over.
const LOOK: Duration = Duration::from_secs(5);

/// Reads that a reader may begin in a minute; the next one is refused (`too_many_reads`).
pub const BEGUN_A_MINUTE: u32 = 600;

/// Reads that go on at one time; for the next one the one that was heard of longest ago is over.
pub const MAX_OPEN: usize = 4096;

/// Greatest length of a reader's name, in bytes; a longer one is refused (`subject_too_large`).
pub const MAX_READER: usize = 512;

/// What kind of read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// Calls.
    Search,
    /// New calls.
    Follow,
    /// Sessions.
    Sessions,
    /// What operators entered.
    Operators,
    /// Entries, and their blobs.
    Entries,
}

impl What {
    fn kind(self) -> &'static str {
        match self {
            Self::Search => kind::READ_SEARCH,
            Self::Follow => kind::READ_FOLLOW,
            Self::Sessions => kind::READ_SESSIONS,
            Self::Operators => kind::READ_OPERATORS,
            Self::Entries => kind::READ_ENTRIES,
        }
    }

    fn body(self, read: Read) -> Body {
        let (read, body) = (Some(read), Body::default());
        match self {
            Self::Search => Body { search: read, ..body },
            Self::Follow => Body { follow: read, ..body },
            Self::Sessions => Body { sessions: read, ..body },
            Self::Operators => Body { operators: read, ..body },
            Self::Entries => Body { entries: read, ..body },
        }
    }
}

/// One request of a read.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Who.
    pub user: &'a User,
    /// What.
    pub what: What,
    /// What was asked for, without what changes from page to page, and without words.
    pub filter: String,
    /// The words that were looked for. They may be somebody's name, and an entry is for ever: it says that there were some.
    pub words: Option<String>,
    /// First and last place in the log, where entries were read.
    pub places: Option<(u64, u64)>,
    /// How many calls, sessions or entries the answer has.
    pub found: u64,
}

/// What is one read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    cluster: String,
    reader: String,
    what: What,
    filter: String,
    words: Option<String>,
}

impl Key {
    /// The filter as entries have it.
    fn said(&self) -> String {
        entered_filter(&self.filter, self.words.is_some())
    }
}

/// A read that goes on.
#[derive(Debug)]
struct Open {
    /// Index of its first entry.
    began: u64,
    since: Instant,
    heard: Instant,
    found: u64,
    requests: u64,
    places: Ranges,
}

/// Whoever comes first makes the entry; who asks for the same meanwhile waits for it.
type Cell = Arc<Turn<Option<Open>>>;

/// Begun in the last minute, since when.
type Begun = HashMap<(String, String), (Instant, u32)>;

/// The reads that go on.
pub struct Reads {
    queue: Queue,
    open: Mutex<HashMap<Key, (Instant, Cell)>>,
    begun: Mutex<Begun>,
}

impl Reads {
    /// Reads that become entries by this queue.
    #[must_use]
    pub fn new(queue: Queue) -> Self {
        Self { queue, open: Mutex::default(), begun: Mutex::default() }
    }

    /// Notes a request: when this returns, the log has the read.
    ///
    /// # Errors
    /// It can't be recorded, and is not to be answered: [`Reason::TooManyReads`], [`Reason::SubjectTooLarge`],
    /// [`Reason::BadQuery`], [`Reason::Busy`], [`Reason::Stopping`].
    pub async fn note(&self, request: Request<'_>) -> Result<(), Refusal> {
        let Request { user, what, filter, words, places, found } = request;
        let key = Key { cluster: user.cluster.clone(), reader: user.reader(), what, filter, words };
        check(&key)?;
        let cell = self.cell(&key).await;
        let mut open = cell.lock().await;
        if let Some(open) = open.as_mut().filter(|open| open.since.elapsed() < LONGEST) {
            open.heard = Instant::now();
            (open.found, open.requests) = (open.found.saturating_add(found), open.requests + 1);
            places.inspect(|(first, last)| open.places.add(*first, *last));
            return Ok(());
        }
        if let Some(over) = open.take() {
            self.end(&key, &over).await?;
        }
        self.count(&key)?;
        let now = Instant::now();
        let mut begun =
            Open { began: 0, since: now, heard: now, found, requests: 1, places: Ranges::default() };
        places.inspect(|(first, last)| begun.places.add(*first, *last));
        begun.began = self.say(&key, &begun, None).await?;
        *open = Some(begun);
        Ok(())
    }

    /// Ends reads for which nobody asks any more, for ever.
    pub async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK).await;
            self.close(IDLE).await;
            self.begun().retain(|_, (since, _)| since.elapsed() < Duration::from_secs(60));
        }
    }

    /// Ends reads for which nobody has asked for so long. What can't be said now is said later.
    pub async fn close(&self, idle: Duration) {
        let cells: Vec<_> = self.open().iter().map(|(key, (_, cell))| (key.clone(), cell.clone())).collect();
        for (key, cell) in cells {
            // One that is under way is not over.
            let Ok(mut open) = cell.try_lock() else { continue };
            if open
                .as_ref()
                .is_some_and(|open| open.heard.elapsed() >= idle || open.since.elapsed() >= LONGEST)
                && let Some(over) = open.take()
                && let Err(refusal) = self.end(&key, &over).await
            {
                tracing::warn!(
                    category = refusal.category(),
                    "the last word of a read can't be recorded; trying again"
                );
                *open = Some(over);
            }
            if open.is_none() {
                drop(open);
                self.forget(&key, &cell);
            }
        }
    }

    /// The cell of a read; room is made for it.
    async fn cell(&self, key: &Key) -> Cell {
        loop {
            let oldest = {
                let mut open = self.open();
                let full = open.len() >= MAX_OPEN;
                match open.get_mut(key) {
                    Some((used, cell)) => {
                        *used = Instant::now();
                        return cell.clone();
                    }
                    None if !full => {
                        return open
                            .entry(key.clone())
                            .or_insert((Instant::now(), Cell::default()))
                            .1
                            .clone();
                    }
                    None => open
                        .iter()
                        .min_by_key(|(_, (used, _))| *used)
                        .map(|(key, (_, cell))| (key.clone(), cell.clone())),
                }
            };
            let Some((key, cell)) = oldest else { continue };
            let over = cell.lock().await.take();
            if let Some(over) = over
                && let Err(refusal) = self.end(&key, &over).await
            {
                tracing::warn!(
                    category = refusal.category(),
                    "the last word of a read could not be recorded"
                );
            }
            self.forget(&key, &cell);
        }
    }

    /// Forgets a read that is over, unless somebody has asked for it again meanwhile.
    fn forget(&self, key: &Key, cell: &Cell) {
        let mut open = self.open();
        // The map's, and the caller's: new ones are taken under this lock only.
        if Arc::strong_count(cell) <= 2 {
            open.remove(key);
        }
    }

    /// A read's last word, where its first did not say it all.
    async fn end(&self, key: &Key, over: &Open) -> Result<(), Refusal> {
        if over.requests > 1 {
            self.say(key, over, Some(over.began)).await?;
        }
        Ok(())
    }

    async fn say(&self, key: &Key, open: &Open, began: Option<u64>) -> Result<u64, Refusal> {
        let filter = if key.what == What::Entries { format!("entries={}", open.places) } else { key.said() };
        let read = Read {
            reader: key.reader.clone(),
            cluster: key.cluster.clone(),
            filter,
            found: open.found,
            requests: open.requests,
            began,
        };
        self.queue.say(key.what.kind(), key.what.body(read)).await
    }

    /// Counts what a reader begins.
    fn count(&self, key: &Key) -> Result<(), Refusal> {
        let mut begun = self.begun();
        let (since, count) =
            begun.entry((key.cluster.clone(), key.reader.clone())).or_insert((Instant::now(), 0));
        if since.elapsed() >= Duration::from_secs(60) {
            (*since, *count) = (Instant::now(), 0);
        }
        if *count >= BEGUN_A_MINUTE {
            let message = format!(
                "every read is an entry, and a reader has {BEGUN_A_MINUTE} of them a minute: wait, or ask for more at once"
            );
            return Err(Refusal::new(Reason::TooManyReads, message));
        }
        *count += 1;
        Ok(())
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Key, (Instant, Cell)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner) // a map is whole between any two calls
    }

    fn begun(&self) -> MutexGuard<'_, Begun> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// It must fit into an entry.
fn check(key: &Key) -> Result<(), Refusal> {
    if key.reader.len() > MAX_READER || key.cluster.len() > MAX_READER {
        return Err(Refusal::new(Reason::SubjectTooLarge, "the reader's name does not fit into an entry"));
    }
    if key.filter.len() + key.words.as_ref().map_or(0, String::len) > MAX_FILTER {
        let message = format!("a filter is a query string of at most {MAX_FILTER} bytes");
        return Err(Refusal::new(Reason::BadQuery, message));
    }
    Ok(())
}
