//! Our own programs as child processes: recorder, sidecar, command line.

use std::fs::Permissions;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;

use crate::agent::Finished;
use crate::ca::{Leaf, TestCa};
use crate::identity::{Cluster, Pod};
use crate::namespace::{self, Namespace};
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
    key: PathBuf,
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
        Self::launch(under, Ipv4Addr::LOCALHOST.into(), folder, ca, cluster, reader).await
    }

    /// The same at another address of this machine.
    ///
    /// # Errors
    /// It doesn't get ready.
    pub async fn start_at(
        address: IpAddr,
        folder: &Path,
        ca: &TestCa,
        cluster: &Cluster,
        reader: &Pod,
    ) -> Result<Self> {
        Self::launch(&[], address, folder, ca, cluster, reader).await
    }

    async fn launch(
        under: &[&str],
        address: IpAddr,
        folder: &Path,
        ca: &TestCa,
        cluster: &Cluster,
        reader: &Pod,
    ) -> Result<Self> {
        let (data, jwks) = (folder.join("recorder"), folder.join("jwks.json"));
        cluster.write_jwks(&jwks)?;
        let Leaf { certificate, key } = ca.leaf(&[&address.to_string()])?;
        let port_file = folder.join("recorder.ports");
        let mut command = command("bqwitness-recorder", under)?;
        command.arg("--data").arg(&data).args(["--listen", &format!("{address}:0")]);
        command.args(["--admin", "127.0.0.1:0"]);
        command.args(["--origin", ORIGIN, "--cluster", CLUSTER, "--audience", AUDIENCE]);
        command.arg("--tls-cert").arg(&certificate).arg("--tls-key").arg(&key);
        command.arg("--issuer").arg(cluster.issuer()).arg("--jwks").arg(&jwks);
        command.arg("--reader").arg(reader.agent()).arg("--port-file").arg(&port_file);
        let mut process = Process::start("recorder", &mut command, folder)?;
        let ports = ready(&mut process, &port_file).await?;
        // Only the recorder's user may look into its directory: the key is handed out.
        let key = folder.join("log.vkey");
        std::fs::copy(data.join("log.vkey"), &key).doing("copying the log's key")?;
        std::fs::set_permissions(&key, Permissions::from_mode(0o644)).doing("handing out the log's key")?;
        Ok(Self { process, ports, ca: ca.path(), data, key })
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
        self.key.clone()
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
    own: PathBuf,
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
        let own = own_folder(folder, pod)?;
        let token = own.join("token");
        cluster.write_token(pod, AUDIENCE, &token)?;
        let mut command = command("bqwitness-proxy", under)?;
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--other-egress", "refuse"]);
        settings(&mut command, &own, recorder, &google.path(), patience);
        for host in ["bigquery.googleapis.com", "bigquerystorage.googleapis.com"] {
            command.arg("--resolve").arg(format!("{host}:443={front}"));
        }
        Self::launch(command, folder, &own).await
    }

    /// Starts one in `namespace`, as its user, where connections are redirected to it. It looks names up itself there, and
    /// splices what isn't BigQuery's, as it does by default.
    ///
    /// # Errors
    /// It doesn't get ready.
    pub async fn start_in(
        namespace: &Namespace,
        folder: &Path,
        pod: &Pod,
        cluster: &Cluster,
        recorder: &RecorderAt,
        google: &TestCa,
        patience: Duration,
    ) -> Result<Self> {
        let own = own_folder(folder, pod)?;
        cluster.write_token(pod, AUDIENCE, &own.join("token"))?;
        // Neither the build's folder nor the recorder's need be open to this user.
        let copy = |from: &Path, name: &str| {
            let to = own.join(name);
            std::fs::copy(from, &to).map(|_| to).doing(format!("copying {}", from.display()))
        };
        let recorder = RecorderAt {
            url: recorder.url.clone(),
            ca: copy(&recorder.ca, "recorder-ca.pem")?,
            key: copy(&recorder.key, "log.vkey")?,
        };
        let google = copy(&google.path(), "google.pem")?;
        let program = copy(&program("bqwitness-proxy")?, "bqwitness-proxy")?;
        give_to(&own, namespace::SIDECAR)?;
        let passable = Permissions::from_mode(0o711);
        std::fs::set_permissions(folder, passable).doing("opening a folder to the sidecar")?;

        let words = namespace.as_sidecar();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(program);
        command.args(["--listen", "127.0.0.1:0", "--redirect-listen", namespace::REDIRECT]);
        command.args(["--admin", &format!("{}:0", namespace.inside())]);
        settings(&mut command, &own, &recorder, &google, patience);
        Self::launch(command, folder, &own).await
    }

    async fn launch(mut command: Command, folder: &Path, own: &Path) -> Result<Self> {
        let name = own.file_name().unwrap_or_default().to_string_lossy();
        let mut process = Process::start(&name, &mut command, folder)?;
        let ports = ready(&mut process, &own.join("ports")).await?;
        Ok(Self { process, ports, own: own.into(), bundle: own.join("bundle.pem") })
    }

    /// Stops it in order.
    ///
    /// # Errors
    /// It doesn't stop, or not with exit code 0.
    pub async fn stop(self) -> Result<()> {
        let status = self.process.stop().await?;
        if status.success() { Ok(()) } else { Err(Trouble::new(format!("the sidecar ended with {status}"))) }
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

    /// Its folder: token, CA and bundle.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.own
    }

    /// Its metrics, as Prometheus reads them.
    ///
    /// # Errors
    /// It doesn't answer.
    pub async fn metrics(&self) -> Result<String> {
        let uri = format!("http://{}/metrics", self.ports.admin).parse().doing("the address of metrics")?;
        let answer = plain_client().get(uri).await.doing("asking for metrics")?;
        let bytes = answer.collect().await.doing("reading metrics")?.to_bytes();
        String::from_utf8(bytes.to_vec()).doing("metrics as text")
    }
}

/// `proxy-NAME` in `folder`.
fn own_folder(folder: &Path, pod: &Pod) -> Result<PathBuf> {
    let own = folder.join(format!("proxy-{}", pod.name));
    std::fs::create_dir_all(&own).map(|()| own).doing("making a folder for a sidecar")
}

/// What all sidecars are told.
fn settings(command: &mut Command, own: &Path, recorder: &RecorderAt, google: &Path, patience: Duration) {
    command.args(["--recorder", &recorder.url]).arg("--recorder-ca").arg(&recorder.ca);
    command.arg("--recorder-key").arg(&recorder.key).arg("--token-file").arg(own.join("token"));
    command.arg("--ca-dir").arg(own.join("ca")).arg("--bundle").arg(own.join("bundle.pem"));
    command.args(["--connection", "agents/warehouse", "--upstream-ca"]).arg(google);
    command.arg("--port-file").arg(own.join("ports"));
    command.args(["--deliver-timeout", &patience.as_secs().to_string()]);
}

/// Makes `user` the owner of a folder and of the files in it.
fn give_to(folder: &Path, user: u32) -> Result<()> {
    let giving = || format!("giving {} to user {user}", folder.display());
    for entry in std::fs::read_dir(folder).doing(giving())? {
        chown(entry.doing(giving())?.path(), Some(user), Some(user)).doing(giving())?;
    }
    chown(folder, Some(user), Some(user)).doing(giving())
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
    let answer = plain_client().get(format!("http://{admin}/readyz").parse().ok()?).await.ok()?;
    answer.status().is_success().then_some(())
}

fn plain_client() -> Client<HttpConnector, Empty<Bytes>> {
    Client::builder(TokioExecutor::new()).build_http()
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
