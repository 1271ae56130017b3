//! The operator as it ships, beside a control plane instead of in it: API servers ask its webhook by URL.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{AUDIENCE, Ports, RecorderAt, command};
use ledger::note::SigningNoteKey;
use serde_json::json;

use crate::ca::TestCa;
use crate::chart;
use crate::cluster::{ControlPlane, Kubectl};
use crate::process::{Process, free_port};
use crate::tools::root;
use crate::trouble::{Doing as _, Result, Trouble};

/// The sidecar's image that it injects.
pub const IMAGE: &str = "registry.example/bqwitness/proxy:test";

/// The namespace of its Secret and Lease.
const NAMESPACE: &str = "bqwitness";

/// Its service account there, as the chart names it.
const ACCOUNT: &str = "bqwitness-operator";

/// How long the API server may take until it serves a kind that is new to it.
const SERVED_LIMIT: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// A running operator.
#[derive(Debug)]
pub struct Operator {
    process: Process,
    ports: Ports,
    webhook: SocketAddr,
}

/// What an operator is told of its recorder.
#[derive(Clone, Debug)]
pub struct Proof {
    /// Where it is.
    pub url: String,
    /// The recorder's CA (PEM).
    pub ca: PathBuf,
    /// The verifier key of its log.
    pub key: PathBuf,
}

impl From<RecorderAt> for Proof {
    fn from(RecorderAt { url, ca, key }: RecorderAt) -> Self {
        Self { url, ca, key }
    }
}

impl Proof {
    /// Of a recorder that is not there: enough for who only injects.
    ///
    /// # Errors
    /// The files can't be written.
    pub fn of_nobody(folder: &Path) -> Result<Self> {
        let ca = TestCa::new(folder, "Test CA of a recorder")?.path();
        let key = folder.join("nobody.vkey");
        let signer =
            SigningNoteKey::from_seed("recorder.example/log", &[7; 32]).doing("making a log's key")?;
        std::fs::write(&key, signer.verifier().to_string()).doing("writing a verifier key")?;
        Ok(Self { url: "https://recorder.example:8443".into(), ca, key })
    }
}

impl Operator {
    /// Installs the CRD and the operator's namespace in `plane`, and starts an operator called `name`. It is ready when its
    /// webhook is; that the API server asks it is another matter.
    ///
    /// # Errors
    /// It doesn't get ready.
    pub async fn start(
        plane: &ControlPlane,
        folder: &Path,
        name: &str,
        proof: &Proof,
        more: &[&str],
    ) -> Result<Self> {
        let kubectl = plane.kubectl();
        let crd = root().join("crds/bigqueryconnections.bqwitness.dev.yaml");
        kubectl.say(&["apply", "--server-side", "-f", &crd.display().to_string()]).await?;
        served(&kubectl).await?;
        let account = Account { kubectl: &kubectl, plane, folder, name };
        let Rights { kubeconfig, token } = account.make().await?;
        let (listen, port_file) = (free_port()?, folder.join(format!("{name}.ports")));
        let mut command = command("bqwitness-operator", &[])?;
        command.env("KUBECONFIG", kubeconfig).args(["--owner", ACCOUNT]);
        command.args(["--namespace", NAMESPACE, "--pod-name", name, "--listen", &listen.to_string()]);
        command.args(["--webhook-url", &format!("https://{listen}"), "--admin", "127.0.0.1:0"]);
        command.args(["--image", IMAGE, "--recorder", &proof.url, "--log-format", "text"]);
        command.arg("--recorder-ca").arg(&proof.ca).arg("--recorder-key").arg(&proof.key);
        command.arg("--recorder-token").arg(&token);
        command.arg("--port-file").arg(&port_file).args(more);
        let (process, ports) = super::started(name, &mut command, folder, &port_file).await?;
        Ok(Self { process, ports, webhook: listen })
    }

    /// Its metrics, as Prometheus reads them.
    ///
    /// # Errors
    /// It doesn't answer.
    pub async fn metrics(&self) -> Result<String> {
        super::metrics(self.ports).await
    }

    /// Where API servers ask it.
    #[must_use]
    pub fn webhook(&self) -> SocketAddr {
        self.webhook
    }

    /// What it has printed.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Kills it, as a crash does.
    ///
    /// # Errors
    /// The system's.
    pub fn kill(mut self) -> Result<()> {
        self.process.kill()
    }

    /// Stops it in order.
    ///
    /// # Errors
    /// It doesn't stop.
    pub async fn stop(self) -> Result<()> {
        self.process.stop().await.map(drop)
    }
}

/// Waits until the API server serves connections: some time after it has taken their CRD.
async fn served(kubectl: &Kubectl) -> Result<()> {
    let start = Instant::now();
    loop {
        let listed = kubectl.run(&["get", "bqc", "--all-namespaces"]).await?;
        if listed.success() {
            return Ok(());
        }
        if start.elapsed() > SERVED_LIMIT {
            return Err(Trouble::new(format!("no connections are served: {}", listed.said())));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Who an operator is in its cluster: a pod of the chart's service account, with the chart's rights and no others.
struct Account<'a> {
    kubectl: &'a Kubectl,
    plane: &'a ControlPlane,
    folder: &'a Path,
    name: &'a str,
}

/// What proves that.
struct Rights {
    /// For the API server.
    kubeconfig: PathBuf,
    /// For the recorder.
    token: PathBuf,
}

impl Account<'_> {
    async fn make(&self) -> Result<Rights> {
        let Self { kubectl, plane, folder, name } = self;
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        kubectl.apply(&namespace.to_string()).await?;
        for template in ["serviceaccount", "rbac"] {
            kubectl
                .apply(&chart::render_in(kubectl, NAMESPACE, &format!("operator/{template}")).await?)
                .await?;
        }
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": NAMESPACE, "name": name},
            "spec": {"serviceAccountName": ACCOUNT, "containers": [{"name": "operator", "image": "example.com/operator:1"}]},
        });
        kubectl.apply(&pod.to_string()).await?;
        let create = ["-n", NAMESPACE, "create", "token", ACCOUNT];
        let own = kubectl.say(&create).await?;
        let kubeconfig = plane.kubeconfig(name, own.trim())?;
        let bound = ["--audience", AUDIENCE, "--bound-object-kind", "Pod", "--bound-object-name", name];
        let bound = kubectl.say(&[&create[..], &bound[..]].concat()).await?;
        let token = folder.join(format!("{name}.token"));
        std::fs::write(&token, bound.trim()).doing("writing the operator's token")?;
        Ok(Rights { kubeconfig, token })
    }
}
