//! What can be typed after `replay`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use jiff::{SignedDuration, Timestamp};

use super::ReaderArgs;
use super::time::parse_time;
use crate::replay::{How, Wanted};

const REPLAY_HELP: &str = "\
Examples:
  bqwitness replay 0199a6c5-7c3e-7c1e-9a52-2f3a51d1a9c0 --successors
  bqwitness replay --pod billing-7d4b9c6f5-x2x9k --since 24h --run-label nightly
  bqwitness replay march.bqw --key log.vkey --agent agents/billing";

#[derive(Clone, Debug, Args)]
#[command(after_help = REPLAY_HELP)]
pub(crate) struct ReplayArgs {
    /// A session's id, as `sessions` shows it; or an evidence bundle (`-` is standard input), which is verified and needs no
    /// recorder.
    #[arg(value_name = "SESSION|FILE.bqw", required_unless_present_any = ["agent", "pod", "connection"])]
    pub(crate) what: Option<String>,
    #[command(flatten)]
    pub(crate) reader: ReaderArgs,
    /// For a bundle: the log's verifier key, a .vkey file or the key itself.
    #[arg(long, env = "BQWITNESS_KEY", value_name = "VKEY")]
    pub(crate) key: Option<String>,
    /// For a bundle: demand the cosignatures that this policy wants.
    #[arg(long, env = "BQWITNESS_POLICY", value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// All sessions of this agent: NAMESPACE/SERVICEACCOUNT, or NAMESPACE/ for all of a namespace.
    #[arg(long, value_name = "NS/SA")]
    agent: Option<String>,
    /// All sessions of the pods of this name, across restarts of their sidecars.
    #[arg(long)]
    pod: Option<String>,
    /// All sessions of this connection: NAMESPACE/NAME.
    #[arg(long, value_name = "NS/NAME")]
    connection: Option<String>,
    /// Only calls of this time or later: 2026-11-22 or 2026-11-22T10:00:00Z (UTC), or an age such as 24h or 7d.
    #[arg(long, value_parser = parse_time, value_name = "TIME")]
    pub(super) since: Option<Timestamp>,
    /// Only calls before this time.
    #[arg(long, value_parser = parse_time, value_name = "TIME")]
    pub(super) until: Option<Timestamp>,
    /// With a session: also those that followed it in its pod, when the sidecar was restarted.
    #[arg(long)]
    successors: bool,
    /// What makes a run: what the agent claims, or only pauses.
    #[arg(long, value_enum, default_value_t = RunsArg::Label)]
    runs: RunsArg,
    /// The job label whose value names a run.
    #[arg(long, env = "BQWITNESS_RUN_LABEL", default_value = "bqwitness-run", value_name = "LABEL")]
    run_label: String,
    /// A pause of this length ends a run that nobody named: 90s, 15m, 2h.
    #[arg(long, env = "BQWITNESS_RUN_IDLE", default_value = "15m", value_parser = parse_pause, value_name = "TIME")]
    idle: SignedDuration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RunsArg {
    /// A label of its jobs, with all calls of those jobs and of their traces; else pauses.
    Label,
    /// The same, and else the trace of its requests.
    Trace,
    /// Pauses only.
    Idle,
}

impl ReplayArgs {
    pub(crate) fn wanted(&self) -> Wanted {
        Wanted {
            session: self.what.as_deref().and_then(|what| what.parse().ok()),
            successors: self.successors,
            agent: self.agent.clone(),
            pod: self.pod.clone(),
            connection: self.connection.clone(),
            since: self.since,
            until: self.until,
        }
    }

    pub(crate) fn how(&self) -> How {
        How {
            label: (self.runs != RunsArg::Idle).then(|| self.run_label.clone()),
            traces: self.runs == RunsArg::Trace,
            idle: self.idle,
        }
    }
}

fn parse_pause(text: &str) -> Result<SignedDuration, String> {
    let pause: Option<SignedDuration> = text.parse().ok();
    let pause = pause.filter(|pause| pause.is_positive());
    pause.ok_or_else(|| format!("{text:?} is not a length of time, like 15m"))
}
