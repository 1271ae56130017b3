//! Our own programs as child processes: recorder, sidecar, command line.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::agent::Finished;
use crate::ca::{Leaf, TestCa};
use crate::identity::{Cluster, Pod};
use crate::process::Process;
use crate::trouble::{Doing as _, Result, Trouble};

/// The audience that recorder tokens are for.
pub const AUDIENCE: &str = "bqwitness-recorder";

/// The log's name.
pub const ORIGIN: &str = "example.com/demo";

/// The recorder's name for the cluster whose tokens it takes.
pub const CLUSTER: &str = "demo";

/// How long a program may take until it is ready; measured in tenths of a second.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// Where the programs were built: beside the one that runs now, or beside the tests' folder `deps`.
///
/// # Errors
/// There is no such program: says how to build it.
pub fn program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().doing("finding the running program")?;
    let folders = own.ancestors().skip(1).take(2);
    let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| Trouble::new(format!("{name} is not built; run `cargo build --workspace --bins`")))
}

/// What our programs write to their port file.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Ports {
    /// Where they serve.
    pub listen: SocketAddr,
    /// Where they serve metrics and readiness.
    pub admin: SocketAddr,
}

/// One of our programs, to be started by another that comes before it (`taskset -c 0`), or by nobody.
///
/// # Errors
/// As [`program`].
fn command(name: &str, under: &[&str]) -> Result<Command> {
    let program = program(name)?;
    let Some((first, rest)) = under.split_first() else { return Ok(Command::new(program)) };
    let mut command = Command::new(first);
    command.args(rest).arg(program);
    Ok(command)
}

/// What a sidecar is told of its recorder.
#[derive(Clone, Debug)]
pub struct RecorderAt {
    /// `https://127.0.0.1:port`
    pub url: String,
    /// The authority of its certificate (PEM).
    pub ca: PathBuf,
    /// The log's key.
    pub key: PathBuf,
}

/// A running recorder.
#[derive(Debug)]
pub struct Recorder {
    process: Process,
    ports: Ports,
    ca: PathBuf,
    data: PathBuf,
}

impl Recorder {
    /// Starts one with an empty log in `folder/recorder`. It takes tokens of `cluster`, and answers the questions of
    /// `reader`.
    ///
    /// # Errors
    /// It doesn't get ready.
    pub async fn start(folder: &Path, ca: &TestCa, cluster: &Cluster, reader: &Pod) -> Result<Self> {
        Self::start_under(&[], folder, ca, cluster, reader).await
    }

    /// The same, under another program (`taskset -c 0`).
    ///
    /// # Errors
    /// It doesn't get ready.
    pub async fn start_under(
        under: &[&str],
        folder: &Path,
        ca: &TestCa,
        cluster: &Cluster,
        reader: &Pod,
    ) -> Result<Self> {
        let (data, jwks) = (folder.join("recorder"), folder.join("jwks.json"));
        cluster.write_jwks(&jwks)?;
        let Leaf { certificate, key } = ca.leaf(&["127.0.0.1"])?;
        let port_file = folder.join("recorder.ports");
        let mut command = command("bqwitness-recorder", under)?;
        command.arg("--data").arg(&data).args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.args(["--origin", ORIGIN, "--cluster", CLUSTER, "--audience", AUDIENCE]);
        command.arg("--tls-cert").arg(&certificate).arg("--tls-key").arg(&key);
        command.arg("--issuer").arg(cluster.issuer()).arg("--jwks").arg(&jwks);
        command.arg("--reader").arg(reader.agent()).arg("--port-file").arg(&port_file);
        let mut process = Process::start("recorder", &mut command, folder)?;
        let ports = ready(&mut process, &port_file).await?;
        Ok(Self { process, ports, ca: ca.path(), data })
    }

    /// `https://127.0.0.1:port`
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.ports.listen)
    }

    /// Where it serves, and where its metrics are.
    #[must_use]
    pub fn ports(&self) -> Ports {
        self.ports
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What a sidecar must know to reach it.
    #[must_use]
    pub fn place(&self) -> RecorderAt {
        RecorderAt { url: self.url(), ca: self.ca.clone(), key: self.key() }
    }

    /// Where its log lies.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The log's key, as auditors and sidecars are given it.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.data.join("log.vkey")
    }

    /// Stops it in order.
    ///
    /// # Errors
    /// It doesn't stop, or not with exit code 0.
    pub async fn stop(self) -> Result<()> {
        let status = self.process.stop().await?;
        if status.success() { Ok(()) } else { Err(Trouble::new(format!("the recorder ended with {status}"))) }
    }
}

/// A running sidecar: the proxy of one pod.
#[derive(Debug)]
pub struct Sidecar {
    process: Process,
    ports: Ports,
    bundle: PathBuf,
}

impl Sidecar {
    /// Starts one for `pod`, in front of the "BigQuery" at `front`, which `google` vouches for. A call is refused when its
    /// intent is not durable after `patience`, in whole seconds.
    ///
    /// # Errors
    /// It doesn't get ready.
    pub async fn start(
        folder: &Path,
        pod: &Pod,
        cluster: &Cluster,
        recorder: &Recorder,
        upstream: (SocketAddr, &TestCa),
        patience: Duration,
    ) -> Result<Self> {
        Self::start_under(&[], folder, pod, cluster, &recorder.place(), upstream, patience).await
    }

    /// The same, under another program (`taskset -c 0`), and with any recorder.
    ///
    /// # Errors
    /// It doesn't get ready.
    pub async fn start_under(
        under: &[&str],
        folder: &Path,
        pod: &Pod,
        cluster: &Cluster,
        recorder: &RecorderAt,
        (front, google): (SocketAddr, &TestCa),
        patience: Duration,
    ) -> Result<Self> {
        let name = format!("proxy-{}", pod.name);
        let own = folder.join(&name);
        std::fs::create_dir_all(&own).doing(format!("making {}", own.display()))?;
        let (token, bundle, port_file) = (own.join("token"), own.join("bundle.pem"), own.join("ports"));
        cluster.write_token(pod, AUDIENCE, &token)?;
        let mut command = command("bqwitness-proxy", under)?;
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.args(["--recorder", &recorder.url]).arg("--recorder-ca").arg(&recorder.ca);
        command.arg("--recorder-key").arg(&recorder.key).arg("--token-file").arg(&token);
        command.arg("--ca-dir").arg(own.join("ca")).arg("--bundle").arg(&bundle);
        command.args(["--connection", "agents/warehouse", "--other-egress", "refuse"]);
        command.arg("--upstream-ca").arg(google.path()).arg("--port-file").arg(&port_file);
        command.args(["--deliver-timeout", &patience.as_secs().to_string()]);
        for host in ["bigquery.googleapis.com", "bigquerystorage.googleapis.com"] {
            command.arg("--resolve").arg(format!("{host}:443={front}"));
        }
        let mut process = Process::start(&name, &mut command, folder)?;
        let ports = ready(&mut process, &port_file).await?;
        Ok(Self { process, ports, bundle })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Where agents reach it.
    #[must_use]
    pub fn listen(&self) -> SocketAddr {
        self.ports.listen
    }

    /// The roots that its agents trust.
    #[must_use]
    pub fn bundle(&self) -> &Path {
        &self.bundle
    }
}

async fn ready(process: &mut Process, port_file: &Path) -> Result<Ports> {
    let ports = process.until("port file", READY_LIMIT, || async { read_ports(port_file) }).await?;
    process.until("readiness", READY_LIMIT, || is_ready(ports.admin)).await?;
    Ok(ports)
}

fn read_ports(port_file: &Path) -> Option<Ports> {
    std::fs::read(port_file).ok().and_then(|text| serde_json::from_slice(&text).ok())
}

async fn is_ready(admin: SocketAddr) -> Option<()> {
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .build_http::<http_body_util::Empty<bytes::Bytes>>();
    let answer = client.get(format!("http://{admin}/readyz").parse().ok()?).await.ok()?;
    answer.status().is_success().then_some(())
}

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
        Ok(Self { recorder: recorder.url(), recorder_ca: recorder.ca.clone(), token, folder: folder.into() })
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
