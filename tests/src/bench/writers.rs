//! Writers: each a pod with a token, a session and a connection of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ledger::batch::Batch;
use ledger::note::VerifierKey;
use ledger::receipt::{Acknowledgement, Receipt};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::statements::{Content, Session};
use super::wire::{Connection, Route, find};
use crate::identity::{Cluster, Pod};
use crate::programs::AUDIENCE;
use crate::trouble::{Doing as _, Result, Trouble};

/// Every so many answers a writer keeps one, with its request; its receipt is verified when the clock has stopped.
const SAMPLE: usize = 200;

/// What writers do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// How many write at a time.
    pub(crate) writers: usize,
    /// Entries in each batch.
    pub(crate) batch: usize,
    /// What they are.
    pub(crate) content: Content,
    /// How long.
    pub(crate) time: Duration,
    /// Entries that are prepared, of all writers together: who runs out of them stops earlier.
    pub(crate) most: usize,
    /// Entries per second of all together, if not as many as can be.
    pub(crate) pace: Option<usize>,
}

/// One acknowledged batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ack {
    /// When the answer was there.
    pub(crate) at: Instant,
    /// How long that took.
    pub(crate) took: Duration,
    /// Index of its last entry.
    pub(crate) last: u64,
}

/// What became of a plan.
#[derive(Debug)]
pub(crate) struct Written {
    /// Acknowledged batches, by writer.
    pub(crate) acks: Vec<Ack>,
    /// Entries in them.
    pub(crate) entries: usize,
    /// From the first request to the last answer.
    pub(crate) time: Duration,
}

impl Written {
    /// Entries per second.
    pub(crate) fn rate(&self) -> f64 {
        self.entries as f64 / self.time.as_secs_f64()
    }
}

/// Writers whose requests are prepared and whose sessions have begun.
pub(crate) struct Writers {
    plan: Plan,
    writers: Vec<Writer>,
    key: VerifierKey,
}

struct Writer {
    connection: Connection,
    requests: Vec<Vec<u8>>,
    /// Request and answer.
    samples: Vec<(usize, Vec<u8>)>,
}

impl Writers {
    /// Prepares every request, opens every connection and begins every session.
    ///
    /// # Errors
    /// The recorder refuses something.
    pub(crate) async fn prepare(
        plan: Plan,
        cluster: &Cluster,
        route: &Route,
        key: VerifierKey,
    ) -> Result<Self> {
        let mut writers = Vec::with_capacity(plan.writers);
        for number in 0..plan.writers {
            let pod = Pod::of("agents", &format!("writer-{number}"));
            let token = cluster.sign(&cluster.claims(&pod, AUDIENCE))?;
            let mut session = Session::new(&pod, token)?;
            let mut connection = route.open().await?;
            connection.ask(&session.start()?).await?;
            let count = plan.most / plan.writers / plan.batch;
            let requests =
                (0..count).map(|_| session.batch(plan.content, plan.batch)).collect::<Result<_>>()?;
            writers.push(Writer { connection, requests, samples: Vec::new() });
        }
        Ok(Self { plan, writers, key })
    }

    /// Writes, and then verifies the receipts that were kept.
    ///
    /// # Errors
    /// A batch is not acknowledged, or a receipt does not hold.
    pub(crate) async fn write(self) -> Result<Written> {
        let Self { plan, writers, key } = self;
        let ready = Arc::new(Barrier::new(writers.len()));
        let mut tasks = JoinSet::new();
        for (number, writer) in writers.into_iter().enumerate() {
            let ready = ready.clone();
            tasks.spawn(async move {
                ready.wait().await;
                writer.write(plan, number).await
            });
        }
        let (mut acks, mut ended) = (Vec::new(), Vec::new());
        while let Some(task) = tasks.join_next().await {
            let (writer, written) = task.doing("a writer")??;
            acks.extend(written);
            ended.push(writer);
        }
        ended.iter().try_for_each(|writer| writer.verify_samples(&key))?;
        let first = acks.iter().map(|ack| ack.at - ack.took).min();
        let last = acks.iter().map(|ack| ack.at).max();
        let (Some(first), Some(last)) = (first, last) else {
            return Err(Trouble::new("nothing was written"));
        };
        Ok(Written { entries: acks.len() * plan.batch, acks, time: last - first })
    }
}

impl Writer {
    async fn write(mut self, plan: Plan, number: usize) -> Result<(Self, Vec<Ack>)> {
        let mut acks = Vec::with_capacity(self.requests.len());
        let start = Instant::now();
        let between = plan.between_batches();
        let offset = between * u32::try_from(number).unwrap_or(0) / u32::try_from(plan.writers).unwrap_or(1);
        for (round, request) in self.requests.iter().enumerate() {
            let due = start + offset + between * u32::try_from(round).unwrap_or(u32::MAX);
            if !between.is_zero() {
                tokio::time::sleep_until(due.into()).await;
            }
            let sent = Instant::now();
            if sent - start >= plan.time {
                break;
            }
            let answer = self.connection.ask(request).await?;
            let at = Instant::now();
            let first =
                first_index(answer).ok_or_else(|| Trouble::new("an acknowledgement without an index"))?;
            acks.push(Ack { at, took: at - sent, last: first + plan.batch as u64 - 1 });
            if round % SAMPLE == 0 {
                self.samples.push((round, answer.to_vec()));
            }
        }
        Ok((self, acks))
    }

    fn verify_samples(&self, key: &VerifierKey) -> Result<()> {
        for (round, answer) in &self.samples {
            let request = &self.requests[*round];
            let body = find(request, b"\r\n\r\n").map_or(request.len(), |end| end + 4);
            let batch = Batch::decode(&request[body..]).doing("reading a batch of ours")?;
            let answer: Acknowledgement =
                serde_json::from_slice(answer).doing("reading an acknowledgement")?;
            let receipt = Receipt::verify(answer.receipt.as_bytes(), key).doing("verifying a receipt")?;
            receipt.check(&answer.envelopes, &batch.statements).doing("checking a receipt")?;
        }
        Ok(())
    }
}

impl Plan {
    fn between_batches(&self) -> Duration {
        let per_second = self.pace.map(|pace| pace as f64 / (self.batch * self.writers) as f64);
        per_second.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(1.0 / rate))
    }
}

/// The index in an acknowledgement's receipt: the third line of its text, whose ends of lines are escaped in JSON.
fn first_index(answer: &[u8]) -> Option<u64> {
    const END: &[u8] = b"\\n";
    let header = find(answer, ledger::receipt::HEADER.as_bytes())?;
    let origin = header + find(&answer[header..], END)? + END.len();
    let index = origin + find(&answer[origin..], END)? + END.len();
    let length = answer[index..].iter().position(|byte| *byte == b' ')?;
    std::str::from_utf8(&answer[index..index + length]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_found_without_reading_all() {
        let answer = br#"{"receipt":"bqwitness.dev/receipt/v1\nexample.com/demo\n4711 AAAA= 2026\n\n-- x\n","envelopes":[]}"#;
        assert_eq!(first_index(answer), Some(4711));
        assert_eq!(first_index(br#"{"error":{}}"#), None);
    }

    #[test]
    fn a_pace_is_shared_by_all_writers() {
        let plan = Plan {
            writers: 50,
            batch: 2,
            content: Content::Calls,
            time: Duration::from_secs(1),
            most: 1,
            pace: Some(5000),
        };
        assert_eq!(plan.between_batches(), Duration::from_millis(20));
        assert_eq!(Plan { pace: None, ..plan }.between_batches(), Duration::ZERO);
    }
}
