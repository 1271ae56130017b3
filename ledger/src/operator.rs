//! What an operator says: which specs of connections were accepted, and whether selected pods are under recording.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::canonical;
use crate::digest::Digest;

/// `connection.accepted`: this generation of a connection is stored, and in force for pods that are created from then on.
/// Which one is in the statement's `connection`, with the digest of `spec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Accepted {
    /// The spec, with all its defaults.
    pub spec: Value,
    /// Who asked for it. Absent when no webhook of the operator's saw the request: nobody knows then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Requester>,
    /// A later generation was stored before the operator could say this one: it is from what the webhook kept of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub superseded: bool,
}

/// Somebody who asked the API server for something, as it knew them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Requester {
    /// Their name.
    pub user: String,
    /// Their groups.
    #[serde(default)]
    pub groups: Vec<String>,
    /// There were more groups, or longer names.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

impl Accepted {
    /// SHA-256 of the spec in canonical form: what `connection.specDigest` must be.
    #[must_use]
    pub fn spec_digest(&self) -> Digest {
        canonical::digest(self.spec.clone())
    }
}

/// `connection.deleted`: a connection is gone, and pods that are created from then on are not recorded under it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gone {
    /// The operator saw it go. False when it found it gone, after nobody had watched for a time.
    pub seen: bool,
}

/// `coverage.pod`: what the operator sees of a selected pod, from then on until it says something else. Kubelets tell it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodCoverage {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub pod: String,
    /// UID.
    #[serde(rename = "podUID")]
    pub pod_uid: String,
    /// Service account.
    pub service_account: String,
    /// When the pod was created, by the API server's clock.
    pub created: Timestamp,
    /// Since when it is so, by the operator's clock: earlier than the entry while the recorder was away.
    pub since: Timestamp,
    /// What is so.
    pub state: CoverageState,
    /// Why, where it is not covered: `no_sidecar`, `sidecar_not_ready`, `sidecar_stopped`. Of one that has ended: `unselected`,
    /// when the pod goes on and no connection selects it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Whether a pod is under recording, as the operator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CoverageState {
    /// Its sidecar works, or holds back the agent until it does.
    Covered,
    /// The same, with a sidecar of an earlier generation or version.
    Outdated,
    /// It runs without a working sidecar.
    Uncovered,
    /// The pod is over, or no connection selects it any more.
    Ended,
    /// Something that a later version says.
    #[serde(other)]
    Unknown,
}

impl CoverageState {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Covered => "covered",
            Self::Outdated => "outdated",
            Self::Uncovered => "uncovered",
            Self::Ended => "ended",
            Self::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_digest_is_of_the_spec_whatever_its_order() {
        let one = Accepted { spec: json!({"b": 1, "a": {"d": 2, "c": 3}}), ..Accepted::default() };
        assert_eq!(one.spec_digest(), Digest::of(br#"{"a":{"c":3,"d":2},"b":1}"#));
    }

    #[test]
    fn states_are_written_as_they_are_named_and_later_ones_are_read() {
        for state in [
            CoverageState::Covered,
            CoverageState::Outdated,
            CoverageState::Uncovered,
            CoverageState::Ended,
            CoverageState::Unknown,
        ] {
            assert_eq!(serde_json::to_value(state).expect("plain"), state.name());
        }
        let later: CoverageState = serde_json::from_value(json!("paused")).expect("kept");
        assert_eq!(later, CoverageState::Unknown);
    }
}
