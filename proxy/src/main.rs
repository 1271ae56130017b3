//! Entry point: settings, logger, and the wait for the end.

use std::num::NonZero;
use std::process::ExitCode;

use bqwitness_proxy::app::{self, Running};
use bqwitness_proxy::config::Flags;
use clap::Parser as _;
use runtime::drain::shutdown_signal;
use runtime::telemetry;
use tokio::runtime::{Builder, Runtime};

/// Settings that can't be used; what the command-line parser itself ends with.
const EXIT_USAGE: u8 = 2;

/// Threads that calls are handled on: as many as the pod may use processors, and at most these. A sidecar on a node with 64 processors
/// would have 64 otherwise, and each wakes others. More calls at a time then share these.
const MOST_THREADS: usize = 4;

fn main() -> ExitCode {
    let flags = Flags::parse();
    match threads() {
        Ok(threads) => threads.block_on(serve(flags)),
        Err(error) => {
            telemetry::init(&flags.log_level, flags.log_format.parse().unwrap_or_default());
            tracing::error!(
                "can't start threads: {error}. Raise the limit of processes (RLIMIT_NPROC, pids.max)"
            );
            ExitCode::FAILURE
        }
    }
}

/// One processor needs no threads beside the first, and no hand-over between them.
fn threads() -> std::io::Result<Runtime> {
    let most = std::thread::available_parallelism().map_or(1, NonZero::get).min(MOST_THREADS);
    let mut builder = if most == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    builder.worker_threads(most).enable_all().build()
}

async fn serve(flags: Flags) -> ExitCode {
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

async fn run(running: Running) -> ExitCode {
    tokio::select! {
        signal = shutdown_signal() => match signal {
            Ok(signal) => {
                tracing::info!(signal, "stopping");
                end(running.stop("shutdown").await)
            }
            Err(error) => {
                tracing::error!("no signals can be received: {error}");
                ExitCode::FAILURE
            }
        },
        error = running.over() => {
            tracing::error!(category = error.category(), "the session is over: {error}; the next start begins a new one");
            running.stop("session_over").await;
            ExitCode::FAILURE
        }
    }
}

fn end(delivered: bool) -> ExitCode {
    if delivered {
        tracing::info!("stopped; the recorder has the whole session");
    } else {
        tracing::warn!("stopped before the recorder had the whole session; it will close it as lost");
    }
    ExitCode::SUCCESS
}
