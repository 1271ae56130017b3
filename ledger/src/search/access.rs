//! What a reader may read: the answer of `GET /v1/access`.

use serde::{Deserialize, Serialize};

/// Who asks, and what that reader may read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    /// As entries name the reader: `namespace/service-account`, or `user:NAME`.
    pub reader: String,
    /// The cluster, or the issuer, that vouches for the reader.
    pub cluster: String,
    /// All of the log, the recorder's own entries included.
    pub everything: bool,
    /// Otherwise: of which clusters what.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<Readable>,
}

/// What is readable of one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Readable {
    /// Its name, as entries have it.
    pub cluster: String,
    /// These namespaces; all of them when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<String>>,
}
