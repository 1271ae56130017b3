//! Who is said to have called: what the sidecar saw, and what the agent said of itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// What the sidecar saw itself (neither proved by a token nor said by the agent).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// The Google principal whose credential the call carried, where the sidecar supplied it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// How the connection reached the sidecar: `connect`, `redirect` or `alias`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interception: Option<String>,
    /// What the call's credential was, and would have been where it was refused: `federated` or `workload-identity` (the
    /// pod's own, which the sidecar obtained), `passthrough` (the agent's own bearer, forwarded as it came; the Google
    /// identity behind it may be shared), or `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

impl Observed {
    pub(super) fn is_empty(&self) -> bool {
        self == &Self::default()
    }
}

/// What the agent said of itself. Each text is cut at [`MAX_CLAIM`] bytes by the sidecar.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claimed {
    /// The `User-Agent` header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// The `x-goog-api-client` header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_client: Option<String>,
    /// The job's labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The trace that the call is part of: the trace id of a W3C `traceparent` header, 32 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// A credential of the agent's own that came with the call. The sidecar does not verify it, and drops it unless
    /// `observed.credential` is `passthrough`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<ClaimedCredential>,
}

/// What is said of a credential that an agent sent: never the credential itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimedCredential {
    /// `jwt`, or `opaque`.
    pub form: String,
    /// SHA-256 of the token, by which its holder can recognise it. Absent when the token is so short that it could be
    /// guessed from its digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// A JWT's `iss`, `sub`, `aud`, `azp` and `email`, as far as they are texts; nobody has checked its signature.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, String>,
}

/// Greatest length of one claimed text, in bytes; the rest is cut off.
pub const MAX_CLAIM: usize = 256;

impl Claimed {
    pub(super) fn is_empty(&self) -> bool {
        self == &Self::default()
    }
}
