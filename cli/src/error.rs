//! Why a command could not do what was asked.

use std::io;
use std::path::PathBuf;

use ledger::bundle::BadBundle;
use ledger::checkpoint::BadCheckpoint;
use ledger::tlog_proof::BadTlogProof;
use ledger::verify::VerifyError;
use uuid::Uuid;

#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error("{path}: {error}")]
    File { path: PathBuf, error: io::Error },
    #[error("{0}")]
    Output(#[from] io::Error),
    #[error("{text:?} is not an https:// URL of a recorder")]
    Url { text: String },
    #[error(transparent)]
    Tls(#[from] runtime::tls::TlsError),
    #[error("the recorder can't be reached: {0}")]
    Unreachable(#[from] runtime::client::ClientError),
    #[error("the recorder refused: {message} ({reason}, HTTP {status})")]
    Refused { status: u16, reason: String, message: String },
    #[error("what is asked for was deleted, as entry {entry} of the log says")]
    Deleted { entry: u64 },
    #[error("the recorder's answer can't be read: {0}")]
    Answer(String),
    #[error("{text:?} is neither a verifier key nor a file with one: {reason}")]
    Key { text: String, reason: String },
    #[error("--token-file is needed to read entries from a recorder")]
    NoToken,
    #[error("the kubeconfig can't be used: {0}")]
    Kubeconfig(String),
    #[error("no token: {0}")]
    Token(String),
    #[error(
        "the cluster does not say where its recorder is: ConfigMap {config_map}: {error}. Name the chart's namespace with \
         --system-namespace, or the recorder with --recorder"
    )]
    NotPublished { config_map: String, error: String },
    #[error(
        "no way to the recorder through the API server (pod {pod}): {error}. Another way: --recorder URL"
    )]
    Forward { pod: String, error: String },
    #[error("this log has {size} entries; there is no entry {index}")]
    NoEntry { index: u64, size: u64 },
    #[error("entry {index} is not one that you may read")]
    NotReadable { index: u64 },
    #[error(
        "only who reads everything can export all of a time. {}",
        if .namespaces.is_empty() { "You may read no namespace: ask the cluster's operator".to_owned() }
        else { format!("You may read {}: name one with --namespace", .namespaces.join(", ")) }
    )]
    NotEverything { namespaces: Vec<String> },
    #[error("there is no session {session} in the log's first {size} entries")]
    NoSession { session: Uuid, size: u64 },
    #[error("no session fits what was asked for")]
    NothingFound,
    #[error("that is {found} {what}, and a replay tells at most {most}: narrow it, by --since and --until")]
    TooMuch { what: &'static str, found: u64, most: u64 },
    #[error("--key is needed: the log's verifier key, or a file with it")]
    NoKey,
    #[error("{0} things in the bundle do not hold, so it is not told: see bqwitness verify")]
    Unsound(u64),
    #[error("{0}")]
    Checkpoint(#[from] BadCheckpoint),
    #[error("{0}")]
    Proof(#[from] BadTlogProof),
    #[error(
        "the log had {before} entries and has {now} now: the recorder was brought back from an older copy. What was recorded \
         since then is not in it"
    )]
    RolledBack { before: u64, now: u64 },
    #[error(
        "the log's first {before} entries are others now: the recorder was brought back from an older copy, or its log was \
         changed ({why})"
    )]
    Forked { before: u64, why: String },
    #[error("{0}")]
    Verify(#[from] VerifyError),
    #[error("{0}")]
    Bundle(#[from] BadBundle),
    #[error("{0}")]
    CantWrite(String),
    #[error("what was exported does not verify, and was not kept: {0}")]
    Unverified(String),
    #[error("the recorder's index covers {covered} of {size} entries: try again in a moment")]
    Behind { covered: u64, size: u64 },
    #[error("no checkpoint of the recorder covers the export within {} seconds", .0.as_secs())]
    NoCheckpoint(std::time::Duration),
    #[error("entry {index} can't be read: {message}")]
    Entry { index: u64, message: String },
    #[error("{path}: not YAML of Kubernetes: {message}")]
    Manifest { path: PathBuf, message: String },
    #[error("{path} has {found} BigQueryConnections; exactly one is put in: name its file with --connection")]
    Connection { path: PathBuf, found: usize },
}

impl CliError {
    /// 1 when evidence does not hold, 2 when the command could not run.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Checkpoint(_)
            | Self::Proof(_)
            | Self::RolledBack { .. }
            | Self::Forked { .. }
            | Self::Verify(VerifyError::Checkpoint(_))
            | Self::Unverified(_)
            | Self::Unsound(_)
            | Self::Entry { .. } => 1,
            Self::Bundle(error) if error.is_finding() => 1,
            _ => 2,
        }
    }

    /// The same question may be answered later, without anyone doing anything: the recorder restarts, or is busy.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused { status, .. } => matches!(status, 429 | 500..=599),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass() {
        let refused =
            |status| CliError::Refused { status, reason: "some".into(), message: "some".into() }.may_pass();
        for status in [429, 500, 502, 503, 504] {
            assert!(refused(status), "{status}");
        }
        for status in [400, 401, 403, 404, 410] {
            assert!(!refused(status), "{status}");
        }
        assert!(CliError::Unreachable(runtime::client::ClientError::Unreachable("gone".into())).may_pass());
        assert!(!CliError::NoToken.may_pass());
        assert!(!CliError::Answer("not JSON".into()).may_pass());
    }
}
