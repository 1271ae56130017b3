//! What is stored becomes what is so, in five steps. Only the first and the last two touch anything outside:
//! [`dereference`] -> [`validate`] -> [`build`] -> [`apply`] -> [`status`]. What is seen on the way is noted for the record by [`enter`], which
//! needs none of the others to succeed.
//!
//! A pass is about a namespace: its connections share its pods, and decide among themselves whose they are.

pub mod apply;
pub mod build;
pub mod dereference;
pub mod enter;
pub mod status;
pub mod validate;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use connection::BigQueryConnection;
use connection::inject::Settings;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::events::Recorder as Events;
use kube::runtime::reflector::Store;
use kube::{Client, ResourceExt as _};

use crate::config::RecorderFiles;
use crate::coverage::State;
use crate::entries::diary::Diary;
use crate::entries::probes::Probes;
use crate::metrics::Metrics;
use crate::watch::Changes;

/// Changes are looked at together when they come within this time.
const TOGETHER: Duration = Duration::from_millis(200);

/// Everything is looked at anew this often, whatever changed.
const ANEW: Duration = Duration::from_secs(60);

/// After a failure, a namespace is looked at again this soon.
const AGAIN: Duration = Duration::from_secs(5);

/// Namespaces that the webhook is asked about; `None` before this replica has tried to write the configurations. Clones share it.
pub type Asked = Arc<RwLock<Option<BTreeSet<String>>>>;

/// The controller of the replica that leads.
pub struct Controller {
    /// To the API server.
    pub client: Client,
    /// All connections.
    pub connections: Store<BigQueryConnection>,
    /// All pods.
    pub pods: Store<Pod>,
    /// Namespaces where something changed.
    pub changes: Changes,
    /// What the operator decides for all connections.
    pub settings: Arc<Settings>,
    /// What proves the recorder of connections that name none.
    pub recorder: RecorderFiles,
    /// Namespaces that the webhook is asked about.
    pub asked: Asked,
    /// What is entered in the record.
    pub diary: Diary,
    /// Recorders that connections name themselves.
    pub probes: Probes,
    /// For people who look with `kubectl describe`.
    pub events: Events,
    /// What an SRE sees.
    pub metrics: Metrics,
    /// The state of each selected pod at the last look, by UID.
    pub last: HashMap<String, State>,
    /// Connections that were counted: namespace and name.
    pub counted: BTreeSet<(String, String)>,
}

impl Controller {
    /// Runs for ever.
    pub async fn run(mut self) {
        let mut due = tokio::time::Instant::now();
        loop {
            tokio::select! {
                changed = self.changes.next() => {
                    tokio::time::sleep(TOGETHER).await;
                    // A list that was made anew says of no namespace what went meanwhile.
                    let all = if changed.contains("") { self.namespaces() } else { BTreeSet::new() };
                    for namespace in changed.union(&all) {
                        self.namespace(namespace).await;
                    }
                }
                () = tokio::time::sleep_until(due) => {
                    due = tokio::time::Instant::now() + ANEW;
                    for namespace in &self.namespaces() {
                        self.namespace(namespace).await;
                    }
                }
            }
            self.forget_gone();
        }
    }

    fn namespaces(&self) -> BTreeSet<String> {
        let connections = self.connections.state();
        let here = connections.iter().filter_map(|connection| connection.namespace());
        here.chain(self.diary.namespaces()).collect()
    }

    async fn namespace(&mut self, namespace: &str) {
        let found = dereference::namespace(self, namespace);
        enter::connections(&self.diary, namespace, &found);
        enter::pods(&self.diary, namespace, &found, &self.settings);
        for connection in &found.connections {
            let name = connection.name_any();
            match self.connection(connection, &found).await {
                Ok(()) => self.metrics.reconciled("done"),
                Err(error) => {
                    self.metrics.reconciled("failed");
                    tracing::warn!(namespace, name, "looked at again in {AGAIN:?}: {error}");
                    let (changes, namespace) = (self.changes.clone(), namespace.to_owned());
                    tokio::spawn(async move {
                        tokio::time::sleep(AGAIN).await;
                        changes.mark(&namespace);
                    });
                }
            }
        }
    }

    async fn connection(
        &mut self,
        connection: &Arc<BigQueryConnection>,
        found: &dereference::Found,
    ) -> Result<(), kube::Error> {
        let valid = validate::connection(connection, found);
        let built = build::build(connection, &valid, found, &self.settings);
        let applied = apply::apply(self, connection, built).await?;
        status::update(self, connection, &valid, &applied).await
    }

    /// Connections that are gone have no numbers.
    fn forget_gone(&mut self) {
        let there: BTreeSet<_> = self
            .connections
            .state()
            .iter()
            .map(|connection| (connection.namespace().unwrap_or_default(), connection.name_any()))
            .collect();
        for (namespace, name) in self.counted.difference(&there) {
            self.metrics.forget(namespace, name, &State::NAMES);
        }
        self.counted = &self.counted & &there;
    }

    pub(crate) fn is_asked(&self, namespace: &str) -> Option<bool> {
        let asked = self.asked.read().unwrap_or_else(PoisonError::into_inner);
        asked.as_ref().map(|namespaces| namespaces.contains(namespace))
    }
}
