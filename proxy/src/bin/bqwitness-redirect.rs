//! Leads a pod's connections to its sidecar, verifies that, and ends.

use std::process::ExitCode;

use bqwitness_proxy::redirect::{self, Ports};
use clap::Parser;
use runtime::telemetry;

/// Sets the rules that lead a pod's connections to TCP 80 and 443 to its sidecar, verifies them, and ends. Needs NET_ADMIN.
#[derive(Debug, Parser)]
#[command(name = "bqwitness-redirect", version, max_term_width = 100)]
struct Flags {
    /// The user that the sidecar alone runs as: its own connections are left alone
    #[arg(long, env = "BQWITNESS_PROXY_UID", value_name = "UID", value_parser = clap::value_parser!(u32).range(1..))]
    proxy_uid: u32,
    /// The sidecar's port for redirected connections, on loopback
    #[arg(long, env = "BQWITNESS_REDIRECT_PORT", default_value_t = 15001, value_name = "PORT")]
    port: u16,
    /// How lines are logged: text or json
    #[arg(long, env = "BQWITNESS_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    log_format: String,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    telemetry::init("info", flags.log_format.parse().unwrap_or_default());
    match redirect::install(Ports { proxy_uid: flags.proxy_uid, redirect: flags.port }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(category = error.category(), "{error}");
            ExitCode::FAILURE
        }
    }
}
