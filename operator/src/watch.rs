//! What the API server has: connections and pods, kept up to date, and which namespaces changed since somebody looked.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt as _, reflector as reflect};
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use crate::metrics::Metrics;

/// Namespaces where something changed. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    namespaces: Arc<Mutex<BTreeSet<String>>>,
    changed: Arc<Notify>,
}

impl Changes {
    /// Something changed there.
    pub fn mark(&self, namespace: &str) {
        let new = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner).insert(namespace.to_owned());
        if new {
            self.changed.notify_one();
        }
    }

    /// Waits for a change, and takes all that there are.
    pub async fn next(&self) -> BTreeSet<String> {
        loop {
            let taken = std::mem::take(&mut *self.namespaces.lock().unwrap_or_else(PoisonError::into_inner));
            if !taken.is_empty() {
                return taken;
            }
            self.changed.notified().await;
        }
    }
}

/// How often a store is looked at that has not everything yet.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Waits until a store has all objects; false when its watch is gone. Of several who wait for one store, kube wakes the last
/// alone: so everyone looks again by himself.
pub async fn synced<K>(store: &Store<K>) -> bool
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    loop {
        if let Ok(ready) = tokio::time::timeout(LOOK_AGAIN, store.wait_until_ready()).await {
            return ready.is_ok();
        }
    }
}

/// What a watch saw.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'a, K> {
    /// An object is stored like this.
    There(&'a K),
    /// An object was deleted; it was like this.
    Gone(&'a K),
    /// All objects were listed anew: what is not in the store any more went unseen.
    Listed,
}

impl<K: Resource> Seen<'_, K> {
    /// The namespace where something changed; none when that may be anywhere.
    #[must_use]
    pub fn namespace(&self) -> String {
        match self {
            Self::There(object) | Self::Gone(object) => object.namespace().unwrap_or_default(),
            Self::Listed => String::new(),
        }
    }
}

/// Watches all objects of a kind in the whole cluster, for ever; `each` is told of every change, in order.
pub fn all<K>(
    api: Api<K>,
    what: &'static str,
    metrics: Metrics,
    each: impl Fn(Seen<'_, K>) + Send + Sync + 'static,
) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + Trim + 'static,
{
    let (store, writer) = reflector::store();
    let stream = watcher(api, watcher::Config::default()).modify(Trim::trim);
    let stream = reflect(writer, stream).default_backoff();
    tokio::spawn(async move {
        futures::pin_mut!(stream);
        while let Some(event) = stream.next().await {
            match event {
                Ok(Event::Apply(object) | Event::InitApply(object)) => each(Seen::There(&object)),
                Ok(Event::Delete(object)) => each(Seen::Gone(&object)),
                Ok(Event::InitDone) => each(Seen::Listed),
                Ok(Event::Init) => {}
                Err(error) => {
                    metrics.failed("watch");
                    tracing::warn!(what, "the watch is tried again: {error}");
                }
            }
        }
    });
    store
}

/// What of an object is kept in memory.
pub trait Trim {
    /// Takes away what nobody reads.
    fn trim(&mut self);
}

impl Trim for Pod {
    fn trim(&mut self) {
        self.metadata.managed_fields = None;
        let Some(spec) = &mut self.spec else { return };
        spec.volumes = None;
        spec.host_aliases = None;
        for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
            container.env = None;
            container.volume_mounts = None;
        }
    }
}

impl Trim for connection::BigQueryConnection {
    fn trim(&mut self) {
        self.metadata.managed_fields = None;
    }
}
