//! What an SRE asks of the operator: are pods uncovered, is the webhook well, when does its certificate end, is there a leader?

use std::time::Duration;

use jiff::Timestamp;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// Metrics of the operator. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    admissions: IntCounterVec,
    admission_seconds: HistogramVec,
    pods: IntGaugeVec,
    reconciles: IntCounterVec,
    failures: IntCounterVec,
    certificate: IntGauge,
    entries: IntCounterVec,
    /// Entries that wait for the recorder.
    pub entries_waiting: IntGauge,
    /// 1 while the recorder takes what the leader enters.
    pub recorder_reachable: IntGauge,
    /// 1 while this replica leads.
    pub leader: IntGauge,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// When the registry has metrics of these names already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter =
            |name: &str, help: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let metrics = Self {
            admissions: counter(
                "bqwitness_operator_admissions_total",
                "Answers to the API server, by webhook and what was decided.",
                &["webhook", "result"],
            )?,
            admission_seconds: HistogramVec::new(
                HistogramOpts::new(
                    "bqwitness_operator_admission_seconds",
                    "From a review, as read, to its answer with the patch.",
                )
                .buckets(vec![0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0]),
                &["webhook"],
            )?,
            pods: IntGaugeVec::new(
                Opts::new(
                    "bqwitness_operator_pods",
                    "Pods that a connection selects, by state. The leader says it.",
                ),
                &["namespace", "connection", "state"],
            )?,
            reconciles: counter(
                "bqwitness_operator_reconciles_total",
                "Looks at a connection, by how they ended.",
                &["result"],
            )?,
            failures: counter(
                "bqwitness_operator_failures_total",
                "What did not work and is tried again: certificate, webhooks, watch, entries, entry_too_large.",
                &["what"],
            )?,
            certificate: IntGauge::new(
                "bqwitness_operator_certificate_expiry_timestamp_seconds",
                "When the webhook's certificate ends (Unix time). It is renewed when a third of its life is left.",
            )?,
            entries: counter(
                "bqwitness_operator_entries_total",
                "What the operator entered in the record, by kind.",
                &["kind"],
            )?,
            entries_waiting: IntGauge::new(
                "bqwitness_operator_entries_waiting",
                "What is to be entered and is not on record yet. The leader says it.",
            )?,
            recorder_reachable: IntGauge::new(
                "bqwitness_operator_recorder_reachable",
                "1 while the recorder takes what the operator enters. The leader says it.",
            )?,
            leader: IntGauge::new("bqwitness_operator_leader", "1 while this replica leads.")?,
        };
        // There from the start, so that the first one is seen to come.
        for what in ["entries", "entry_too_large"] {
            metrics.failures.with_label_values(&[what]);
        }
        registry.register(Box::new(metrics.admissions.clone()))?;
        registry.register(Box::new(metrics.admission_seconds.clone()))?;
        registry.register(Box::new(metrics.pods.clone()))?;
        registry.register(Box::new(metrics.reconciles.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        registry.register(Box::new(metrics.certificate.clone()))?;
        registry.register(Box::new(metrics.leader.clone()))?;
        registry.register(Box::new(metrics.entries.clone()))?;
        registry.register(Box::new(metrics.entries_waiting.clone()))?;
        registry.register(Box::new(metrics.recorder_reachable.clone()))?;
        Ok(metrics)
    }

    pub(crate) fn admitted(&self, webhook: &str, result: &str, took: Duration) {
        self.admissions.with_label_values(&[webhook, result]).inc();
        self.admission_seconds.with_label_values(&[webhook]).observe(took.as_secs_f64());
    }

    pub(crate) fn failed(&self, what: &str) {
        self.failures.with_label_values(&[what]).inc();
    }

    pub(crate) fn entered(&self, kind: &str) {
        self.entries.with_label_values(&[kind]).inc();
    }

    pub(crate) fn reconciled(&self, result: &str) {
        self.reconciles.with_label_values(&[result]).inc();
    }

    pub(crate) fn certificate_ends(&self, ends: Timestamp) {
        self.certificate.set(ends.as_second());
    }

    /// How many pods of a connection are in each state.
    pub(crate) fn pods(&self, namespace: &str, connection: &str, states: &[(&str, i64)]) {
        for (state, count) in states {
            self.pods.with_label_values(&[namespace, connection, state]).set(*count);
        }
    }

    /// The connection is gone, and its numbers with it.
    pub(crate) fn forget(&self, namespace: &str, connection: &str, states: &[&str]) {
        for state in states {
            // Absent where it was never counted.
            let _absent = self.pods.remove_label_values(&[namespace, connection, state]).is_err();
        }
    }
}
