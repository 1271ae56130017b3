//! Exports: the question and the answer of `POST /v1/exports`.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Somebody is about to take out a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Announcement {
    /// SHA-256 of the bundle's manifest.
    pub manifest: Digest,
    /// What was asked for, as the query string of a search: at most [`crate::statement::MAX_FILTER`] bytes. Words in it are not entered:
    /// the manifest has them, and the entry its digest.
    pub filter: String,
    /// Entries that the bundle holds.
    pub entries: u64,
    /// The one namespace that the bundle was limited to; absent: all that the reader may read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// The log has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entered {
    /// Index of the `read.export` entry, which is durable.
    pub index: u64,
}
