//! What the operator enters in the record, in a session of its own: which specs of connections were accepted, on whose word, that
//! connections were deleted, and whether selected pods are under recording.
//!
//! [`acceptance`] (pure) says what a stored connection is worth an entry for; [`diary`] has what is to be said, in order, and knows what was
//! said already; [`speaker`] says it. [`probes`] looks at the recorders that connections name themselves.
//!
//! Each is entered once: when an operator begins to lead, it asks the recorder what is in the log of it. The record is its memory, and
//! not a field of the connection's status: a status can be lost, changed by others, or be behind by the one entry before a crash; and
//! a new log has to have everything again.

pub mod acceptance;
pub mod diary;
pub mod probes;
pub mod speaker;
