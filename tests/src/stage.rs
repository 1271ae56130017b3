//! The story's stage: "BigQuery", a cluster, a recorder, and two pods with an agent and a sidecar each.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use crate::agent::Agent;
use crate::ca::TestCa;
use crate::emulator::Emulator;
use crate::front::Front;
use crate::google::Google;
use crate::identity::{Cluster, Pod};
use crate::namespace::Namespace;
use crate::programs::{Auditor, Credential, PROVIDER, Recorder, Sidecar, Start};
use crate::tools::Tools;
use crate::trouble::{Doing as _, Result};

/// How long the sidecars wait for the recorder before they refuse a call. Short, as somebody watches; a busy machine must still
/// record a call within it.
pub const PATIENCE: Duration = Duration::from_secs(6);

/// How the agents' connections come to their sidecars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WayIn {
    /// Each pod has a network of its own that leads them there. Needs root.
    Redirect,
    /// The agents are asked to (`HTTPS_PROXY`).
    Connect,
}

impl WayIn {
    /// The better one that this machine allows.
    #[must_use]
    pub fn of_this_machine() -> Self {
        if Namespace::missing().is_some() { Self::Connect } else { Self::Redirect }
    }
}

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

/// A pod: an agent and its sidecar. Dropped from the top: programs before their namespace.
#[derive(Debug)]
pub struct Player {
    /// Who it is.
    pub pod: Pod,
    /// The agent's clients.
    pub agent: Agent,
    /// The proxy on its way out.
    pub sidecar: Sidecar,
    /// The pod's network, whose connections are redirected to the sidecar; `None`: the agent is told of the sidecar.
    pub namespace: Option<Namespace>,
}

impl Stage {
    /// Sets it; its files lie in `folder`. What takes longest, the emulator, starts while the rest does.
    ///
    /// # Errors
    /// Something does not start.
    pub async fn set(folder: &Path, way: WayIn) -> Result<Self> {
        let tools = Tools::find()?;
        let own = |name: &str| {
            let path = folder.join(name);
            std::fs::create_dir(&path).map(|()| path).doing("making a folder on the stage")
        };
        let ca = TestCa::new(&own("google")?, "Test CA in Google's place")?;
        let emulator = Emulator::launch(&tools, folder)?;
        let (billing_network, etl_network) = networks(way)?;
        let outside = billing_network.as_ref().map_or(Ipv4Addr::LOCALHOST.into(), Namespace::outside);
        let front = Front::start_at(front_address(outside), &ca, emulator.upstream()).await?;
        front.gzip(true);
        let cluster = Cluster::new("https://kubernetes.default.svc.cluster.local")?;
        let services = Google::start_at(SocketAddr::new(outside, 0), &ca).await?;
        front.demand(services.tokens());
        let reader = Pod::of("audit", "auditor");
        let recorder_ca = TestCa::new(&own("recorder-ca")?, "Test CA of the recorder")?;
        let recorder = Recorder::start_at(outside, folder, &recorder_ca, &cluster, &reader).await?;
        let auditor = Auditor::new(folder, &reader, &cluster, &recorder)?;
        let player = async |service_account: &str, namespace: Option<Namespace>| {
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
            let home = folder.join(format!("agent-{}", pod.name));
            let (sidecar, agent) = match &namespace {
                Some(namespace) => {
                    let sidecar = start.inside(namespace, &ca).await?;
                    let agent = Agent::redirected(&tools, home, namespace, sidecar.bundle())?;
                    (sidecar, agent.keyless(Vec::new()))
                }
                None => {
                    let sidecar = start.beside(&[], (front.address(), &ca)).await?;
                    let agent = Agent::new(&tools, home, sidecar.listen(), sidecar.bundle())?;
                    let variables = sidecar.variables()?;
                    (sidecar, agent.keyless(variables))
                }
            };
            Ok(Player { pod, agent, sidecar, namespace })
        };
        let (emulator, billing, etl) = tokio::try_join!(
            emulator.furnished(),
            player("billing", billing_network),
            player("etl", etl_network)
        )?;
        Ok(Self { billing, etl, auditor, front, google: services, recorder, emulator, tools })
    }

    /// Does the network bring the agents' connections to their sidecars?
    #[must_use]
    pub fn is_redirected(&self) -> bool {
        self.billing.namespace.is_some()
    }
}

/// A network for each pod that is to have one.
fn networks(way: WayIn) -> Result<(Option<Namespace>, Option<Namespace>)> {
    if way == WayIn::Connect {
        return Ok((None, None));
    }
    let first = Namespace::make()?;
    let second = first.another()?;
    Ok((Some(first), Some(second)))
}

/// In a network, clients look for BigQuery on the port where it is.
fn front_address(outside: IpAddr) -> SocketAddr {
    SocketAddr::new(outside, if outside.is_loopback() { 0 } else { 443 })
}
