//! What an SRE asks of the keeper: when does the recorder's certificate end, and does something not work?

use jiff::Timestamp;
use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

/// Metrics of the keeper.
#[derive(Clone, Debug)]
pub struct Metrics {
    failures: IntCounterVec,
    certificate: IntGauge,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// When the registry has metrics of these names already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let failures = IntCounterVec::new(
            Opts::new(
                "bqwitness_keeper_failures_total",
                "What did not work and is tried again, by category.",
            ),
            &["category"],
        )?;
        let certificate = IntGauge::new(
            "bqwitness_keeper_certificate_expiry_timestamp_seconds",
            "When the recorder's certificate ends (Unix time). It is renewed when a third of its life is left.",
        )?;
        registry.register(Box::new(failures.clone()))?;
        registry.register(Box::new(certificate.clone()))?;
        Ok(Self { failures, certificate })
    }

    pub(super) fn failed(&self, category: &str) {
        self.failures.with_label_values(&[category]).inc();
    }

    pub(super) fn certificate_ends(&self, ends: Timestamp) {
        self.certificate.set(ends.as_second());
    }
}
