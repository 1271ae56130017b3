//! A real Kubernetes control plane on loopback ports: etcd, the API server and the controller-manager, each a process of
//! its own, and `kubectl` and `helm` to speak with it. `tests/setup/cluster.sh` builds them.
//!
//! ```text
//! kubectl, helm, tests ──TLS──> kube-apiserver ──> etcd
//!                                  ^      └──TLS──> webhooks, by URL: there is no network of services
//!                 controller-manager
//! ```
//!
//! There is no kubelet and no scheduler: a pod is mutated and stored, and gets its tokens, as in any cluster, and never
//! starts. Tests share one control plane ([`ControlPlane::shared`]), each in namespaces of its own; a test that stops the
//! API server starts its own ([`ControlPlane::start`]).
//!
//! Never the cluster that `KUBECONFIG` names: these tests install webhooks and stop servers, and nobody's `make test` may
//! do that to a cluster that somebody uses.

mod folder;
mod kubectl;
mod parts;
mod programs;
mod shared;

use std::path::PathBuf;
use std::time::Duration;

use runtime::client::HttpsClient;
use runtime::tls;

use crate::process::Process;
use crate::trouble::{Doing as _, Result, Trouble};
use folder::Folder;
use parts::Parts;
use programs::Programs;

pub use kubectl::Kubectl;
pub use parts::ISSUER;

/// How long the control plane may take to get ready. Seconds on a quiet machine; most of it is the API server's own work.
const READY_LIMIT: Duration = Duration::from_secs(180);

/// How long one look at the API server may take.
const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// Nothing that is looked at is longer, in bytes.
const MAX_LOOK: usize = 64 * 1024;

/// A running control plane. Dropped, its processes are killed.
#[derive(Debug)]
pub struct ControlPlane {
    // Dropped in this order.
    api_server: Option<Process>,
    _controllers: Process,
    _etcd: Process,
    programs: Programs,
    parts: Parts,
    admin: PathBuf,
    folder: Folder,
}

impl ControlPlane {
    /// Can one be started here? Says nothing, and skips nothing.
    #[must_use]
    pub fn is_built() -> bool {
        Programs::find().is_ok()
    }

    /// The one that all tests of this program share: started by the first of them, while the others wait. `None`, after it
    /// has said SKIPPED, where it isn't built. It blocks the thread: call it first.
    ///
    /// # Errors
    /// It doesn't start.
    ///
    /// # Panics
    /// Where it would skip and `CI=true`.
    pub fn shared() -> Result<Option<&'static Self>> {
        shared::get()
    }

    /// One that ends with its test. `None`, after it has said SKIPPED, where it isn't built.
    ///
    /// # Errors
    /// It doesn't start: with the end of the log that may say why.
    ///
    /// # Panics
    /// Where it would skip and `CI=true`.
    pub async fn start() -> Result<Option<Self>> {
        let Some(programs) = Programs::find_or_skip() else { return Ok(None) };
        let folder = Folder::make()?;
        let parts = Parts::make(folder.path())?;
        let etcd = Process::start("etcd", &mut parts.etcd(&programs), folder.path())?;
        let mut api_server =
            Process::start("kube-apiserver", &mut parts.api_server(&programs), folder.path())?;
        until_ready(&mut api_server, &parts).await?;
        let mut controllers =
            Process::start("kube-controller-manager", &mut parts.controllers(&programs), folder.path())?;
        until_controlled(&mut controllers, &parts).await?;
        let admin = parts.kubeconfig("admin", parts.admin_token())?;
        let api_server = Some(api_server);
        Ok(Some(Self { api_server, _controllers: controllers, _etcd: etcd, programs, parts, admin, folder }))
    }

    /// `https://127.0.0.1:port`
    #[must_use]
    pub fn url(&self) -> String {
        self.parts.url()
    }

    /// The authority of the API server's certificate (PEM).
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.parts.ca()
    }

    /// Who has it may do everything.
    pub(crate) fn admin_token(&self) -> &str {
        self.parts.admin_token()
    }

    /// A kubeconfig that may do everything.
    #[must_use]
    pub fn admin(&self) -> PathBuf {
        self.admin.clone()
    }

    /// A kubeconfig for whom `token` names, as `NAME.kubeconfig` among the control plane's files.
    ///
    /// # Errors
    /// It can't be written.
    pub fn kubeconfig(&self, name: &str, token: &str) -> Result<PathBuf> {
        self.parts.kubeconfig(name, token)
    }

    /// `kubectl` and `helm`, with the right to do everything.
    #[must_use]
    pub fn kubectl(&self) -> Kubectl {
        self.kubectl_with(&self.admin)
    }

    /// `kubectl` and `helm`, with another kubeconfig.
    #[must_use]
    pub fn kubectl_with(&self, kubeconfig: &std::path::Path) -> Kubectl {
        Kubectl::new(self.programs.clone(), self.folder.path().to_owned(), kubeconfig.to_owned())
    }

    /// Kills the API server: watches are cut, calls are refused. (Asked to stop, it would wait for its clients, a minute.)
    ///
    /// # Errors
    /// The system's, or it runs no more.
    pub fn kill_api_server(&mut self) -> Result<()> {
        let running = self.api_server.take();
        running.ok_or_else(|| Trouble::new("the API server runs no more"))?.kill()
    }

    /// Starts it again, on the same port, with the same keys and data, and waits until it is ready.
    ///
    /// # Errors
    /// It doesn't start, or runs already.
    pub async fn start_api_server(&mut self) -> Result<()> {
        if self.api_server.is_some() {
            return Err(Trouble::new("the API server runs already"));
        }
        let mut command = self.parts.api_server(&self.programs);
        let mut api_server = Process::start("kube-apiserver", &mut command, self.folder.path())?;
        until_ready(&mut api_server, &self.parts).await?;
        self.api_server = Some(api_server);
        Ok(())
    }
}

/// The API server says that it is: its own start is done, etcd answers.
async fn until_ready(api_server: &mut Process, parts: &Parts) -> Result<()> {
    let look = Look::new(parts)?;
    api_server.until("readiness", READY_LIMIT, || look.at("/readyz")).await
}

/// The controllers have begun: without them no namespace has the service account that pods need, nor the cluster's roots.
async fn until_controlled(controllers: &mut Process, parts: &Parts) -> Result<()> {
    let look = Look::new(parts)?;
    for path in ["serviceaccounts/default", "configmaps/kube-root-ca.crt"] {
        let path = format!("/api/v1/namespaces/default/{path}");
        controllers.until(&path, READY_LIMIT, || look.at(&path)).await?;
    }
    Ok(())
}

/// Asks the API server whether something is there.
struct Look<'a> {
    client: HttpsClient,
    parts: &'a Parts,
}

impl<'a> Look<'a> {
    fn new(parts: &'a Parts) -> Result<Self> {
        let roots = tls::pinned_roots(&parts.ca()).doing("reading the API server's authority")?;
        let tls = tls::client_config(roots, &[]).doing("setting up TLS to the API server")?;
        Ok(Self { client: HttpsClient::new(tls, LOOK_LIMIT, MAX_LOOK), parts })
    }

    async fn at(&self, path: &str) -> Option<()> {
        let request = http::Request::get(format!("{}{path}", self.parts.url()))
            .header(http::header::AUTHORIZATION, format!("Bearer {}", self.parts.admin_token()))
            .body(http_body_util::Full::default())
            .ok()?;
        self.client.send(request).await.ok()?.status().is_success().then_some(())
    }
}
