//! What the recorder says of its log, and what people ordered.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::digest::Digest;

/// `log.start`, `log.stop`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogEvent {
    /// True in `log.stop`.
    pub stopping: bool,
    /// Version of the recorder.
    pub version: String,
    /// Size of the log before this entry.
    pub size: u64,
    /// True when the last run did not end in order.
    #[serde(default)]
    pub recovered: bool,
    /// Bytes of an unacknowledged, torn record that recovery cut off.
    #[serde(default)]
    pub torn_bytes: u64,
}

/// `log.hole`, said by the recorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hole {
    /// The session that has the hole.
    #[serde(deserialize_with = "crate::spelling::uuid")]
    pub session: Uuid,
    /// First `seq` missing.
    pub from: u64,
    /// Last `seq` missing.
    pub to: u64,
}

/// `log.key`, said by the recorder: the keys that it signs with were changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyChange {
    /// Who ordered it, in their own words: nobody has verified it.
    pub by: String,
    /// Why, in their own words.
    pub reason: String,
    /// The key that came, as a vkey.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added: Option<String>,
    /// The key that went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired: Option<String>,
    /// The note that says the keys from now on: [`crate::log_keys`].
    pub note: String,
}

/// `log.deleted`, said by the recorder before it deletes: salt and content of a blob are gone for good. What named it
/// stays, with its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlobDeleted {
    /// The blob.
    pub digest: Digest,
    /// Who ordered it, in their own words: nobody has verified it.
    pub by: String,
    /// Why, in their own words.
    pub reason: String,
    /// Indexes of the entries that name it, ascending; at most [`MAX_NAMED_BY`].
    pub entries: Vec<u64>,
    /// How many entries name it.
    pub named: u64,
}

/// How many entries `log.deleted` lists; `named` counts them all.
pub const MAX_NAMED_BY: usize = 1024;

/// Greatest length of `by` and of `reason` in what a person ordered, in bytes. An order with a longer one is refused.
pub const MAX_ORDER_TEXT: usize = 512;
