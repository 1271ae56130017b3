//! Under whose authority calls ran: which generation of a connection each names, and what operators entered of that generation. It is
//! worked out from the entries of a log or of a part of one.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::digest::Digest;
use crate::entry::{Entry, Role, Subject};
use crate::statement::{Connection, Statement};

/// Generations that are told apart, both of those that calls name and of those that operators entered. Of what is beyond only the
/// number is kept ([`Authority::calls_beyond`], [`Authority::versions_beyond`]), so that memory stays flat.
pub const MAX_GENERATIONS: usize = 4096;

/// Collects what entries say of connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authority {
    used: BTreeMap<Used, u64>,
    calls_unnamed: u64,
    calls_beyond: u64,
    versions: Vec<Version>,
    versions_beyond: u64,
    pods: u64,
}

/// A generation as calls name it: cluster, namespace, name, UID, generation, digest of the spec.
type Used = (String, String, String, String, u64, Option<Digest>);

/// One `connection.*` entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    /// Its index.
    pub index: u64,
    /// When it was received.
    pub received: Timestamp,
    /// The operator's cluster.
    pub cluster: String,
    /// Which connection and generation.
    pub connection: Connection,
    /// What was said of it.
    #[serde(flatten)]
    pub said: Said,
}

/// What an operator said of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "what", rename_all = "camelCase")]
pub enum Said {
    /// The generation was stored.
    #[serde(rename_all = "camelCase")]
    Accepted {
        /// Who asked for it; `None` when nobody knows.
        by: Option<String>,
        /// The digest that the entry says is of the spec that it has beside it.
        spec_is_its_digests: bool,
    },
    /// The connection is gone.
    Deleted {
        /// The operator saw it go.
        seen: bool,
    },
}

/// A generation that calls ran under, and who authorized it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Generation {
    /// The cluster of those who called.
    pub cluster: String,
    /// As their sidecars named it.
    pub connection: Connection,
    /// How many.
    pub calls: u64,
    /// The first entry that says that this generation was accepted; `None` when none here does.
    pub accepted: Option<Version>,
}

/// What is known of a generation's authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing<'a> {
    /// Somebody asked for this very spec.
    Asked {
        /// Who.
        by: &'a str,
        /// As this entry says.
        entry: &'a Version,
    },
    /// It was accepted, and nobody knows on whose word.
    Nobody(&'a Version),
    /// What was accepted as this generation is another spec than the one that the calls name.
    Other(&'a Version),
    /// No entry here says that it was accepted.
    Unknown,
}

impl Generation {
    /// What is known of it.
    #[must_use]
    pub fn standing(&self) -> Standing<'_> {
        let Some(entry) = &self.accepted else { return Standing::Unknown };
        match &entry.said {
            Said::Accepted { spec_is_its_digests, .. }
                if !spec_is_its_digests || entry.connection.spec_digest != self.connection.spec_digest =>
            {
                Standing::Other(entry)
            }
            Said::Accepted { by: Some(by), .. } => Standing::Asked { by, entry },
            Said::Accepted { by: None, .. } => Standing::Nobody(entry),
            Said::Deleted { .. } => Standing::Unknown,
        }
    }
}

impl Authority {
    /// Follows one entry.
    pub fn take(&mut self, index: u64, entry: &Entry<'_>, statement: &Statement) {
        let Subject::Workload(workload) = &entry.envelope.subject else { return };
        match entry.envelope.role {
            Role::Sidecar if statement.body.intent.is_some() => {
                self.call(&workload.cluster, statement.connection.as_ref());
            }
            Role::Operator => {
                self.pods += u64::from(statement.body.coverage.is_some());
                if let Some((connection, said)) = statement.connection.as_ref().zip(said(statement)) {
                    let (cluster, received) = (workload.cluster.clone(), entry.envelope.received);
                    self.version(Version { index, received, cluster, connection: connection.clone(), said });
                }
            }
            _ => {}
        }
    }

    fn call(&mut self, cluster: &str, connection: Option<&Connection>) {
        let Some(Connection { namespace, name, uid, generation, spec_digest }) = connection else {
            self.calls_unnamed += 1;
            return;
        };
        let key =
            (cluster.to_owned(), namespace.clone(), name.clone(), uid.clone(), *generation, *spec_digest);
        let room = self.used.len() < MAX_GENERATIONS;
        match self.used.get_mut(&key) {
            Some(calls) => *calls += 1,
            None if room => drop(self.used.insert(key, 1)),
            None => self.calls_beyond += 1,
        }
    }

    fn version(&mut self, version: Version) {
        if self.versions.len() < MAX_GENERATIONS {
            self.versions.push(version);
        } else {
            self.versions_beyond += 1;
        }
    }

    /// The generations that calls ran under, by cluster, namespace, name and generation, each with who authorized it.
    #[must_use]
    pub fn generations(&self) -> Vec<Generation> {
        let mut accepted = BTreeMap::new();
        for version in self.versions.iter().filter(|version| matches!(version.said, Said::Accepted { .. })) {
            accepted.entry(named(&version.cluster, &version.connection)).or_insert(version);
        }
        let generation =
            |((cluster, namespace, name, uid, generation, spec_digest), calls): (&Used, &u64)| {
                let connection = Connection {
                    namespace: namespace.clone(),
                    name: name.clone(),
                    uid: uid.clone(),
                    generation: *generation,
                    spec_digest: *spec_digest,
                };
                // Outside of a cluster a connection has no UID, and nobody accepts it.
                let known = accepted.get(&named(cluster, &connection)).filter(|_| !uid.is_empty());
                let accepted = known.map(|version| (*version).clone());
                Generation { cluster: cluster.clone(), connection, calls: *calls, accepted }
            };
        self.used.iter().map(generation).collect()
    }

    /// What operators said of connections, in the log's order.
    #[must_use]
    pub fn versions(&self) -> &[Version] {
        &self.versions
    }

    /// Entries about connections of which only the number is kept.
    #[must_use]
    pub fn versions_beyond(&self) -> u64 {
        self.versions_beyond
    }

    /// Calls of generations of which only the number is kept.
    #[must_use]
    pub fn calls_beyond(&self) -> u64 {
        self.calls_beyond
    }

    /// Calls that name no connection.
    #[must_use]
    pub fn calls_unnamed(&self) -> u64 {
        self.calls_unnamed
    }

    /// Entries of operators about pods.
    #[must_use]
    pub fn pods(&self) -> u64 {
        self.pods
    }

    /// Entries of operators about connections.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.versions.len() as u64 + self.versions_beyond
    }
}

/// What is one generation.
fn named<'a>(cluster: &'a str, connection: &'a Connection) -> (&'a str, &'a str, &'a str, &'a str, u64) {
    let Connection { namespace, name, uid, generation, .. } = connection;
    (cluster, namespace, name, uid, *generation)
}

fn said(statement: &Statement) -> Option<Said> {
    match (&statement.body.accepted, statement.body.gone) {
        (Some(accepted), _) => {
            let digest = statement.connection.as_ref().and_then(|connection| connection.spec_digest);
            Some(Said::Accepted {
                by: accepted.by.as_ref().map(|by| by.user.clone()),
                spec_is_its_digests: digest == Some(accepted.spec_digest()),
            })
        }
        (None, Some(gone)) => Some(Said::Deleted { seen: gone.seen }),
        (None, None) => None,
    }
}
