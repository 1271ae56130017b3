//! Our own programs as child processes: recorder, sidecar, operator, command line.

mod auditor;
mod operator;
mod recorder;
mod sidecar;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;

pub use self::auditor::Auditor;
pub use self::operator::{IMAGE, Operator, Proof};
pub use self::recorder::{Recorder, RecorderAt};
pub use self::sidecar::{Credential, PROVIDER, STS_TOKEN, Sidecar, Start};

use crate::process::Process;
use crate::trouble::{Doing as _, Result, Trouble};

/// The audience that recorder tokens are for.
pub const AUDIENCE: &str = "bqwitness-recorder";

/// The log's name.
pub const ORIGIN: &str = "example.com/demo";

/// The recorder's name for the cluster whose tokens it takes.
pub const CLUSTER: &str = "demo";

/// How long a program may take until it is ready: tenths of a second, where nothing else is going on.
const READY_LIMIT: Duration = Duration::from_secs(90);

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
    /// A sidecar's metadata server, when its agents hold no key.
    #[serde(default)]
    pub metadata: Option<SocketAddr>,
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

/// Starts a program, and waits until it is ready. What an earlier run has written to its port file is taken away before.
async fn started(
    name: &str,
    command: &mut Command,
    folder: &Path,
    port_file: &Path,
) -> Result<(Process, Ports)> {
    let _of_an_earlier_run = std::fs::remove_file(port_file).is_ok();
    let mut process = Process::start(name, command, folder)?;
    let ports = ready(&mut process, port_file).await?;
    Ok((process, ports))
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
    answers_well(&format!("http://{admin}/readyz")).await
}

/// Does a GET of this plain URL succeed, as a probe means it?
pub(crate) async fn answers_well(url: &str) -> Option<()> {
    let answer = plain_client().get(url.parse().ok()?).await.ok()?;
    answer.status().is_success().then_some(())
}

/// A program's metrics, as Prometheus reads them.
async fn metrics(ports: Ports) -> Result<String> {
    page(&format!("http://{}/metrics", ports.admin)).await
}

/// What a plain URL answers, whatever the status.
pub(crate) async fn page(url: &str) -> Result<String> {
    let answer =
        plain_client().get(url.parse().doing("reading a URL")?).await.doing(format!("asking for {url}"))?;
    let bytes = answer.collect().await.doing(format!("reading {url}"))?.to_bytes();
    String::from_utf8(bytes.to_vec()).doing(format!("{url} as text"))
}

fn plain_client() -> Client<HttpConnector, Empty<Bytes>> {
    Client::builder(TokioExecutor::new()).build_http()
}
