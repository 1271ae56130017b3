//! The proxy in process: the real application between real clients, a TLS upstream of ours and a recorder that speaks the
//! batch protocol.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::panic)]

mod bad_heads;
mod bounds;
mod calls;
mod connections;
mod faults;
mod http2_faults;
mod jobs;
mod refusals;
mod stand;
mod streams;
mod unchanged;
