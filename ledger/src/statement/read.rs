//! What the recorder says of those who read.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// `read.search`, `read.follow`, `read.sessions`, `read.entries`, said by the recorder: somebody reads. It is in the log before the
/// reader has the answer. Requests for the same that follow soon are counted, and said in a second entry, the read's last word.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Read {
    /// Who, from a token that the recorder verified: `namespace/service-account`, or `user:NAME`.
    pub reader: String,
    /// The cluster, or the issuer, that vouches for the reader.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// What was asked for, as a query string; at most [`MAX_FILTER`] bytes. For `read.entries` the places that were read:
    /// `entries=3-5,9`.
    pub filter: String,
    /// How many calls, sessions or entries were given, so far.
    pub found: u64,
    /// How many requests that took, so far.
    pub requests: u64,
    /// In a read's last word: index of the entry that began it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<u64>,
}

/// `read.export`, said by the recorder: a reader takes out a bundle. It is in the log before the bundle is whole, and the
/// bundle proves that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadExport {
    /// Who, from a token that the recorder verified: `namespace/service-account`, or `user:NAME`.
    pub reader: String,
    /// The cluster, or the issuer, that vouches for the reader.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// SHA-256 of the bundle's manifest.
    pub manifest: Digest,
    /// What was asked for, as the query string of a search, with `words=*` in place of words; at most [`MAX_FILTER`] bytes. (Earlier
    /// versions entered the words.)
    pub filter: String,
    /// Entries that the bundle holds.
    pub entries: u64,
}

/// Greatest length of a recorded filter, in bytes. The recorder refuses a longer one (`bad_query`).
pub const MAX_FILTER: usize = 8 * 1024;
