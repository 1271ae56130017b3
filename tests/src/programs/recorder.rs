//! The recorder as it ships.

use std::fs::Permissions;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{AUDIENCE, CLUSTER, ORIGIN, Ports, command, started};
use crate::ca::{Leaf, TestCa};
use crate::cluster::{ControlPlane, ISSUER};
use crate::identity::{Cluster, Pod};
use crate::process::{Process, free_port_at};
use crate::trouble::{Doing as _, Result, Trouble};

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

/// Its name in a cluster, as the chart has it: its certificate is for that too.
const SERVICE: &str = "bqwitness-recorder.bqwitness.svc";

/// A running recorder.
#[derive(Debug)]
pub struct Recorder {
    process: Process,
    /// What it runs as, without its address.
    command: Command,
    folder: PathBuf,
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
        let means = keys(folder, cluster)?;
        Self::launch(under, Ipv4Addr::LOCALHOST.into(), folder, ca, &means, reader).await
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
        Self::launch(&[], address, folder, ca, &keys(folder, cluster)?, reader).await
    }

    /// The same where the API server of a control plane says whose tokens are good: it is asked with the recorder's own
    /// `token`.
    ///
    /// # Errors
    /// It doesn't get ready.
    pub async fn start_reviewing(
        address: IpAddr,
        folder: &Path,
        ca: &TestCa,
        plane: &ControlPlane,
        token: &str,
        reader: &Pod,
    ) -> Result<Self> {
        let own = folder.join("recorder.token");
        std::fs::write(&own, token).doing("writing the recorder's token")?;
        let means = [
            format!("--issuer={ISSUER}"),
            format!("--token-review={}", plane.url()),
            format!("--jwks-ca={}", plane.ca().display()),
            format!("--jwks-token={}", own.display()),
        ];
        Self::launch(&[], address, folder, ca, &means, reader).await
    }

    /// The same where the API server also says who may read what, and takes whom it knows for readers.
    ///
    /// # Errors
    /// It doesn't get ready.
    pub async fn start_asking(folder: &Path, ca: &TestCa, plane: &ControlPlane, token: &str) -> Result<Self> {
        let own = folder.join("recorder.token");
        std::fs::write(&own, token).doing("writing the recorder's token")?;
        let means = [
            format!("--issuer={ISSUER}"),
            format!("--jwks={}/openid/v1/jwks", plane.url()),
            format!("--access-review={}", plane.url()),
            "--user-tokens=true".into(),
            format!("--jwks-ca={}", plane.ca().display()),
            format!("--jwks-token={}", own.display()),
        ];
        Self::launch(&[], Ipv4Addr::LOCALHOST.into(), folder, ca, &means, &Pod::of("audit", "nobody")).await
    }

    async fn launch(
        under: &[&str],
        address: IpAddr,
        folder: &Path,
        ca: &TestCa,
        means: &[String],
        reader: &Pod,
    ) -> Result<Self> {
        let data = folder.join("recorder");
        let Leaf { certificate, key } = ca.leaf(&[&address.to_string(), SERVICE])?;
        let mut command = command("bqwitness-recorder", under)?;
        command.arg("--data").arg(&data);
        command.args(["--admin", "127.0.0.1:0"]);
        command.args(["--origin", ORIGIN, "--cluster", CLUSTER, "--audience", AUDIENCE]);
        command.arg("--tls-cert").arg(&certificate).arg("--tls-key").arg(&key);
        command
            .args(means)
            .arg("--reader")
            .arg(reader.agent())
            .args(["--operator", "bqwitness/bqwitness-operator"]);
        let (process, ports) = listening(&command, free_port_at(address)?, folder).await?;
        // Only the recorder's user may look into its directory: the key is handed out.
        let key = folder.join("log.vkey");
        std::fs::copy(data.join("log.vkey"), &key).doing("copying the log's key")?;
        std::fs::set_permissions(&key, Permissions::from_mode(0o644)).doing("handing out the log's key")?;
        Ok(Self { process, command, folder: folder.into(), ports, ca: ca.path(), data, key })
    }

    /// Kills it (SIGKILL).
    ///
    /// # Errors
    /// The system's.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts it again after it was killed, where it was.
    ///
    /// # Errors
    /// It doesn't get ready.
    pub async fn start_again(&mut self) -> Result<()> {
        (self.process, self.ports) = listening(&self.command, self.ports.listen, &self.folder).await?;
        Ok(())
    }

    /// Stops it in order, and starts it again where it was, with these arguments too. `between` may do something to its
    /// data directory meanwhile.
    ///
    /// # Errors
    /// It doesn't stop, or doesn't get ready.
    pub async fn restart(self, more: &[String], between: impl FnOnce(&Path)) -> Result<Self> {
        let Self { process, command, folder, ports, ca, data, key } = self;
        process.stop().await?;
        between(&data);
        let mut changed = Command::new(command.get_program());
        changed.args(command.get_args()).args(more);
        let (process, ports) = listening(&changed, ports.listen, &folder).await?;
        Ok(Self { process, command, folder, ports, ca, data, key })
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

/// The flags with which it checks the tokens of `cluster` itself.
fn keys(folder: &Path, cluster: &Cluster) -> Result<[String; 2]> {
    let jwks = folder.join("jwks.json");
    cluster.write_jwks(&jwks)?;
    Ok([format!("--issuer={}", cluster.issuer()), format!("--jwks={}", jwks.display())])
}

/// Runs it at this address, which is its own also when it is started again.
async fn listening(command: &Command, address: SocketAddr, folder: &Path) -> Result<(Process, Ports)> {
    let port_file = folder.join("recorder.ports");
    let mut listening = Command::new(command.get_program());
    listening.args(command.get_args()).args(["--listen", &address.to_string()]);
    listening.arg("--port-file").arg(&port_file);
    started("recorder", &mut listening, folder, &port_file).await
}
