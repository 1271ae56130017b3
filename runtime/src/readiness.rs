//! Readiness: the process is ready when nothing that it waits for is left.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the process still waits for. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    waiting: Arc<Mutex<BTreeMap<u64, &'static str>>>,
}

/// One thing that is not ready; dropping it says that it is.
#[derive(Debug)]
#[must_use = "dropping this means: ready"]
pub struct Wait {
    id: u64,
    readiness: Readiness,
}

impl Readiness {
    /// From now on, and until the answer is dropped, the process waits for `what`.
    pub fn wait_for(&self, what: &'static str) -> Wait {
        let mut waiting = self.lock();
        let id = waiting.last_key_value().map_or(0, |(last, _)| last + 1);
        waiting.insert(id, what);
        Wait { id, readiness: self.clone() }
    }

    /// What it waits for; empty when ready.
    #[must_use]
    pub fn waiting(&self) -> Vec<&'static str> {
        self.lock().values().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, &'static str>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner) // a map is whole between any two calls
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.readiness.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_nothing_is_waited_for() {
        let readiness = Readiness::default();
        let (one, two) = (readiness.wait_for("recorder"), readiness.wait_for("listener"));
        assert_eq!(readiness.waiting(), ["recorder", "listener"]);
        drop(one);
        let three = readiness.wait_for("recorder");
        assert_eq!(readiness.waiting(), ["listener", "recorder"]);
        drop((two, three));
        assert!(readiness.waiting().is_empty());
    }
}
