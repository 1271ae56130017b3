//! What an SRE asks of delivery: is recording late, refused or missing?

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Metrics of delivery. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    pub(super) waiting: IntGauge,
    pub(super) unrecorded: IntCounter,
    entries: IntCounter,
    seconds: Histogram,
    failures: IntCounterVec,
}

impl Metrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            waiting: IntGauge::new("bqwitness_delivery_waiting_entries", "Entries without a receipt yet.")?,
            unrecorded: IntCounter::new(
                "bqwitness_delivery_unrecorded_refusals_total",
                "Calls refused without an entry, because the queue was full or the session over.",
            )?,
            entries: IntCounter::new("bqwitness_delivery_entries_total", "Entries that have a receipt.")?,
            seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "bqwitness_delivery_seconds",
                    "From sending a batch to its receipt, retries included.",
                )
                .buckets(vec![0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0]),
            )?,
            failures: IntCounterVec::new(
                Opts::new("bqwitness_delivery_failures_total", "Attempts to deliver a batch that failed."),
                &["category"],
            )?,
        };
        registry.register(Box::new(metrics.waiting.clone()))?;
        registry.register(Box::new(metrics.unrecorded.clone()))?;
        registry.register(Box::new(metrics.entries.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        Ok(metrics)
    }

    pub(super) fn delivered(&self, entries: usize, took: Duration) {
        self.entries.inc_by(entries as u64);
        self.waiting.sub(i64::try_from(entries).expect("a batch has few entries"));
        self.seconds.observe(took.as_secs_f64());
    }

    pub(super) fn failed(&self, category: &str) {
        self.failures.with_label_values(&[category]).inc();
    }
}
