//! The command line as it ships, in an auditor's hands.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use super::{AUDIENCE, Recorder, program};
use crate::agent::Finished;
use crate::identity::{Cluster, Pod};
use crate::trouble::{Doing as _, Result};

/// Somebody with the command line and a token.
#[derive(Clone, Debug)]
pub struct Auditor {
    recorder: String,
    recorder_ca: PathBuf,
    token: PathBuf,
    folder: PathBuf,
}

impl Auditor {
    /// The one whom `recorder` was told to answer.
    ///
    /// # Errors
    /// The token can't be written.
    pub fn new(folder: &Path, reader: &Pod, cluster: &Cluster, recorder: &Recorder) -> Result<Self> {
        let token = folder.join("auditor.token");
        cluster.write_token(reader, AUDIENCE, &token)?;
        Ok(Self { recorder: recorder.url(), recorder_ca: recorder.place().ca, token, folder: folder.into() })
    }

    /// The same with a token of a real cluster's.
    ///
    /// # Errors
    /// The token can't be written.
    pub fn with_token(folder: &Path, token: &str, recorder: &Recorder) -> Result<Self> {
        let file = folder.join("auditor.token");
        std::fs::write(&file, token).doing("writing the auditor's token")?;
        let (recorder, recorder_ca) = (recorder.url(), recorder.place().ca);
        Ok(Self { recorder, recorder_ca, token: file, folder: folder.into() })
    }

    /// Runs `bqwitness` with these arguments, in the stand's folder; who asks whom is in its environment.
    ///
    /// # Errors
    /// It can't be run. That it says no is no error: see [`Finished::code`].
    pub async fn bqwitness(&self, arguments: &[&str]) -> Result<Finished> {
        self.run(arguments, false).await
    }

    /// The same on this terminal, with its width and colours; what it printed is not in the result.
    ///
    /// # Errors
    /// As [`Auditor::bqwitness`].
    pub async fn bqwitness_on_terminal(&self, arguments: &[&str]) -> Result<Finished> {
        self.run(arguments, true).await
    }

    async fn run(&self, arguments: &[&str], on_terminal: bool) -> Result<Finished> {
        let mut command = tokio::process::Command::new(program("bqwitness")?);
        command.args(arguments).current_dir(&self.folder).env("BQWITNESS_RECORDER", &self.recorder);
        command.env("BQWITNESS_RECORDER_CA", &self.recorder_ca).env("BQWITNESS_TOKEN_FILE", &self.token);
        let start = Instant::now();
        let (stdout, stderr) = match on_terminal {
            true => (Stdio::inherit(), Stdio::inherit()),
            false => (Stdio::piped(), Stdio::piped()),
        };
        let child = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).kill_on_drop(true).spawn();
        let output = child.doing("running bqwitness")?.wait_with_output().await.doing("running bqwitness")?;
        Ok(Finished::new(output, start.elapsed()))
    }
}
