//! Recorders that connections name themselves. The operator has no token that they take, so it looks at what they show everybody: is the
//! newest checkpoint there, and signed by the log's key?

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use connection::BigQueryConnection;
use connection::resource::Recorder;
use deliver::{PinnedKeys, Trouble, Way};
use kube::ResourceExt as _;
use kube::runtime::reflector::Store;

use crate::watch::Changes;

/// How often each is looked at.
const EVERY: Duration = Duration::from_secs(30);

/// Most recorders that are looked at; what is said of the others is that nobody looks.
const MAX_RECORDERS: usize = 64;

/// What a look found: the size of its log, or what is wrong.
pub type Found = Result<u64, Trouble>;

/// What was found. Clones share it.
#[derive(Clone, Default)]
pub struct Probes(Arc<Mutex<HashMap<Key, Found>>>);

/// A recorder as a connection names it: where it is, and what proves it.
type Key = (String, String, String);

fn key(recorder: &Recorder) -> Key {
    (recorder.url.clone(), recorder.ca.clone(), recorder.key.clone())
}

impl Probes {
    /// What was found of this recorder; nothing yet, or nobody looks.
    #[must_use]
    pub fn of(&self, recorder: &Recorder) -> Option<Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key(recorder)).cloned()
    }

    /// Looks at them, for ever.
    pub async fn keep(self, connections: Store<BigQueryConnection>, changes: Changes) {
        loop {
            self.look(&connections, &changes).await;
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn look(&self, connections: &Store<BigQueryConnection>, changes: &Changes) {
        let mut named: HashMap<Key, BTreeSet<String>> = HashMap::new();
        for connection in connections.state() {
            let Some(recorder) = &connection.spec.recorder else { continue };
            let known = named.len();
            match named.get_mut(&key(recorder)) {
                Some(namespaces) => {
                    namespaces.extend(connection.namespace());
                }
                None if known < MAX_RECORDERS => {
                    named.insert(key(recorder), connection.namespace().into_iter().collect());
                }
                None => {
                    tracing::warn!(most = MAX_RECORDERS, url = recorder.url, "nobody looks at this recorder");
                }
            }
        }
        let looks = named.keys().map(look);
        let looked = futures::future::join_all(looks).await;
        let mut found = HashMap::new();
        for ((key, namespaces), now) in named.into_iter().zip(looked) {
            let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
            if before.as_ref().map(is_well) != Some(is_well(&now)) {
                namespaces.iter().for_each(|namespace| changes.mark(namespace));
            }
            found.insert(key, now);
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }
}

/// What a condition says of it: not the size, which always grows.
fn is_well(found: &Found) -> Option<&'static str> {
    found.as_ref().err().map(|trouble| trouble.category)
}

async fn look((url, ca, key): &Key) -> Found {
    let unusable = |message: String| Trouble { category: "recorder_spec", message };
    let way = Way::fixed(ca).map_err(|error| unusable(error.to_string()))?;
    let keys = PinnedKeys::fixed(key).map_err(unusable)?;
    let uri = url.parse().map_err(|_| unusable(format!("{url} is no URL")))?;
    let looked = deliver::look(&uri, way, keys).await;
    let trouble =
        |error: deliver::DeliveryError| Trouble { category: error.category(), message: error.to_string() };
    looked.map(|checkpoint| checkpoint.size).map_err(trouble)
}
