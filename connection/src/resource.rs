//! The custom resource. Doc comments here are what `kubectl explain bigqueryconnection` prints: they speak to its user.
// The derive repeats each struct inside a function, where its `pub` reaches nobody.
#![allow(unreachable_pub)]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::status::ConnectionStatus;

/// Longest name of a connection: pods carry it as a label's value.
pub const MAX_NAME: usize = 63;

/// Whose BigQuery calls are recorded, and how. Pods of this namespace that `pods` selects get the sidecar when they are
/// created; those that run already are counted as not covered until they are restarted.
#[derive(Clone, Debug, PartialEq, CustomResource, KubeSchema, Serialize, Deserialize)]
#[kube(
    group = "bqwitness.dev",
    version = "v1alpha1",
    kind = "BigQueryConnection",
    plural = "bigqueryconnections",
    shortname = "bqc",
    namespaced,
    status = "ConnectionStatus",
    derive = "PartialEq",
    doc = "Records what selected pods do in BigQuery. Apply one, then restart the pods that it selects.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Every selected pod is recorded, or would be if it were created now."
    ),
    printcolumn(
        name = "Pods",
        type_ = "integer",
        json_path = ".status.pods.matched",
        description = "Pods that the connection selects."
    ),
    printcolumn(
        name = "Covered",
        type_ = "integer",
        json_path = ".status.pods.covered",
        description = "Pods with a working sidecar of this generation."
    ),
    printcolumn(
        name = "Uncovered",
        type_ = "integer",
        json_path = ".status.pods.uncovered",
        description = "Pods that run without a working sidecar."
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why it is not ready."
    ),
    printcolumn(
        name = "Interception",
        type_ = "string",
        json_path = ".spec.interception.mode",
        priority = 1,
        description = "How calls reach the sidecar."
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63")
        .message("a connection's name has at most 63 characters: its pods carry it as a label"),
    validation = Rule::new(
        "self.spec.identity.mode != 'WorkloadIdentity' || self.spec.interception.mode != 'Aliases'"
    )
    .message("identity mode WorkloadIdentity needs interception mode Redirect: without its rules agents reach the node's metadata server, and with it the pod's credential, as the sidecar does; use Federated")
)]
#[serde(rename_all = "camelCase")]
pub struct BigQueryConnectionSpec {
    /// Which pods of this namespace are recorded.
    pub pods: PodSelection,
    /// The Google Cloud project that agents work in. It is given to them as CLOUDSDK_CORE_PROJECT and GOOGLE_CLOUD_PROJECT
    /// where they have not set these themselves. Without it they must name the project in each call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$"), length(max = 100))]
    pub project: Option<String>,
    /// As whom calls reach BigQuery.
    pub identity: Identity,
    /// How calls reach the sidecar, and what becomes of other connections.
    #[serde(default)]
    pub interception: Interception,
    /// What the record holds of a call, beside who made it, when, and how it ended.
    #[serde(default)]
    pub recording: Recording,
    /// The recorder that calls are recorded at. When absent it is the operator's own, which is what most want.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorder: Option<Recorder>,
    /// The sidecar itself.
    #[serde(default, skip_serializing_if = "Proxy::is_default")]
    pub proxy: Proxy,
}

/// Which pods: those that have the service account and match the labels, where both are given.
#[derive(Clone, Debug, Default, PartialEq, KubeSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.serviceAccountName) || has(self.selector)")
        .message("name a serviceAccountName, a selector, or both: a connection for every pod of a namespace is written with an empty selector")
)]
pub struct PodSelection {
    /// Pods that run as this service account. The surest way: who may use a service account is Kubernetes' own decision, and a
    /// pod can't leave the selection by changing its labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"), length(min = 1, max = 253))]
    pub service_account_name: Option<String>,
    /// Pods with these labels. An empty selector selects every pod of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// As whom calls reach BigQuery.
#[derive(Clone, Debug, PartialEq, Eq, KubeSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.mode == 'Federated' ? has(self.federated) : !has(self.federated)")
        .message("mode Federated needs federated.provider, and no other mode has it")
)]
pub struct Identity {
    /// Where the credential of a call comes from. docs/identity.md says how to set each mode up, and what it does not protect
    /// against.
    #[serde(default)]
    pub mode: IdentityMode,
    /// The workload identity provider, and the service account to act as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub federated: Option<Federated>,
    /// The project that calls count against, where that is not the project that they name. Not in mode Passthrough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub quota_project: Option<String>,
}

/// A workload identity provider, and the service account to act as.
#[derive(Clone, Debug, PartialEq, Eq, KubeSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.delegates) || self.delegates.size() == 0 || has(self.serviceAccount)")
        .message("delegates lead to a serviceAccount: name it")
)]
pub struct Federated {
    /// //iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER
    #[schemars(
        regex(
            pattern = r"^//iam\.googleapis\.com/projects/[0-9]+/locations/global/workloadIdentityPools/[a-z0-9-]+/providers/[a-z0-9-]+$"
        ),
        length(max = 253)
    )]
    pub provider: String,
    /// The Google service account to act as. Without one, the federated identity itself calls BigQuery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[^@\s,]+@[^@\s,]+$"), length(max = 253))]
    pub service_account: Option<String>,
    /// Service accounts between the federated identity and that one, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(regex(pattern = r"^[^@\s,]+@[^@\s,]+$"), length(max = 253)))]
    pub delegates: Vec<String>,
}

/// Where the credential of a call comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum IdentityMode {
    /// The pod's own token is exchanged at Google's token service. The agent holds nothing of worth, and gains nothing by going
    /// round the sidecar.
    #[default]
    Federated,
    /// GKE: the node's metadata server gives the credential, which only the sidecar's user reaches.
    WorkloadIdentity,
    /// The agent's own credential is forwarded as it came. The record says so, and that the Google identity may be shared with
    /// others; an agent that has a credential of its own can use it elsewhere too, where nobody records.
    Passthrough,
}

impl IdentityMode {
    /// Does the agent hold no credential?
    #[must_use]
    pub fn is_keyless(self) -> bool {
        self != Self::Passthrough
    }
}

/// How calls reach the sidecar, and what becomes of other connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, KubeSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.mode == 'Aliases' || !has(self.extraHosts)")
        .message("extraHosts belong to mode Aliases: in mode Redirect every name leads to the sidecar"),
    validation = Rule::new("self.mode == 'Redirect' || (self.otherGoogleApis == 'Inspect' && self.otherEgress == 'Splice')")
        .message("in mode Aliases other connections don't pass the sidecar: leave otherGoogleApis and otherEgress out, and limit them by a NetworkPolicy")
)]
pub struct Interception {
    /// How calls reach the sidecar. Redirect: by rules in the pod's network, whatever the agent does; the init container that sets
    /// them needs NET_ADMIN. Aliases: BigQuery's names lead to it; no container needs a capability, the pod passes PodSecurity
    /// "restricted", and an agent that dials an address goes round it. docs/operator.md compares them.
    #[serde(default)]
    pub mode: InterceptionMode,
    /// What becomes of connections to other Google APIs. The same front ends of Google's serve them and BigQuery: only Inspect
    /// and Refuse make sure that no BigQuery call hides in one.
    #[serde(default)]
    pub other_google_apis: OtherGoogleApis,
    /// What becomes of connections to ports 80 and 443 of hosts that are not Google's.
    #[serde(default)]
    pub other_egress: OtherEgress,
    /// Mode Aliases: more hosts that lead to the sidecar, such as a Private Service Connect endpoint's
    /// (bigquery-NAME.p.googleapis.com) or a new region's. BigQuery's global and regional hosts do by themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(
            regex(
                pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\.googleapis\.com$"
            ),
            length(max = 253)
        )
    )]
    pub extra_hosts: Vec<String>,
}

/// What the record holds of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, KubeSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recording {
    /// Of what agents ask. Text, always: SQL and request bodies, whole, since a record without them answers nobody. They lie
    /// beside the log, and one that must go can be deleted later (docs/operations.md).
    #[serde(default)]
    pub statements: RecordedStatements,
    /// Of what BigQuery answers, beside status, counts and sizes; rows are never in the record. Digest: the SHA-256 of each answer's
    /// content, so that whoever kept an answer can show that it is the one that came. None: not that, for answers so short
    /// that a reader of the record could guess one, and see by the digest that the guess is right.
    #[serde(default)]
    pub results: RecordedResults,
}

/// Of what agents ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum RecordedStatements {
    /// SQL and request bodies, whole.
    #[default]
    Text,
}

/// Of what BigQuery answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum RecordedResults {
    /// Status, counts and sizes only.
    None,
    /// Also the SHA-256 of each answer's content.
    #[default]
    Digest,
}

/// How calls reach the sidecar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum InterceptionMode {
    /// An init container sets rules in the pod's network that lead TCP 80 and 443 to the sidecar, whatever the agent does. The
    /// init container needs NET_ADMIN, which PodSecurity "baseline" and GKE Autopilot do not allow by default.
    #[default]
    Redirect,
    /// BigQuery's names lead to the sidecar by the pod's host aliases. Nothing in the pod needs a capability, and the whole pod
    /// passes PodSecurity "restricted". An agent that dials an address goes round it, and no NetworkPolicy tells it from its
    /// sidecar: give it nothing to call with (identity mode Federated).
    Aliases,
}

/// What becomes of connections to other Google APIs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum OtherGoogleApis {
    /// TLS is terminated, each request must be for the host that it was set up for, and is one line in the record.
    #[default]
    Inspect,
    /// Bytes are copied both ways, untouched and unrecorded.
    Splice,
    /// The connection is refused.
    Refuse,
}

/// What becomes of connections to hosts that are not Google's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum OtherEgress {
    /// Bytes are copied both ways, untouched and unrecorded.
    #[default]
    Splice,
    /// The connection is refused.
    Refuse,
}

/// A recorder, and what proves it.
#[derive(Clone, Debug, PartialEq, Eq, KubeSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recorder {
    /// Where it is: https://host:port.
    #[schemars(regex(pattern = r"^https://[^/\s]+$"), length(max = 300))]
    pub url: String,
    /// The CA that its certificate comes from, in PEM. No other is trusted for it.
    #[schemars(regex(pattern = r"^-----BEGIN CERTIFICATE-----"), length(max = 16384))]
    pub ca: String,
    /// The verifier key of its log (the file log.vkey of the recorder), which signs the receipts.
    #[schemars(regex(pattern = r"^[^\s+]+\+[0-9a-f]{8}\+[A-Za-z0-9+/=]+$"), length(max = 512))]
    pub key: String,
    /// The audience of the tokens that pods show it.
    #[serde(default = "audience")]
    #[schemars(length(min = 1, max = 253))]
    pub audience: String,
}

fn audience() -> String {
    crate::names::AUDIENCE.into()
}

/// The sidecar itself.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Proxy {
    /// What it asks of the node, and its limits. Default: requests 50m CPU and 32Mi memory, no limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// What it logs: error, warn, info, debug or trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_level: Option<LogLevel>,
}

impl Proxy {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What the sidecar asks of the node, and its limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Resources {
    /// What is kept for it, such as `cpu: 50m` and `memory: 32Mi`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, IntOrString>,
    /// What it may not exceed. With less memory than its queues may need (160Mi) it may be killed when the recorder is slow.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, IntOrString>,
}

/// What the sidecar logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What went wrong.
    Error,
    /// And what may go wrong.
    Warn,
    /// And what happens.
    Info,
    /// And why.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// As the sidecar's flag has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}
