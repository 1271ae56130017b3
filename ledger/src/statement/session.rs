//! What a session says of itself, and the recorder of a session that fell silent.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::digest::Digest;

/// `session.start`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionStart {
    /// Version of the speaker's program.
    pub version: String,
    /// SHA-256 of the configuration in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_digest: Option<Digest>,
    /// The kernel's boot id, which tells two starts on one machine from a reboot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
    /// The recorder closes the session when it hears nothing for three of these, in seconds.
    pub heartbeat_seconds: u64,
    /// The session that the same process had before, when the recorder takes nothing more for that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<PreviousSession>,
}

/// A session that was over before its process was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PreviousSession {
    /// Its id.
    #[serde(deserialize_with = "crate::spelling::uuid")]
    pub session: Uuid,
    /// Why it was over, as the recorder said it: `session_closed` after a `session.lost`, `recorder_refused`.
    pub reason: String,
}

/// `session.heartbeat`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Heartbeat {
    /// Calls forwarded and refused since the session's start.
    pub calls: u64,
    /// Calls refused since the session's start for which there was no room to record an intent.
    pub refused_unrecorded: u64,
}

/// `session.end`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionEnd {
    /// Why: `shutdown`.
    pub reason: String,
    /// Calls forwarded and refused since the session's start.
    pub calls: u64,
    /// Calls refused since the session's start for which there was no room to record an intent.
    pub refused_unrecorded: u64,
}

/// `session.lost`, said by the recorder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionLost {
    /// The session that fell silent.
    #[serde(deserialize_with = "crate::spelling::uuid")]
    pub session: Uuid,
    /// The last `seq` heard.
    pub last_seq: u64,
    /// `seq` of each intent without an outcome, ascending; at most [`MAX_OPEN_NAMED`].
    pub open_intents: Vec<u64>,
    /// How many intents were open.
    pub open: u64,
}

/// How many open intents `session.lost` names; `open` counts them all.
pub const MAX_OPEN_NAMED: usize = 1024;
