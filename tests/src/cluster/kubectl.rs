//! `kubectl` and `helm`, as people run them.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::programs::Programs;
use crate::agent::Finished;
use crate::trouble::{Doing as _, Result, Trouble};

/// No command takes this long; one that does hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// `kubectl` and `helm` with one kubeconfig.
#[derive(Clone, Debug)]
pub struct Kubectl {
    programs: Programs,
    home: PathBuf,
    kubeconfig: PathBuf,
    /// Where it finds plugins, besides the path.
    plugins: Option<PathBuf>,
}

impl Kubectl {
    pub(super) fn new(programs: Programs, home: PathBuf, kubeconfig: PathBuf) -> Self {
        Self { programs, home, kubeconfig, plugins: None }
    }

    /// The same, which also finds the programs in this folder: plugins of kubectl.
    #[must_use]
    pub fn with_programs(self, folder: &Path) -> Self {
        Self { plugins: Some(folder.into()), ..self }
    }

    /// `kubectl ARGUMENTS`
    ///
    /// # Errors
    /// It can't be run, or hangs. That it says no is no error: see [`Finished::success`].
    pub async fn run(&self, arguments: &[&str]) -> Result<Finished> {
        self.program("kubectl", arguments, "").await
    }

    /// `kubectl ARGUMENTS`, with `input` as its standard input: what `-f -` reads.
    ///
    /// # Errors
    /// As [`Kubectl::run`].
    pub async fn feed(&self, arguments: &[&str], input: &str) -> Result<Finished> {
        self.program("kubectl", arguments, input).await
    }

    /// `kubectl ARGUMENTS`, which must succeed: what it printed.
    ///
    /// # Errors
    /// It says no: with what it said.
    pub async fn say(&self, arguments: &[&str]) -> Result<String> {
        must(arguments, self.run(arguments).await?)
    }

    /// `kubectl apply -f -` of a manifest (YAML or JSON), which must succeed: what it printed.
    ///
    /// # Errors
    /// The API server refuses it: with what it said.
    pub async fn apply(&self, manifest: &str) -> Result<String> {
        let arguments = ["apply", "-f", "-"];
        must(&arguments, self.feed(&arguments, manifest).await?)
    }

    /// `kubectl ARGUMENTS -o json`, which must succeed.
    ///
    /// # Errors
    /// It says no, or prints something else.
    pub async fn json(&self, arguments: &[&str]) -> Result<Value> {
        let said = self.say(&[arguments, &["-o", "json"]].concat()).await?;
        serde_json::from_str(&said).doing(format!("reading what kubectl {arguments:?} printed"))
    }

    /// `helm ARGUMENTS`
    ///
    /// # Errors
    /// As [`Kubectl::run`].
    pub async fn helm(&self, arguments: &[&str]) -> Result<Finished> {
        self.program("helm", arguments, "").await
    }

    async fn program(&self, name: &str, arguments: &[&str], input: &str) -> Result<Finished> {
        let mut command = Command::new(self.programs.path(name));
        command.args(arguments).current_dir(&self.home).env_clear();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let all = self.plugins.iter().cloned().chain(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(all).doing("making a path")?);
        command.env("HOME", &self.home).env("KUBECONFIG", &self.kubeconfig);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let start = Instant::now();
        let running = async {
            let mut child = command.spawn()?;
            let mut stdin = child.stdin.take().expect("it was piped");
            // One that doesn't read its input has ended, and says why.
            let _read = stdin.write_all(input.as_bytes()).await.is_ok();
            drop(stdin);
            child.wait_with_output().await
        };
        let said = || format!("{name} {arguments:?}");
        let output = tokio::time::timeout(LIMIT, running).await;
        let output = output.map_err(|_| Trouble::new(format!("{} did not end within {LIMIT:?}", said())))?;
        Ok(Finished::new(output.doing(said())?, start.elapsed()))
    }
}

fn must(arguments: &[&str], finished: Finished) -> Result<String> {
    if finished.success() {
        return Ok(finished.stdout);
    }
    Err(Trouble::new(format!("kubectl {arguments:?}: {}", finished.said())))
}
