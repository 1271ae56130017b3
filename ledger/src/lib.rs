//! The formats of the record: entries, Merkle tree, checkpoints, receipts, proofs, and the one verifier.
//!
//! Everything here is pure: bytes in, bytes or a typed error out. `docs/format.md` is the same text for people who
//! write another implementation.
//!
//! | module | says |
//! |---|---|
//! | [`digest`] | SHA-256 values and how they are written in JSON |
//! | [`statement`] | what a speaker says: the part of an entry that is kept verbatim |
//! | [`call`] | what a statement says about a BigQuery call: intent and outcome |
//! | [`operator`] | what a statement says about a connection, and about a pod's coverage |
//! | [`canonical`] | JSON in one form, for digests |
//! | [`entry`] | a leaf: the recorder's envelope around a statement |
//! | [`blob`] | texts and bodies that a leaf only names, by a salted digest |
//! | [`deletions`] | which blobs that are not there were deleted in order |
//! | [`strict`] | JSON that every reader reads alike |
//! | [`batch`] | how statements and blobs travel to the recorder together |
//! | [`tree`], [`tile`], [`proof`] | RFC 6962 hashing in the tlog-tiles layout |
//! | [`tlog_proof`] | one entry's proof as a file |
//! | [`key`], [`log_keys`] | keys of logs and witnesses, and how a log's key is changed |
//! | [`note`], [`checkpoint`], [`receipt`] | signed notes and the two texts that the log signs |
//! | [`cosignature`], [`policy`] | what witnesses sign, and whose cosignatures are enough |
//! | [`search`] | what is asked of the recorder's index, and its answer |
//! | [`coverage`] | when each pod was under recording, and why it was not |
//! | [`authority`] | under which generation of a connection calls ran, and who asked for that |
//! | [`verify`] | the one verifier of a whole log |
//! | [`witness`] | what a witness decides |
//! | [`bundle`] | a part of a log that proves itself: its file, its writer, its verifier |

pub mod authority;
pub mod batch;
pub mod blob;
pub mod bundle;
pub mod call;
pub mod canonical;
pub mod checkpoint;
pub mod cosignature;
pub mod coverage;
pub mod deletions;
pub mod digest;
pub mod entry;
pub mod key;
pub mod log_keys;
pub mod note;
pub mod operator;
pub mod policy;
pub mod proof;
pub mod receipt;
pub mod search;
mod spelling;
pub mod statement;
pub mod strict;
pub mod tile;
pub mod tlog_proof;
pub mod tree;
pub mod verify;
pub mod witness;
