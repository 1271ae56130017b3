//! Kinds that this version writes. The list may grow; readers keep and ignore kinds that they don't know.

/// First statement of a session.
pub const SESSION_START: &str = "session.start";
/// The session is alive; says what could not be recorded since the last one.
pub const SESSION_HEARTBEAT: &str = "session.heartbeat";
/// Last statement of a session that ended in order.
pub const SESSION_END: &str = "session.end";
/// The recorder heard nothing for too long and closed the session.
pub const SESSION_LOST: &str = "session.lost";
/// A call that is about to leave, or is refused.
pub const CALL_INTENT: &str = "call.intent";
/// How far an open call has come.
pub const CALL_PROGRESS: &str = "call.progress";
/// How a call ended.
pub const CALL_OUTCOME: &str = "call.outcome";
/// (operator) A generation of a connection is stored.
pub const CONNECTION_ACCEPTED: &str = "connection.accepted";
/// (operator) A connection is gone.
pub const CONNECTION_DELETED: &str = "connection.deleted";
/// (operator) Whether a selected pod is under recording.
pub const COVERAGE_POD: &str = "coverage.pod";
/// The recorder started, with what it found.
pub const LOG_START: &str = "log.start";
/// The recorder stopped in order.
pub const LOG_STOP: &str = "log.stop";
/// Statements of a session are missing.
pub const LOG_HOLE: &str = "log.hole";
/// The log's keys were changed.
pub const LOG_KEY: &str = "log.key";
/// A blob was deleted, for good.
pub const LOG_DELETED: &str = "log.deleted";
/// Somebody looked for calls.
pub const READ_SEARCH: &str = "read.search";
/// Somebody followed new calls.
pub const READ_FOLLOW: &str = "read.follow";
/// Somebody looked for sessions.
pub const READ_SESSIONS: &str = "read.sessions";
/// Somebody looked for what operators entered.
pub const READ_OPERATORS: &str = "read.operators";
/// Somebody read entries, and perhaps their blobs.
pub const READ_ENTRIES: &str = "read.entries";
/// Somebody took evidence out, as a bundle.
pub const READ_EXPORT: &str = "read.export";
