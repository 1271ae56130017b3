//! The sidecar as it ships: reached by CONNECT, or in a namespace that redirects to it.

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use http::Request;
use http_body_util::{BodyExt as _, Empty};
use serde_json::Value;

use super::{
    AUDIENCE, Ports, READY_LIMIT, Recorder, RecorderAt, command, plain_client, program, read_ports, started,
};
use crate::ca::TestCa;
use crate::emulator::PROJECT;
use crate::google::{self, Google};
use crate::identity::{Cluster, Pod};
use crate::namespace::{self, Namespace};
use crate::process::Process;
use crate::trouble::{Doing as _, Result, Trouble};

/// The workload identity provider of the sidecars' cluster.
pub const PROVIDER: &str = "demo";

/// The pod's token for it, in the sidecar's folder.
pub const STS_TOKEN: &str = "sts-token";

/// A running sidecar: the proxy of one pod.
#[derive(Debug)]
pub struct Sidecar {
    process: Process,
    ports: Ports,
    own: PathBuf,
    bundle: PathBuf,
}

/// Where a sidecar's calls get their Google credential from.
#[derive(Clone, Copy, Debug)]
pub enum Credential<'a> {
    /// The agent's own passes.
    Passthrough,
    /// The pod's token is exchanged there, for one of the service account that [`google::service_account`] names.
    Federated(&'a Google),
    /// The node's metadata server.
    WorkloadIdentity,
}

/// A sidecar that is to be started.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// Where its folder is made.
    pub folder: &'a Path,
    /// Whose it is.
    pub pod: &'a Pod,
    /// Who signs the pod's tokens.
    pub cluster: &'a Cluster,
    /// Its recorder.
    pub recorder: &'a RecorderAt,
    /// A call is refused when its intent is not durable after this many whole seconds, or has no credential.
    pub patience: Duration,
    /// Where credentials come from.
    pub credential: Credential<'a>,
    /// What it logs.
    pub log_level: &'a str,
}

impl Start<'_> {
    /// On this machine, under another program, in front of the "BigQuery" at an address for which an authority vouches.
    ///
    /// # Errors
    /// It doesn't get ready.
    pub async fn beside(&self, under: &[&str], (front, google): (SocketAddr, &TestCa)) -> Result<Sidecar> {
        let own = self.own()?;
        let mut command = command("bqwitness-proxy", under)?;
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--other-egress", "refuse"]);
        self.settings(&mut command, &own, self.recorder, &google.path());
        for host in ["bigquery.googleapis.com", "bigquerystorage.googleapis.com"] {
            command.arg("--resolve").arg(format!("{host}:443={front}"));
        }
        Sidecar::launch(command, self.folder, &own).await
    }

    /// One that never gets ready, because the pod's token for Google is this one: what it says of itself once its readiness
    /// names `category`, with its metrics.
    ///
    /// # Errors
    /// It gets ready, or is not ready for another reason.
    pub async fn unready(&self, google: &TestCa, token: &str, category: &str) -> Result<String> {
        let own = self.own()?;
        std::fs::write(own.join(STS_TOKEN), token).doing("writing a bad token")?;
        let mut command = command("bqwitness-proxy", &[])?;
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        self.settings(&mut command, &own, self.recorder, &google.path());
        let name = own.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let file = own.join("ports");
        let _of_an_earlier_run = std::fs::remove_file(&file).is_ok();
        let mut process = Process::start(&name, &mut command, self.folder)?;
        let ports = process.until("port file", READY_LIMIT, || async { read_ports(&file) }).await?;
        let named = || async { text(ports, "readyz").await.ok().filter(|said| said.contains(category)) };
        let said = process.until(category, READY_LIMIT, named).await?;
        let metrics = text(ports, "metrics").await?;
        process.stop().await?;
        Ok(said + &metrics)
    }

    /// In a namespace, as its user, where connections are redirected to it.
    ///
    /// # Errors
    /// It doesn't get ready.
    pub async fn inside(&self, namespace: &Namespace, google: &TestCa) -> Result<Sidecar> {
        let own = self.own()?;
        // Neither the build's folder nor the recorder's need be open to this user.
        let copy = |from: &Path, name: &str| {
            let to = own.join(name);
            std::fs::copy(from, &to).map(|_| to).doing(format!("copying {}", from.display()))
        };
        let recorder = RecorderAt {
            url: self.recorder.url.clone(),
            ca: copy(&self.recorder.ca, "recorder-ca.pem")?,
            key: copy(&self.recorder.key, "log.vkey")?,
        };
        let google = copy(&google.path(), "google.pem")?;
        let program = copy(&program("bqwitness-proxy")?, "bqwitness-proxy")?;
        give_to(&own, namespace::SIDECAR)?;
        let passable = Permissions::from_mode(0o711);
        std::fs::set_permissions(self.folder, passable).doing("opening a folder to the sidecar")?;

        let words = namespace.as_sidecar();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(program);
        let redirect = namespace.redirect().to_string();
        command.args(["--listen", "127.0.0.1:0", "--redirect-listen", &redirect]);
        command.args(["--admin", &SocketAddr::new(namespace.inside(), 0).to_string()]);
        self.settings(&mut command, &own, &recorder, &google);
        Sidecar::launch(command, self.folder, &own).await
    }

    /// `proxy-NAME`, with the pod's tokens.
    fn own(&self) -> Result<PathBuf> {
        let own = self.folder.join(format!("proxy-{}", self.pod.name));
        std::fs::create_dir_all(&own).doing("making a folder for a sidecar")?;
        self.cluster.write_token(self.pod, AUDIENCE, &own.join("token"))?;
        if let Credential::Federated(_) = self.credential {
            self.cluster.write_token(self.pod, &google::audience(PROVIDER), &own.join(STS_TOKEN))?;
        }
        Ok(own)
    }

    /// What all sidecars are told.
    fn settings(&self, command: &mut Command, own: &Path, recorder: &RecorderAt, google: &Path) {
        command.args(["--recorder", &recorder.url]).arg("--recorder-ca").arg(&recorder.ca);
        command.arg("--recorder-key").arg(&recorder.key).arg("--token-file").arg(own.join("token"));
        command.arg("--ca-dir").arg(own.join("ca")).arg("--bundle").arg(own.join("bundle.pem"));
        command.args(["--connection", "agents/warehouse", "--upstream-ca"]).arg(google);
        command.arg("--port-file").arg(own.join("ports")).arg("--env-file").arg(own.join("env"));
        command.args(["--deliver-timeout", &self.patience.as_secs().to_string()]);
        command.args(["--metadata-listen", "127.0.0.1:0", "--project", PROJECT]);
        command.args(["--log-level", self.log_level]);
        match self.credential {
            Credential::Passthrough => command.args(["--credential", "passthrough"]),
            Credential::WorkloadIdentity => command.args(["--credential", "workload-identity"]),
            Credential::Federated(google) => command
                .args(google.flags(PROVIDER, self.pod))
                .arg("--sts-token-file")
                .arg(own.join(STS_TOKEN)),
        };
    }
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
        let start = Start {
            folder,
            pod,
            cluster,
            recorder,
            patience,
            credential: Credential::Passthrough,
            log_level: "info",
        };
        start.beside(under, (front, google)).await
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
        let start = Start {
            folder,
            pod,
            cluster,
            recorder,
            patience,
            credential: Credential::Passthrough,
            log_level: "info",
        };
        start.inside(namespace, google).await
    }

    async fn launch(mut command: Command, folder: &Path, own: &Path) -> Result<Self> {
        let name = own.file_name().unwrap_or_default().to_string_lossy();
        let (process, ports) = started(&name, &mut command, folder, &own.join("ports")).await?;
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

    /// Its process: to be killed, signalled, waited for.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
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

    /// The variables that an agent without a redirect needs.
    ///
    /// # Errors
    /// The sidecar wrote none.
    pub fn variables(&self) -> Result<Vec<(String, String)>> {
        let text = std::fs::read_to_string(self.own.join("env")).doing("reading a sidecar's variables")?;
        let lines = text.lines().filter_map(|line| line.split_once('='));
        Ok(lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// Its metrics, as Prometheus reads them.
    ///
    /// # Errors
    /// It doesn't answer.
    pub async fn metrics(&self) -> Result<String> {
        super::metrics(self.ports).await
    }

    /// A placeholder, as its agents are given.
    ///
    /// # Errors
    /// It doesn't answer, or gives none.
    pub async fn placeholder(&self) -> Result<String> {
        let metadata = self.metadata().ok_or_else(|| Trouble::new("these agents bring their own tokens"))?;
        let path = "computeMetadata/v1/instance/service-accounts/default/token";
        let request = Request::get(format!("http://{metadata}/{path}")).header("metadata-flavor", "Google");
        let request = request.body(Empty::new()).doing("a question for a placeholder")?;
        let answer = plain_client().request(request).await.doing("asking for a placeholder")?;
        let bytes = answer.collect().await.doing("reading a placeholder")?.to_bytes();
        let answer: Value = serde_json::from_slice(&bytes).doing("a placeholder as JSON")?;
        let token = answer.get("access_token").and_then(Value::as_str);
        token.map(str::to_owned).ok_or_else(|| Trouble::new("the sidecar gave no placeholder"))
    }

    /// Where agents ask for a credential; none in passthrough mode.
    #[must_use]
    pub fn metadata(&self) -> Option<SocketAddr> {
        self.ports.metadata
    }
}

/// What a sidecar's admin server says at this path, whatever the status.
async fn text(ports: Ports, path: &str) -> Result<String> {
    let uri = format!("http://{}/{path}", ports.admin).parse().doing("an address of the admin server")?;
    let answer = plain_client().get(uri).await.doing(format!("asking for {path}"))?;
    let bytes = answer.collect().await.doing(format!("reading {path}"))?.to_bytes();
    String::from_utf8(bytes.to_vec()).doing(format!("{path} as text"))
}

/// Makes `user` the owner of a folder and of the files in it.
fn give_to(folder: &Path, user: u32) -> Result<()> {
    let giving = || format!("giving {} to user {user}", folder.display());
    for entry in std::fs::read_dir(folder).doing(giving())? {
        chown(entry.doing(giving())?.path(), Some(user), Some(user)).doing(giving())?;
    }
    chown(folder, Some(user), Some(user)).doing(giving())
}
