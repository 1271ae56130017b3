//! Entry point: settings, logger, and the wait for the end.

use std::process::ExitCode;

use bqwitness_operator::app::{self, Running};
use bqwitness_operator::config::Flags;
use clap::Parser as _;
use runtime::drain::shutdown_signal;
use runtime::telemetry;

/// Settings that can't be used; what the command-line parser itself ends with.
const EXIT_USAGE: u8 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    telemetry::init(&flags.log_level, flags.log_format.parse().unwrap_or_default());
    tracing::info!(version = runtime::VERSION, settings = ?flags, "starting");
    let config = match flags.validate() {
        Ok(config) => config,
        Err(mistakes) => {
            tracing::error!("{mistakes}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match app::start(config).await {
        Ok(running) => run(running).await,
        Err(error) => {
            tracing::error!("can't start: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(mut running: Running) -> ExitCode {
    tokio::select! {
        signal = shutdown_signal() => match signal {
            Ok(signal) => {
                tracing::info!(signal, "stopping");
                running.stop().await;
                ExitCode::SUCCESS
            }
            Err(error) => {
                tracing::error!("no signals can be received: {error}");
                ExitCode::FAILURE
            }
        },
        () = running.lost() => {
            tracing::error!("another replica leads; this one begins anew");
            ExitCode::FAILURE
        }
    }
}
