//! What an SRE sees of credentials.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

/// The metrics of credentials; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    refreshes: IntCounterVec,
    expires: IntGauge,
    placeholders: IntCounterVec,
}

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
        let expires = IntGauge::new(
            "bqwitness_credential_expires_timestamp_seconds",
            "When the Google credential in use expires, in seconds since 1970; 0 before there is one.",
        )?;
        registry.register(Box::new(expires.clone()))?;
        Ok(Self {
            refreshes: counters(
                "bqwitness_credential_refreshes_total",
                "Attempts to obtain a Google credential, by how they ended.",
                &["result"],
            )?,
            expires,
            placeholders: counters(
                "bqwitness_placeholders_total",
                "Placeholder credentials handed to agents, by where they asked.",
                &["by"],
            )?,
        })
    }

    pub(super) fn granted(&self, lifetime: Duration) {
        self.refreshes.with_label_values(&["granted"]).inc();
        let expires = SystemTime::now() + lifetime;
        let seconds = expires.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.expires.set(i64::try_from(seconds).unwrap_or(i64::MAX));
    }

    pub(super) fn failed(&self, category: &str) {
        self.refreshes.with_label_values(&[category]).inc();
    }

    /// A placeholder was handed out.
    pub fn placeholder(&self, by: &str) {
        self.placeholders.with_label_values(&[by]).inc();
    }
}
