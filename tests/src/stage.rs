//! The story's stage: "BigQuery", a cluster, a recorder, and two pods with an agent and a sidecar each.

use std::path::Path;
use std::time::Duration;

use crate::agent::Agent;
use crate::ca::TestCa;
use crate::emulator::Emulator;
use crate::front::Front;
use crate::google::Google;
use crate::identity::{Cluster, Pod};
use crate::programs::{Auditor, Credential, PROVIDER, Recorder, Sidecar, Start};
use crate::tools::Tools;
use crate::trouble::{Doing as _, Result};

/// How long the sidecars wait for the recorder before they refuse a call. Short, as somebody watches.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// All that is on it. Dropped, everything stops.
#[derive(Debug)]
pub struct Stage {
    /// An agent that reads invoices.
    pub billing: Player,
    /// An agent that tidies up imports.
    pub etl: Player,
    /// Somebody who may search the record.
    pub auditor: Auditor,
    /// What counts the requests that reach "BigQuery".
    pub front: Front,
    /// Turns the pods' identities into credentials.
    pub google: Google,
    /// Keeps the record.
    pub recorder: Recorder,
    /// "BigQuery" itself.
    pub emulator: Emulator,
    /// Which tools it is made with.
    pub tools: Tools,
}

/// A pod: an agent and its sidecar.
#[derive(Debug)]
pub struct Player {
    /// Who it is.
    pub pod: Pod,
    /// The agent's clients.
    pub agent: Agent,
    /// The proxy on its way out.
    pub sidecar: Sidecar,
}

impl Stage {
    /// Sets it; its files lie in `folder`. What takes longest, the emulator, starts while the rest does.
    ///
    /// # Errors
    /// Something does not start.
    pub async fn set(folder: &Path) -> Result<Self> {
        let tools = Tools::find()?;
        let own = |name: &str| {
            let path = folder.join(name);
            std::fs::create_dir(&path).map(|()| path).doing("making a folder on the stage")
        };
        let google = TestCa::new(&own("google")?, "Test CA in Google's place")?;
        let emulator = Emulator::launch(&tools, folder)?;
        let front = Front::start(&google, emulator.upstream()).await?;
        let cluster = Cluster::new("https://kubernetes.default.svc.cluster.local")?;
        let services = Google::start(&google).await?;
        front.demand(services.tokens());
        let reader = Pod::of("audit", "auditor");
        let recorder_ca = TestCa::new(&own("recorder-ca")?, "Test CA of the recorder")?;
        let recorder = Recorder::start(folder, &recorder_ca, &cluster, &reader).await?;
        let auditor = Auditor::new(folder, &reader, &cluster, &recorder)?;
        let player = async |service_account: &str| {
            let pod = Pod::of("agents", service_account);
            services.set_up(PROVIDER, &cluster, &pod);
            let start = Start {
                folder,
                pod: &pod,
                cluster: &cluster,
                recorder: &recorder.place(),
                patience: PATIENCE,
                credential: Credential::Federated(&services),
                log_level: "info",
            };
            let sidecar = start.beside(&[], (front.address(), &google)).await?;
            let home = folder.join(format!("agent-{}", pod.name));
            let agent = Agent::new(&tools, home, sidecar.listen(), sidecar.bundle())?;
            let agent = agent.keyless(sidecar.variables()?);
            Ok(Player { pod, agent, sidecar })
        };
        let (emulator, billing, etl) =
            tokio::try_join!(emulator.furnished(), player("billing"), player("etl"))?;
        Ok(Self { billing, etl, auditor, front, google: services, recorder, emulator, tools })
    }
}
