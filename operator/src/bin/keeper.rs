//! Entry point of the keeper: settings, logger, and the wait for the end.

use std::process::ExitCode;

use bqwitness_operator::recorder;
use bqwitness_operator::recorder::config::Flags;
use clap::Parser as _;
use runtime::drain::shutdown_signal;
use runtime::telemetry;

/// Settings that can't be used; what the command-line parser itself ends with.
const EXIT_USAGE: u8 = 2;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    telemetry::init(&flags.log_level, flags.log_format.parse().unwrap_or_default());
    let config = match flags.validate() {
        Ok(config) => config,
        Err(mistakes) => {
            tracing::error!("{mistakes}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    tokio::select! {
        ended = recorder::run(config) => {
            if let Err(error) = ended {
                tracing::error!(category = error.category(), "{error}");
            }
            ExitCode::FAILURE
        }
        signal = shutdown_signal() => match signal {
            Ok(signal) => {
                tracing::info!(signal, "stopping");
                ExitCode::SUCCESS
            }
            Err(error) => {
                tracing::error!("no signals can be received: {error}");
                ExitCode::FAILURE
            }
        },
    }
}
