//! The sidecar as it ships: reached by CONNECT, or in a namespace that redirects to it.

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use http_body_util::BodyExt as _;

use super::{AUDIENCE, Ports, Recorder, RecorderAt, command, plain_client, program, ready};
use crate::ca::TestCa;
use crate::identity::{Cluster, Pod};
use crate::namespace::{self, Namespace};
use crate::process::Process;
use crate::trouble::{Doing as _, Result, Trouble};

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
    command.args(["--credential", "passthrough"]).arg("--port-file").arg(own.join("ports"));
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
