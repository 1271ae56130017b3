//! The sidecar and the recorder in one process, with a TLS upstream of ours for BigQuery: what holds between them.
#![allow(clippy::unwrap_used, clippy::panic)]

mod evidence;
mod formats;
mod keyless;
mod promises;
mod replay;
mod rollback;
mod stand;
mod witness;
