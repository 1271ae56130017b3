//! The sequencer: one thread that gives every statement its place in the log.
//!
//! It takes all batches that wait, plans each against its session, makes one record of them, makes that durable with one
//! fdatasync, and only then answers. Nothing is ever answered that is not durable; the first write that fails ends it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use ledger::blob::Blob;
use ledger::digest::Digest;
use ledger::entry::{Entry, Envelope, Subject, encode};
use ledger::receipt::ReceiptEntry;
use ledger::statement::{Body, Hole, LogEvent, kind};
use ledger::tree::leaf_hash;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use crate::error::{Reason, Refusal};
use crate::history::History;
use crate::metrics::Metrics;
use crate::sessions::{Place, Sessions, Step};
use crate::store::error::StoreError;
use crate::store::reader::LogReader;
use crate::store::tail::Tail;
use crate::store::wal::{Record, Wal};
use crate::submission::{Submission, wrong_size};
use crate::voice::Voice;

/// Batches that may wait for the sequencer; the next one is refused (`busy`).
pub const QUEUE: usize = 1024;

/// A group takes no further batch when it has this many bytes, so that no answer waits for more than one such write.
pub const GROUP_BYTES: usize = 4 << 20;

/// How often the sequencer looks for sessions that fell silent.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// What the log holds of a batch.
#[derive(Debug)]
pub struct Placed {
    /// One for each statement.
    pub entries: Vec<ReceiptEntry>,
    /// One for each statement, verbatim.
    pub envelopes: Vec<Box<RawValue>>,
}

/// Where the answer goes, and the room that the batch takes until then, even if nobody waits any more.
struct Caller {
    answer: oneshot::Sender<Result<Placed, Refusal>>,
    _held: Box<dyn Send>,
}

/// Where the place of something that the recorder was asked to say goes.
type Hearer = oneshot::Sender<Result<u64, Refusal>>;

enum Work {
    Batch(Box<Submission>, Caller),
    /// The recorder says this itself; it may begin a new segment of the write-ahead log.
    Say {
        kind: &'static str,
        body: Box<Body>,
        apart: bool,
        hearer: Hearer,
    },
    Stop,
}

/// Hands batches to the sequencer's thread.
#[derive(Clone)]
pub struct Queue {
    work: SyncSender<Work>,
    metrics: Arc<Metrics>,
}

impl Queue {
    /// Records a batch, which holds `held` until then. The answer comes when it is durable.
    ///
    /// # Errors
    /// A [`Refusal`]; after [`Reason::Stopping`] it is unknown whether the batch was recorded, and it can be sent again.
    pub async fn record(&self, submission: Submission, held: impl Send + 'static) -> Result<Placed, Refusal> {
        let (answer, placed) = oneshot::channel();
        let caller = Caller { answer, _held: Box::new(held) };
        self.send(Work::Batch(Box::new(submission), caller))?;
        placed.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Lets the recorder itself say something; gives its index when it is durable.
    ///
    /// # Errors
    /// A [`Refusal`]; after [`Reason::Stopping`] it is unknown whether it was recorded.
    pub async fn say(&self, kind: &'static str, body: Body) -> Result<u64, Refusal> {
        self.say_somewhere(kind, body, false).await
    }

    /// The same, and the write-ahead log begins a new segment with it.
    ///
    /// # Errors
    /// As [`Queue::say`].
    pub async fn say_apart(&self, kind: &'static str, body: Body) -> Result<u64, Refusal> {
        self.say_somewhere(kind, body, true).await
    }

    async fn say_somewhere(&self, kind: &'static str, body: Body, apart: bool) -> Result<u64, Refusal> {
        let (hearer, place) = oneshot::channel();
        self.send(Work::Say { kind, body: Box::new(body), apart, hearer })?;
        place.await.unwrap_or_else(|_| Err(stopping()))
    }

    fn send(&self, work: Work) -> Result<(), Refusal> {
        self.metrics.queue.inc();
        self.work.try_send(work).map_err(|error| {
            self.metrics.queue.dec();
            match error {
                TrySendError::Full(_) => {
                    Refusal::new(Reason::Busy, "the recorder's queue is full: try again")
                }
                TrySendError::Disconnected(_) => stopping(),
            }
        })
    }

    /// Lets the sequencer answer what waits, say goodbye and end.
    pub fn stop(&self) {
        // An error means that it has ended already.
        let _ended = self.work.send(Work::Stop).is_err();
    }
}

fn stopping() -> Refusal {
    Refusal::new(
        Reason::Stopping,
        "the recorder is stopping; whether this was recorded is unknown: send it again",
    )
}

/// The thread's state.
pub struct Sequencer {
    work: Receiver<Work>,
    wal: Wal,
    tail: Arc<Tail>,
    reader: LogReader,
    sessions: Sessions,
    voice: Voice,
    next_index: u64,
    received: Timestamp,
    metrics: Arc<Metrics>,
}

/// What is to be made durable together.
#[derive(Default)]
struct Group {
    first: u64,
    record: Record,
    staged: HashMap<Digest, Arc<Blob>>,
    bytes: usize,
    /// Begins a new segment of the write-ahead log.
    apart: bool,
    answers: Vec<(Caller, Placed)>,
    said: Vec<(Hearer, u64)>,
}

impl Sequencer {
    /// A sequencer that continues the log that recovery read, and the queue to it.
    #[must_use]
    pub fn new(
        wal: Wal,
        tail: Arc<Tail>,
        reader: LogReader,
        history: History,
        origin: &str,
        metrics: Arc<Metrics>,
    ) -> (Self, Queue) {
        let (sender, work) = sync_channel(QUEUE);
        let queue = Queue { work: sender, metrics: metrics.clone() };
        let sequencer = Self {
            work,
            wal,
            next_index: tail.size(),
            tail,
            reader,
            sessions: history.sessions,
            voice: Voice::new(origin),
            received: history.received,
            metrics,
        };
        (sequencer, queue)
    }

    /// Runs until it is told to stop or a write fails. `log.start` is its first entry, `log.stop` its last. `begun` hears of the
    /// first when it is durable.
    ///
    /// # Errors
    /// The write that failed. Whoever waited was not acknowledged.
    pub fn run(mut self, start: LogEvent, begun: oneshot::Sender<()>) -> Result<(), StoreError> {
        let outcome = self
            .start(start)
            .and_then(|()| {
                let _unheard = begun.send(()).is_err();
                self.work_until_stopped()
            })
            .and_then(|()| self.goodbye());
        self.tail.close();
        outcome
    }

    fn start(&mut self, event: LogEvent) -> Result<(), StoreError> {
        let mut group = self.begin();
        self.say(&mut group, kind::LOG_START, Body { log: Some(event), ..Body::default() })?;
        self.commit(group)
    }

    fn goodbye(&mut self) -> Result<(), StoreError> {
        let mut group = self.begin();
        let version = runtime::VERSION.into();
        let event = LogEvent { stopping: true, version, size: self.next_index, ..LogEvent::default() };
        self.say(&mut group, kind::LOG_STOP, Body { log: Some(event), ..Body::default() })?;
        self.commit(group)
    }

    fn work_until_stopped(&mut self) -> Result<(), StoreError> {
        let mut sweep = Instant::now() + SWEEP_INTERVAL;
        loop {
            let patience = sweep.saturating_duration_since(Instant::now());
            let mut next = match self.work.recv_timeout(patience) {
                Ok(work) => Some(work),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            let mut group = self.begin();
            while let Some(work) = next {
                match work {
                    Work::Batch(submission, caller) => self.take(&mut group, *submission, caller)?,
                    Work::Say { kind, body, apart, hearer } => {
                        self.metrics.queue.dec();
                        group.apart |= apart;
                        group.said.push((hearer, self.next_index));
                        self.say(&mut group, kind, *body)?;
                    }
                    Work::Stop => return self.commit(group),
                }
                next = (group.bytes < GROUP_BYTES).then(|| self.work.try_recv().ok()).flatten();
            }
            if Instant::now() >= sweep {
                self.close_silent_sessions(&mut group)?;
                sweep = Instant::now() + SWEEP_INTERVAL;
            }
            self.commit(group)?;
        }
    }

    fn begin(&mut self) -> Group {
        self.received = self.received.max(Timestamp::now()); // time does not run backwards in a log
        Group { first: self.next_index, ..Group::default() }
    }

    /// Takes a batch into the group, or refuses it.
    fn take(&mut self, group: &mut Group, submission: Submission, caller: Caller) -> Result<(), StoreError> {
        self.metrics.queue.dec();
        match self.admit(group, &submission)? {
            Ok(steps) => {
                let placed = self.place(group, submission, &steps)?;
                group.answers.push((caller, placed));
            }
            Err(refusal) => send(caller, Err(refusal)),
        }
        Ok(())
    }

    /// Checks a batch against its session and the blobs that are stored. Changes nothing.
    fn admit(
        &self,
        group: &Group,
        submission: &Submission,
    ) -> Result<Result<Vec<Step>, Refusal>, StoreError> {
        let steps = match self.sessions.plan(submission, Timestamp::now()) {
            Ok(steps) => steps,
            Err(refusal) => return Ok(Err(refusal)),
        };
        for (number, (step, statement)) in steps.iter().zip(&submission.statements).enumerate() {
            if let Step::Repeat(index) = step
                && !self.is_recorded(group, *index, &statement.bytes)?
            {
                let message = format!("seq {} of the session was recorded with other bytes", statement.seq);
                return Ok(Err(Refusal::new(Reason::SeqConflict, message).of_statement(number)));
            }
        }
        for (number, reference) in &submission.elsewhere {
            let stored = match group.staged.get(&reference.digest) {
                Some(blob) => Some(blob.reference().size),
                None => self.reader.blob_size(&reference.digest)?,
            };
            let refusal = match stored {
                Some(size) if size == reference.size => continue,
                Some(size) => wrong_size(reference, size),
                None => {
                    let message = format!("blob {} is neither in the batch nor stored", reference.digest);
                    Refusal::new(Reason::BlobMissing, message)
                }
            };
            return Ok(Err(refusal.of_statement(*number)));
        }
        Ok(Ok(steps))
    }

    fn is_recorded(&self, group: &Group, index: u64, statement: &[u8]) -> Result<bool, StoreError> {
        let leaf = self.leaf(group, index)?;
        Ok(Entry::parse(&leaf).is_ok_and(|entry| entry.statement == statement))
    }

    /// An entry that was recorded before, perhaps in this very group.
    fn leaf(&self, group: &Group, index: u64) -> Result<Arc<[u8]>, StoreError> {
        let staged = index.checked_sub(group.first).and_then(|place| usize::try_from(place).ok());
        match staged.and_then(|place| group.record.leaves.get(place)) {
            Some(leaf) => Ok(leaf.clone()),
            None => self
                .reader
                .entry(index)?
                .ok_or_else(|| StoreError::corrupt("log/tile/entries", 0, format!("entry {index} is gone"))),
        }
    }

    /// Gives each statement of an admitted batch its place.
    fn place(
        &mut self,
        group: &mut Group,
        submission: Submission,
        steps: &[Step],
    ) -> Result<Placed, StoreError> {
        let Submission { speaker, session, statements, blobs, .. } = submission;
        self.stage_blobs(group, blobs)?;
        let workload = self.sessions.owner(session).unwrap_or(&speaker.workload).clone();
        let subject = Subject::Workload(workload);
        let envelope = Envelope { received: self.received, subject, role: speaker.role };
        let raw = serde_json::value::to_raw_value(&envelope).map_err(ledger::entry::BadEntry::from)?;
        let mut placed = Placed { entries: Vec::new(), envelopes: Vec::new() };
        for (statement, step) in statements.iter().zip(steps) {
            if let Step::AfterHole(hole) = step {
                self.report_hole(group, *hole)?;
            }
            if let Step::Repeat(index) = step {
                let (entry, envelope) = receipt_again(*index, &self.leaf(group, *index)?)?;
                placed.entries.push(entry);
                placed.envelopes.push(envelope);
            } else {
                let entry = self.append(group, &envelope, &statement.bytes)?;
                let place = Place { index: entry.index, received: entry.received };
                self.sessions.apply(session, &speaker, statement, place);
                placed.entries.push(entry);
                placed.envelopes.push(raw.clone());
            }
        }
        Ok(placed)
    }

    fn stage_blobs(&self, group: &mut Group, blobs: HashMap<Digest, Arc<Blob>>) -> Result<(), StoreError> {
        for (digest, blob) in blobs {
            let stored = self.reader.blob_size(&digest)? == Some(blob.reference().size);
            // What was deleted does not come back with a batch that is sent again.
            if stored || group.staged.contains_key(&digest) || self.reader.deleted().contains(&digest) {
                continue;
            }
            group.bytes += blob.as_bytes().len();
            group.record.blobs.push(blob.clone());
            group.staged.insert(digest, blob);
        }
        Ok(())
    }

    fn append(
        &mut self,
        group: &mut Group,
        envelope: &Envelope,
        statement: &[u8],
    ) -> Result<ReceiptEntry, StoreError> {
        let leaf = encode(envelope, statement)?;
        let index = self.next_index;
        let entry = ReceiptEntry { index, leaf_hash: leaf_hash(&leaf), received: envelope.received };
        group.bytes += leaf.len();
        group.record.leaves.push(leaf.into());
        self.next_index += 1;
        Ok(entry)
    }

    fn say(&mut self, group: &mut Group, kind: &str, body: Body) -> Result<(), StoreError> {
        let said = self.voice.say(kind, body, self.received);
        let (envelope, statement) = said.map_err(|_| ledger::entry::BadEntry::TooLarge(0))?;
        self.append(group, &envelope, &statement)?;
        Ok(())
    }

    fn report_hole(&mut self, group: &mut Group, hole: Hole) -> Result<(), StoreError> {
        tracing::warn!(session = %hole.session, from = hole.from, to = hole.to, "a session has a hole");
        self.sessions.note_hole(hole);
        self.say(group, kind::LOG_HOLE, Body { hole: Some(hole), ..Body::default() })
    }

    fn close_silent_sessions(&mut self, group: &mut Group) -> Result<(), StoreError> {
        for lost in self.sessions.silent(Instant::now()) {
            tracing::warn!(session = %lost.session, open = lost.open, "a session fell silent and is closed");
            let session = lost.session;
            self.say(group, kind::SESSION_LOST, Body { lost: Some(lost), ..Body::default() })?;
            self.sessions.close(session, self.received);
        }
        self.sessions.forget(Timestamp::now());
        Ok(())
    }

    /// Makes the group durable, then answers.
    fn commit(&mut self, group: Group) -> Result<(), StoreError> {
        if !group.record.leaves.is_empty() {
            if group.apart {
                self.wal.begin_segment();
            }
            let timer = self.metrics.append_seconds.start_timer();
            self.wal.append(group.first, &group.record)?;
            timer.observe_duration();
            self.metrics.entries.inc_by(group.record.leaves.len() as u64);
            self.metrics.bytes.inc_by(group.bytes as u64);
            self.tail.add(group.record.leaves, group.record.blobs);
        }
        self.metrics.sessions.set(i64::try_from(self.sessions.open()).unwrap_or(i64::MAX));
        for (caller, placed) in group.answers {
            send(caller, Ok(placed));
        }
        for (hearer, index) in group.said {
            // An error means that whoever asked went away; what is said stays so.
            let _gone = hearer.send(Ok(index)).is_err();
        }
        if self.tail.wait_for_room() { Ok(()) } else { Err(StoreError::Stopping) }
    }
}

/// The receipt's line and the envelope of an entry that was recorded before.
fn receipt_again(index: u64, leaf: &[u8]) -> Result<(ReceiptEntry, Box<RawValue>), StoreError> {
    #[derive(serde::Deserialize)]
    struct Verbatim {
        envelope: Box<RawValue>,
    }
    let received = Entry::parse(leaf)?.envelope.received;
    let Verbatim { envelope } = serde_json::from_slice(leaf).map_err(ledger::entry::BadEntry::from)?;
    Ok((ReceiptEntry { index, leaf_hash: leaf_hash(leaf), received }, envelope))
}

fn send(caller: Caller, result: Result<Placed, Refusal>) {
    // An error means that the caller went away; what is durable stays so, and the caller may ask again.
    let _gone = caller.answer.send(result).is_err();
}
