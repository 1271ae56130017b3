//! The recorder's metrics, registered once.

use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, exponential_buckets,
};
use runtime::faults::Fault;

/// `what` of [`Metrics::reload_failures`]: the API's certificate and key.
pub const RELOAD_CERTIFICATE: &str = "certificate";

/// `what` of [`Metrics::reload_failures`]: the token issuer's keys.
pub const RELOAD_KEYS: &str = "issuer_keys";

/// All metrics of the recorder.
#[derive(Debug)]
pub struct Metrics {
    /// Batches by result: `recorded`, or the refusal's category.
    pub batches: IntCounterVec,
    /// Entries made durable, the recorder's own included.
    pub entries: IntCounter,
    /// Bytes appended to the write-ahead log, before its framing.
    pub bytes: IntCounter,
    /// Time that the last start took to read and check the whole log.
    pub check_seconds: Gauge,
    /// Time of each append with its fdatasync.
    pub append_seconds: Histogram,
    /// Time from the snapshot of the tail to the removal of what it covers.
    pub publish_seconds: Histogram,
    /// Batches that wait for the sequencer.
    pub queue: IntGauge,
    /// Entries that the newest checkpoint covers.
    pub checkpoint_size: IntGauge,
    /// When it was signed, in seconds since 1970.
    pub checkpoint_time: IntGauge,
    /// Entries that the index covers.
    pub index_size: IntGauge,
    /// 1 while the index is being built again.
    pub index_rebuilding: IntGauge,
    /// Rounds of each witness by result: `cosigned`, or why not.
    pub witness_answers: IntCounterVec,
    /// Entries that the newest checkpoint covers that enough witnesses cosigned.
    pub witnessed_size: IntGauge,
    /// Sessions that are open.
    pub sessions: IntGauge,
    /// Connections to the API.
    pub connections: IntGauge,
    /// What peers sent that is no HTTP, by why: [`Fault::reason`].
    pub malformed: IntCounterVec,
    /// Looks at files or keys that are to change without a restart, and could not be used: by what they are.
    pub reload_failures: IntCounterVec,
}

impl Metrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// When one is registered twice, which is a mistake in this file.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let seconds = |name, help| -> Result<Histogram, prometheus::Error> {
            let buckets = exponential_buckets(0.000_05, 2.0, 18)?; // 50 microseconds to 6.5 seconds
            register(registry, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?)
        };
        let counter = |name, help| register(registry, IntCounter::new(name, help)?);
        let gauge = |name, help| register(registry, IntGauge::new(name, help)?);
        let batches = Opts::new("bqwitness_recorder_batches_total", "Batches by result");
        let reloads = Opts::new(
            "bqwitness_recorder_reload_failures_total",
            "Looks that found a certificate or keys that can't be used; the last ones stay in force",
        );
        let reload_failures = register(registry, IntCounterVec::new(reloads, &["what"])?)?;
        [RELOAD_CERTIFICATE, RELOAD_KEYS]
            .iter()
            .for_each(|what| reload_failures.with_label_values(&[what]).reset());
        let malformed =
            Opts::new("bqwitness_recorder_malformed_total", "What peers sent that is no HTTP, by why");
        let malformed = register(registry, IntCounterVec::new(malformed, &["reason"])?)?;
        Fault::ALL.iter().for_each(|fault| malformed.with_label_values(&[fault.reason()]).reset());
        Ok(Self {
            batches: register(registry, IntCounterVec::new(batches, &["result"])?)?,
            entries: counter("bqwitness_recorder_entries_total", "Entries made durable")?,
            bytes: counter("bqwitness_recorder_bytes_total", "Bytes of entries and blobs made durable")?,
            check_seconds: register(
                registry,
                Gauge::new(
                    "bqwitness_recorder_check_seconds",
                    "Time that the start took to read and check the whole log",
                )?,
            )?,
            append_seconds: seconds(
                "bqwitness_recorder_append_seconds",
                "Time to append and fdatasync a group",
            )?,
            publish_seconds: seconds("bqwitness_recorder_publish_seconds", "Time to publish a checkpoint")?,
            queue: gauge("bqwitness_recorder_queue_batches", "Batches that wait for the sequencer")?,
            checkpoint_size: gauge("bqwitness_recorder_checkpoint_size", "Entries in the newest checkpoint")?,
            checkpoint_time: gauge(
                "bqwitness_recorder_checkpoint_time_seconds",
                "When the newest checkpoint was signed, in seconds since 1970",
            )?,
            index_size: gauge("bqwitness_recorder_index_size", "Entries that the search index covers")?,
            index_rebuilding: gauge(
                "bqwitness_recorder_index_rebuilding",
                "1 while the search index is being built again, else 0",
            )?,
            witness_answers: register(
                registry,
                IntCounterVec::new(
                    Opts::new(
                        "bqwitness_recorder_witness_answers_total",
                        "Answers of each witness by result",
                    ),
                    &["witness", "result"],
                )?,
            )?,
            witnessed_size: gauge(
                "bqwitness_recorder_witnessed_size",
                "Entries in the newest checkpoint that enough witnesses cosigned",
            )?,
            sessions: gauge("bqwitness_recorder_sessions_open", "Sessions that are open")?,
            connections: gauge("bqwitness_recorder_connections", "Connections to the API")?,
            malformed,
            reload_failures,
        })
    }

    /// Notes a new checkpoint.
    pub fn checkpoint(&self, size: u64) {
        self.checkpoint_size.set(i64::try_from(size).unwrap_or(i64::MAX));
        self.checkpoint_time.set(jiff::Timestamp::now().as_second());
    }
}

fn register<C: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    metric: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}
