//! What every process of ours needs: telemetry, TLS, an HTTPS client, the admin server, readiness, drain, faults of peers, version.
//!
//! This crate stays small (under 1,500 lines with its tests): something that only one process needs belongs to that process.

pub mod admin;
pub mod client;
pub mod drain;
pub mod faults;
pub mod listen;
pub mod readiness;
pub mod telemetry;
pub mod tls;

/// The version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
