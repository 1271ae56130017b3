//! What an SRE sees of the data plane. Every label has few values: fixed categories, results, methods of the table.

use std::time::Duration;

use ledger::call::CallResult;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry};
use runtime::faults::Fault;

/// The metrics of the data plane; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    calls: IntCounterVec,
    seconds: HistogramVec,
    refused: IntCounterVec,
    /// Calls whose intent is recorded and whose outcome is not yet.
    pub open_calls: IntGauge,
    connections: IntCounterVec,
    /// Connections of agents that are open.
    pub open_connections: IntGauge,
    tls_failures: IntCounterVec,
    upstream_failures: IntCounterVec,
    malformed: IntCounterVec,
}

/// Seconds from a request's head to the end of its answer.
const CALL_BUCKETS: [f64; 12] = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 300.0, 3600.0];

impl Metrics {
    /// The metrics, registered.
    ///
    /// # Errors
    /// When the registry has metrics of these names already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone())).map(|()| counters)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone())).map(|()| gauge)
        };
        let seconds = HistogramVec::new(
            HistogramOpts::new("bqwitness_call_seconds", "From a call's arrival to the end of its answer.")
                .buckets(CALL_BUCKETS.to_vec()),
            &["method"],
        )?;
        registry.register(Box::new(seconds.clone()))?;
        let malformed =
            counters("bqwitness_malformed_total", "What agents sent that is no HTTP, by why.", &["reason"])?;
        for fault in Fault::ALL {
            malformed.with_label_values(&[fault.reason()]).reset(); // it is there from the start
        }
        Ok(Self {
            calls: counters("bqwitness_calls_total", "Calls that ended, by how.", &["method", "result"])?,
            seconds,
            refused: counters(
                "bqwitness_refused_total",
                "Requests that the sidecar refused.",
                &["category"],
            )?,
            open_calls: gauge("bqwitness_open_calls", "Calls without an outcome yet.")?,
            connections: counters(
                "bqwitness_connections_total",
                "Connections of agents, by what became of them.",
                &["way"],
            )?,
            open_connections: gauge("bqwitness_open_connections", "Open connections of agents.")?,
            tls_failures: counters(
                "bqwitness_tls_failures_total",
                "TLS handshakes with agents that failed.",
                &["alert"],
            )?,
            upstream_failures: counters(
                "bqwitness_upstream_failures_total",
                "Calls that BigQuery did not answer.",
                &["category"],
            )?,
            malformed,
        })
    }

    /// A call ended.
    pub fn ended(&self, method: &str, result: CallResult, took: Duration) {
        self.calls.with_label_values(&[method, result_name(result)]).inc();
        self.seconds.with_label_values(&[method]).observe(took.as_secs_f64());
    }

    /// A request was refused.
    pub fn refused(&self, category: &str) {
        self.refused.with_label_values(&[category]).inc();
    }

    /// A connection was `intercepted`, `spliced`, or not served: then the category says why.
    pub fn connection(&self, way: &str) {
        self.connections.with_label_values(&[way]).inc();
    }

    /// An agent sent what is no HTTP.
    pub fn malformed(&self, reason: &str) {
        self.malformed.with_label_values(&[reason]).inc();
    }

    /// A handshake with an agent failed.
    pub fn tls_failed(&self, alert: &str) {
        self.tls_failures.with_label_values(&[alert]).inc();
    }

    /// BigQuery did not answer.
    pub fn upstream_failed(&self, category: &str) {
        self.upstream_failures.with_label_values(&[category]).inc();
    }
}

fn result_name(result: CallResult) -> &'static str {
    match result {
        CallResult::Answered => "answered",
        CallResult::Refused => "refused",
        CallResult::Failed => "failed",
        CallResult::Aborted => "aborted",
    }
}
