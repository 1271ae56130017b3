//! What a reader may see, and whose an entry is.

use std::collections::{BTreeMap, BTreeSet};

use ledger::entry::{Entry, Role, Subject, Workload};
use ledger::search::access::Readable;
use ledger::statement::{BlobDeleted, Hole, Read, ReadExport, SessionLost};
use serde::Deserialize;
use uuid::Uuid;

/// The API group of the resources that reading is granted on. No API server has them: they are there for the granting.
pub const GROUP: &str = "bqwitness.dev";

/// What is done with the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Right {
    /// Look for calls and sessions.
    List,
    /// Follow new calls.
    Watch,
    /// Read single entries and their blobs.
    Get,
    /// Take out a bundle.
    Export,
}

impl Right {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::List, Self::Watch, Self::Get, Self::Export];

    /// Verb and resource, as a role grants them.
    #[must_use]
    pub fn describe(self) -> (&'static str, &'static str) {
        match self {
            Self::List => ("list", "entries"),
            Self::Watch => ("watch", "entries"),
            Self::Get => ("get", "entries"),
            Self::Export => ("create", "exports"),
        }
    }
}

/// What a reader may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The whole log: also what the recorder and the operators say.
    Everything,
    /// Of these clusters that much.
    Of(BTreeMap<String, Within>),
}

/// What a reader may see of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Within {
    /// All of it, its operator's entries included.
    All,
    /// What sidecars in these namespaces say.
    Namespaces(BTreeSet<String>),
}

impl Scope {
    /// These namespaces of a cluster.
    #[must_use]
    pub fn namespaces(cluster: &str, namespaces: impl IntoIterator<Item = String>) -> Self {
        let within = Within::Namespaces(namespaces.into_iter().collect());
        Self::Of([(cluster.to_owned(), within)].into())
    }

    /// Is there nothing to see?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let nothing = |within: &Within| matches!(within, Within::Namespaces(names) if names.is_empty());
        matches!(self, Self::Of(clusters) if clusters.values().all(nothing))
    }

    /// May what this workload said in this role be seen? What an operator says is about the whole of its cluster.
    #[must_use]
    pub fn holds(&self, role: Role, workload: &Workload) -> bool {
        let Self::Of(clusters) = self else { return true };
        match clusters.get(&workload.cluster) {
            None => false,
            Some(Within::All) => true,
            Some(Within::Namespaces(names)) => role == Role::Sidecar && names.contains(&workload.namespace),
        }
    }

    /// Is all that `other` holds in this one too?
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let Self::Of(own) = self else { return true };
        let Self::Of(others) = other else { return false };
        others.iter().all(|(cluster, within)| match (own.get(cluster), within) {
            (Some(Within::All), _) => true,
            (Some(Within::Namespaces(own)), Within::Namespaces(theirs)) => theirs.is_subset(own),
            (None, Within::Namespaces(theirs)) => theirs.is_empty(),
            _ => false,
        })
    }

    /// What two grants hold together.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let (Self::Of(mut own), Self::Of(others)) = (self, other) else { return Self::Everything };
        for (cluster, theirs) in others {
            let both = match (own.remove(&cluster), theirs) {
                (Some(Within::All), _) | (_, Within::All) => Within::All,
                (Some(Within::Namespaces(mut names)), Within::Namespaces(more)) => {
                    names.extend(more);
                    Within::Namespaces(names)
                }
                (None, more) => more,
            };
            own.insert(cluster, both);
        }
        Self::Of(own)
    }

    /// Of this only what is in a namespace, of whichever cluster.
    #[must_use]
    pub fn only(self, namespace: &str) -> Self {
        let Self::Of(clusters) = self else { return self };
        let narrowed = clusters.into_iter().map(|(cluster, within)| {
            let seen = match within {
                Within::All => true,
                Within::Namespaces(names) => names.contains(namespace),
            };
            let names = seen.then(|| namespace.to_owned()).into_iter().collect();
            (cluster, Within::Namespaces(names))
        });
        Self::Of(narrowed.collect())
    }

    /// The same as scopes of one namespace or one cluster each, if these are at most so many; else itself.
    #[must_use]
    pub fn parts(&self, most: usize) -> Vec<Self> {
        let Self::Of(clusters) = self else { return vec![self.clone()] };
        let parts: Vec<Self> = clusters
            .iter()
            .flat_map(|(cluster, within)| match within {
                Within::All => vec![Self::Of([(cluster.clone(), Within::All)].into())],
                Within::Namespaces(names) => {
                    names.iter().map(|name| Self::namespaces(cluster, [name.clone()])).collect()
                }
            })
            .take(most + 1)
            .collect();
        if parts.len() > most { vec![self.clone()] } else { parts }
    }

    /// For the reader: of which clusters what; nothing where it is everything.
    #[must_use]
    pub fn readable(&self) -> Vec<Readable> {
        let Self::Of(clusters) = self else { return Vec::new() };
        let readable = clusters.iter().map(|(cluster, within)| Readable {
            cluster: cluster.clone(),
            namespaces: match within {
                Within::All => None,
                Within::Namespaces(names) => Some(names.iter().cloned().collect()),
            },
        });
        readable.collect()
    }
}

/// Whose an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A workload's: what it said itself.
    Workload(Role, Workload),
    /// The recorder's word about a session: its session's.
    Session(Uuid),
    /// The recorder's word about a text that this entry names: whose that is.
    Entry(u64),
    /// The recorder's word about a read: that reader's, of that cluster.
    Reader(String, String),
    /// The recorder's own: of those alone who read everything.
    Log,
}

/// What the recorder says about somebody.
#[derive(Default, Deserialize)]
#[serde(default)]
struct About {
    lost: Option<SessionLost>,
    hole: Option<Hole>,
    deleted: Option<BlobDeleted>,
    search: Option<Read>,
    follow: Option<Read>,
    sessions: Option<Read>,
    operators: Option<Read>,
    entries: Option<Read>,
    export: Option<ReadExport>,
}

/// The namespace of the connection that a `connection.*` or `coverage.*` is about.
fn connection_of(statement: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Said {
        kind: String,
        connection: Option<Connection>,
    }
    #[derive(Deserialize)]
    struct Connection {
        namespace: String,
    }
    let Said { kind, connection } = serde_json::from_slice(statement).ok()?;
    let about_one = kind.starts_with("connection.") || kind.starts_with("coverage.");
    connection.filter(|_| about_one).map(|connection| connection.namespace)
}

/// Whose this entry is.
#[must_use]
pub fn owner(entry: Entry<'_>) -> Owner {
    if let Subject::Workload(workload) = entry.envelope.subject {
        return match (entry.envelope.role, connection_of(entry.statement)) {
            // An operator speaks for its cluster; what it says of a connection is of the connection's namespace, as in the index.
            (Role::Operator, Some(namespace)) => {
                Owner::Workload(Role::Sidecar, Workload { namespace, ..workload })
            }
            (role, _) => Owner::Workload(role, workload),
        };
    }
    // What can't be read is nobody's but theirs who read everything.
    let about: About = serde_json::from_slice(entry.statement).unwrap_or_default();
    let session = about.lost.map(|lost| lost.session).or(about.hole.map(|hole| hole.session));
    if let Some(session) = session {
        return Owner::Session(session);
    }
    if let Some(first) = about.deleted.and_then(|deleted| deleted.entries.first().copied()) {
        return Owner::Entry(first);
    }
    let read = [about.search, about.follow, about.sessions, about.operators, about.entries]
        .into_iter()
        .flatten()
        .next();
    let reader = read.map(|read| (read.cluster, read.reader));
    let reader = reader.or(about.export.map(|export| (export.cluster, export.reader)));
    reader.map_or(Owner::Log, |(cluster, reader)| Owner::Reader(cluster, reader))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use ledger::entry::Envelope;
    use serde_json::json;

    fn workload(cluster: &str, namespace: &str) -> Workload {
        Workload {
            cluster: cluster.into(),
            namespace: namespace.into(),
            service_account: "billing".into(),
            pod: "billing-0".into(),
            pod_uid: "u".into(),
            node: None,
        }
    }

    fn of(namespaces: &[&str]) -> Scope {
        Scope::namespaces("prod", namespaces.iter().map(|name| (*name).to_owned()))
    }

    fn all_of(cluster: &str) -> Scope {
        Scope::Of([(cluster.to_owned(), Within::All)].into())
    }

    /// A namespace is one of its cluster: others have namespaces of the same names.
    #[test]
    fn a_namespaces_reader_sees_its_sidecars_and_nothing_else() {
        let scope = of(&["agents"]);
        for (role, who, seen) in [
            (Role::Sidecar, workload("prod", "agents"), true),
            (Role::Sidecar, workload("prod", "sales"), false),
            (Role::Sidecar, workload("prod", "agents-2"), false),
            (Role::Sidecar, workload("eu", "agents"), false),
            (Role::Operator, workload("prod", "agents"), false),
        ] {
            assert_eq!(scope.holds(role, &who), seen, "{role:?} {who:?}");
            assert!(Scope::Everything.holds(role, &who));
            assert_eq!(all_of("prod").holds(role, &who), who.cluster == "prod");
            assert!(!of(&[]).holds(role, &who));
        }
        assert!(of(&[]).is_empty() && Scope::Of(BTreeMap::new()).is_empty());
        assert!(!scope.is_empty() && !Scope::Everything.is_empty() && !all_of("prod").is_empty());
    }

    #[test]
    fn scopes_are_compared_joined_and_narrowed() {
        for (one, other, covers) in [
            (Scope::Everything, all_of("prod"), true),
            (all_of("prod"), Scope::Everything, false),
            (all_of("prod"), of(&["agents", "sales"]), true),
            (of(&["agents", "sales"]), of(&["agents"]), true),
            (of(&["agents"]), of(&["agents", "sales"]), false),
            (of(&["agents"]), all_of("prod"), false),
            (all_of("eu"), of(&["agents"]), false),
            (of(&["agents"]), of(&[]), true),
        ] {
            assert_eq!(one.covers(&other), covers, "{one:?} {other:?}");
        }
        assert_eq!(of(&["agents"]).or(of(&["sales"])), of(&["agents", "sales"]));
        assert_eq!(of(&["agents"]).or(all_of("prod")), all_of("prod"));
        assert_eq!(of(&["agents"]).or(Scope::Everything), Scope::Everything);
        assert_eq!(of(&["agents", "sales"]).only("sales"), of(&["sales"]));
        assert_eq!(all_of("prod").only("sales"), of(&["sales"]));
        assert!(of(&["agents"]).only("sales").is_empty());
        assert_eq!(Scope::Everything.only("sales"), Scope::Everything, "the question itself narrows it");
    }

    #[test]
    fn an_entry_is_whose_it_is_about() {
        let log = || Subject::Log { log: "example.com/log".into() };
        let whose = |subject: Subject, role, statement: serde_json::Value| {
            let envelope = Envelope { received: Timestamp::UNIX_EPOCH, subject, role };
            owner(Entry { envelope, statement: statement.to_string().as_bytes() })
        };
        let says = |statement| whose(log(), Role::Recorder, statement);
        let session = Uuid::from_u128(7);
        let pod = workload("prod", "agents");
        let hole = json!({"hole": {"session": session, "from": 1, "to": 2}});
        assert_eq!(
            whose(Subject::Workload(pod.clone()), Role::Sidecar, hole.clone()),
            Owner::Workload(Role::Sidecar, pod),
            "who speaks is the envelope's to say"
        );
        let operator = workload("prod", "bqwitness-system");
        let by_operator = |statement| whose(Subject::Workload(operator.clone()), Role::Operator, statement);
        let accepted = json!({"kind": "connection.accepted", "connection": {"namespace": "agents"}});
        let of_agents = Workload { namespace: "agents".into(), ..operator.clone() };
        assert_eq!(by_operator(accepted), Owner::Workload(Role::Sidecar, of_agents));
        for whole in [
            json!({"kind": "session.start", "connection": {"namespace": "agents"}}),
            json!({"kind": "coverage.pod"}),
        ] {
            assert_eq!(by_operator(whole), Owner::Workload(Role::Operator, operator.clone()));
        }
        assert_eq!(says(hole), Owner::Session(session));
        let lost = json!({"lost": {"session": session, "lastSeq": 1, "openIntents": [], "open": 0}});
        assert_eq!(says(lost), Owner::Session(session));
        let read =
            json!({"reader": "audit/auditor", "cluster": "prod", "filter": "", "found": 1, "requests": 1});
        let theirs = Owner::Reader("prod".into(), "audit/auditor".into());
        assert_eq!(says(json!({"search": read})), theirs);
        assert_eq!(says(json!({"entries": read})), theirs);
        assert_eq!(says(json!({"log": {"stopping": false}})), Owner::Log);
        assert_eq!(says(json!(["something new"])), Owner::Log);
    }
}
