//! The servers of a control plane: what each is told.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::json;
use uuid::Uuid;

use super::programs::Programs;
use crate::ca::{Leaf, TestCa};
use crate::process::free_port;
use crate::trouble::{Doing as _, Result};

/// The issuer of service account tokens, and their audience when none is asked for.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// The controllers that tests need. Each of the others only costs time.
const CONTROLLERS: &str = "serviceaccount-controller,serviceaccount-token-controller,\
    root-ca-certificate-publisher-controller,namespace-controller,garbage-collector-controller,\
    clusterrole-aggregation-controller,deployment-controller,replicaset-controller,statefulset-controller,\
    daemonset-controller,job-controller,cronjob-controller,disruption-controller,\
    endpointslice-controller,resourcequota-controller";

/// Addresses, keys and tokens of one control plane.
#[derive(Debug)]
pub(super) struct Parts {
    folder: PathBuf,
    ca: TestCa,
    serving: Leaf,
    etcd: SocketAddr,
    etcd_peers: SocketAddr,
    api_server: SocketAddr,
    controllers: SocketAddr,
    admin_token: String,
    controllers_token: String,
}

impl Parts {
    /// Chooses ports, and makes keys and tokens, all in `folder`.
    pub(super) fn make(folder: &Path) -> Result<Self> {
        let ca = TestCa::new(folder, "Test CA of the cluster")?;
        let serving = ca.leaf(&["127.0.0.1", "localhost", "kubernetes.default.svc"])?;
        let token = || Uuid::now_v7().simple().to_string();
        let parts = Self {
            folder: folder.into(),
            ca,
            serving,
            etcd: free_port()?,
            etcd_peers: free_port()?,
            api_server: free_port()?,
            controllers: free_port()?,
            admin_token: token(),
            controllers_token: token(),
        };
        parts.write_tokens()?;
        parts.write_signing_key()?;
        parts.kubeconfig("controllers", &parts.controllers_token)?;
        Ok(parts)
    }

    fn write_tokens(&self) -> Result<()> {
        let lines = format!(
            "{},admin,admin,system:masters\n{},system:kube-controller-manager,controllers\n",
            self.admin_token, self.controllers_token
        );
        std::fs::write(self.file("tokens.csv"), lines).doing("writing the API server's tokens")
    }

    /// Signs service account tokens; RSA, as most clusters have it.
    fn write_signing_key(&self) -> Result<()> {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048);
        let pem = key.doing("making a cluster's key")?.serialize_pem();
        std::fs::write(self.signing_key(), pem).doing("writing a cluster's key")
    }

    /// Writes `NAME.kubeconfig`: whoever `token` names, at this API server.
    pub(super) fn kubeconfig(&self, name: &str, token: &str) -> Result<PathBuf> {
        let path = self.file(&format!("{name}.kubeconfig"));
        let text = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                { "name": "test", "cluster": { "server": self.url(), "certificate-authority": self.ca() } }
            ],
            "users": [{ "name": name, "user": { "token": token } }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": name } }],
            "current-context": "test",
        });
        // JSON is YAML.
        std::fs::write(&path, text.to_string()).doing(format!("writing {}", path.display()))?;
        Ok(path)
    }

    pub(super) fn url(&self) -> String {
        format!("https://{}", self.api_server)
    }

    pub(super) fn ca(&self) -> PathBuf {
        self.ca.path()
    }

    pub(super) fn admin_token(&self) -> &str {
        &self.admin_token
    }

    fn signing_key(&self) -> PathBuf {
        self.file("service-accounts.key")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Its data need not survive the machine: it doesn't wait for the disk.
    pub(super) fn etcd(&self, programs: &Programs) -> Command {
        let (clients, peers) = (format!("http://{}", self.etcd), format!("http://{}", self.etcd_peers));
        let mut command = programs.server("etcd");
        command.arg("--data-dir").arg(self.file("etcd")).arg("--unsafe-no-fsync");
        command.args(["--name", "test", "--listen-client-urls", &clients]);
        command.args(["--advertise-client-urls", &clients, "--listen-peer-urls", &peers]);
        command.args(["--initial-advertise-peer-urls", &peers]);
        command.args(["--initial-cluster", &format!("test={peers}"), "--log-level", "warn"]);
        command
    }

    /// With the admission plugins that are on by default, PodSecurity and webhooks among them.
    pub(super) fn api_server(&self, programs: &Programs) -> Command {
        let mut command = programs.server("kube-apiserver");
        command.arg("--etcd-servers").arg(format!("http://{}", self.etcd));
        command.args(["--bind-address", "127.0.0.1", "--secure-port", &self.api_server.port().to_string()]);
        command.arg("--tls-cert-file").arg(&self.serving.certificate);
        command.arg("--tls-private-key-file").arg(&self.serving.key);
        command.arg("--token-auth-file").arg(self.file("tokens.csv"));
        command.args(["--authorization-mode", "Node,RBAC", "--allow-privileged"]);
        command.args(["--service-account-issuer", ISSUER, "--api-audiences", ISSUER]);
        command.arg("--service-account-key-file").arg(self.signing_key());
        command.arg("--service-account-signing-key-file").arg(self.signing_key());
        command.args(["--service-cluster-ip-range", "10.96.0.0/16"]);
        // Nobody reaches the service `kubernetes`, which has no address that it may have.
        command.args(["--endpoint-reconciler-type", "none"]);
        command
    }

    pub(super) fn controllers(&self, programs: &Programs) -> Command {
        let mut command = programs.server("kube-controller-manager");
        command.arg("--kubeconfig").arg(self.file("controllers.kubeconfig"));
        command.args(["--bind-address", "127.0.0.1", "--secure-port", &self.controllers.port().to_string()]);
        command.arg("--cert-dir").arg(self.file("controllers"));
        command.args(["--leader-elect=false", "--use-service-account-credentials"]);
        command.arg("--service-account-private-key-file").arg(self.signing_key());
        command.arg("--root-ca-file").arg(self.ca());
        command.arg(format!("--controllers={CONTROLLERS}"));
        command
    }
}
