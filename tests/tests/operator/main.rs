//! The operator with a real API server. All tests share one control plane, one after the other: there is one operator in a cluster.
#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub)]

mod entries;
mod faults;
mod injection;
mod rotation;
mod stand;
