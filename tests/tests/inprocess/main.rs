//! The sidecar and the recorder in one process, with a TLS upstream of ours for BigQuery: what holds between them.
#![allow(clippy::unwrap_used, clippy::panic)]

mod authority;
mod commandline;
mod evidence;
mod formats;
mod grpc;
mod keyless;
mod keyless_stand;
mod keys;
mod named;
mod promises;
mod replay;
mod rollback;
mod sample;
mod stand;
mod tail;
mod witness;
