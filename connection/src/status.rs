//! What the operator says of a connection.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator found, when it last looked.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectionStatus {
    /// The generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// SHA-256 of the spec in canonical form, as entries name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec_digest: Option<String>,
    /// The newest generation of which the record has the spec, and who asked for it. It is behind observedGeneration while the
    /// recorder can't be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorded_generation: Option<i64>,
    /// Ready, ConfigValid, RecorderReachable, CredentialsReady, Injecting and Covered, each with its reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// How many pods are in which state.
    pub pods: PodCounts,
    /// Other connections that select some of the same pods, as `name` (this one wins) or `name (wins)`. At most 16.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overlaps: Vec<String>,
}

/// How many of the selected pods are in which state. Pods that have ended are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodCounts {
    /// Selected by this connection.
    pub matched: i32,
    /// With a sidecar, whatever its version.
    pub injected: i32,
    /// With a sidecar of this generation and the operator's version that is ready, or was started a moment ago.
    pub covered: i32,
    /// With a working sidecar of an earlier generation or version: recorded, and to be restarted.
    pub outdated: i32,
    /// Without a working sidecar: created before the connection, or its sidecar is not ready.
    pub uncovered: i32,
}

/// Types of conditions.
pub mod condition {
    /// None of the others is false.
    pub const READY: &str = "Ready";
    /// The spec can be used, and no older connection takes all its pods.
    pub const CONFIG_VALID: &str = "ConfigValid";
    /// The connection's recorder answers, and takes what the operator enters.
    pub const RECORDER_REACHABLE: &str = "RecorderReachable";
    /// Sidecars have a credential for BigQuery.
    pub const CREDENTIALS_READY: &str = "CredentialsReady";
    /// Pods that are created now get the sidecar.
    pub const INJECTING: &str = "Injecting";
    /// No selected pod runs without a working sidecar.
    pub const COVERED: &str = "Covered";
}
