//! A pod whose connections are redirected, with all that it needs: a sidecar and an agent in a network namespace; outside of
//! it "Google", the recorder, and a gate before the recorder.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::agent::Agent;
use crate::audit::{self, Account};
use crate::ca::TestCa;
use crate::front::{Front, Upstream};
use crate::gate::Gate;
use crate::identity::{Cluster, Pod};
use crate::namespace::Namespace;
use crate::programs::{Auditor, Recorder, Sidecar};
use crate::tools::Tools;
use crate::trouble::{Doing as _, Result};

/// All of it. Dropped from the top: programs before their namespace.
#[derive(Debug)]
pub struct World {
    /// The proxy, where connections are redirected to.
    pub sidecar: Sidecar,
    /// The agent's clients.
    pub agent: Agent,
    /// Between sidecar and recorder.
    pub gate: Gate,
    /// Keeps the record.
    pub recorder: Recorder,
    /// "BigQuery".
    pub front: Front,
    /// Who the agent is.
    pub pod: Pod,
    /// Vouches for the front.
    pub google: TestCa,
    /// The pod's network.
    pub namespace: Namespace,
    auditor: Auditor,
    folder: TempDir,
}

impl World {
    /// Starts it before an emulator. A call is refused when its intent is not durable after `patience`.
    ///
    /// # Errors
    /// Something does not start.
    pub async fn start(tools: &Tools, upstream: Upstream, patience: Duration) -> Result<Self> {
        let folder = TempDir::with_prefix("bqwitness-").doing("making a folder for a pod")?;
        let own = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir(&path).map(|()| path).doing("making a folder for a pod")
        };
        let namespace = Namespace::make()?;
        let outside = namespace.outside();
        let google = TestCa::new(&own("google")?, "Test CA in Google's place")?;
        let front = Front::start_at(SocketAddr::new(outside, 443), &google, upstream).await?;
        let cluster = Cluster::new("https://kubernetes.default.svc.cluster.local")?;
        let recorder_ca = TestCa::new(&own("recorder-ca")?, "Test CA of the recorder")?;
        let (reader, pod) = (Pod::of("audit", "auditor"), Pod::of("agents", "billing"));
        let path = folder.path();
        let recorder = Recorder::start_at(outside, path, &recorder_ca, &cluster, &reader).await?;
        let auditor = Auditor::new(path, &reader, &cluster, &recorder)?;
        let gate = Gate::start(outside, &recorder_ca, &recorder.place()).await?;
        let sidecar =
            Sidecar::start_in(&namespace, path, &pod, &cluster, gate.place(), &google, patience).await?;
        let agent = Agent::redirected(tools, path.join("agent"), &namespace, sidecar.bundle())?;
        Ok(Self { sidecar, agent, gate, recorder, front, pod, google, namespace, auditor, folder })
    }

    /// Where its files lie.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Ends all of it in order, and audits what is left.
    ///
    /// # Errors
    /// Something does not stop, or does not hold.
    pub async fn end(self) -> Result<Ended> {
        self.sidecar.stop().await?;
        self.recorder.finish(self.gate, self.front, self.auditor, self.folder).await
    }

    /// The same where the sidecar has ended already.
    ///
    /// # Errors
    /// As [`World::end`].
    pub async fn end_without_sidecar(self) -> Result<Ended> {
        drop(self.sidecar);
        self.recorder.finish(self.gate, self.front, self.auditor, self.folder).await
    }
}

/// What is left of a world that has ended, and was audited.
#[derive(Debug)]
pub struct Ended {
    /// How the calls ended.
    pub account: Account,
    /// The recorder's directory.
    pub data: PathBuf,
    _folder: TempDir,
}

impl Recorder {
    async fn finish(self, gate: Gate, front: Front, auditor: Auditor, folder: TempDir) -> Result<Ended> {
        let (data, key) = (self.data().to_owned(), self.key());
        self.stop().await?;
        let account = audit::audit(&auditor, &data, &key, &front.arrivals(), &gate.receipts()).await?;
        Ok(Ended { account, data, _folder: folder })
    }
}
