//! Entry point: settings, signals, exit code. 0: stopped in order; 1: could not start or go on; 2: bad settings.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "settings are shown before there is a logger")]

use std::process::ExitCode;

use bqwitness_recorder::app::{App, AppError};
use bqwitness_recorder::commands::{self, Commands};
use bqwitness_recorder::config::{Args, Config};
use bqwitness_recorder::config_file;
use clap::Parser as _;

/// What the recorder writes is for its own user alone: entries, blobs and index hold what agents asked. Its API is the way to
/// read them, and `log.vkey` is handed out, not read there.
const UMASK: u32 = 0o077;

fn main() -> ExitCode {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(UMASK));
    if commands::are_asked(std::env::args_os()) {
        return Commands::parse().run();
    }
    let config = match settings() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    if config.print_config {
        print!("{}", config.describe());
        return ExitCode::SUCCESS;
    }
    runtime::telemetry::init(&config.log_level, config.log_format);
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(category = error.category(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn settings() -> Result<Config, Box<dyn std::error::Error>> {
    let arguments =
        config_file::expand(std::env::args_os().collect(), |name| std::env::var_os(name), Args::knows)?;
    Ok(Args::parse_from(arguments).check()?)
}

fn run(config: Config) -> Result<(), AppError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let app = App::start(config).await?;
        app.run(async {
            match runtime::drain::shutdown_signal().await {
                Ok(signal) => tracing::info!(signal, "stopping"),
                Err(error) => tracing::error!(%error, "no signal handlers; stopping"),
            }
        })
        .await
    })
}
