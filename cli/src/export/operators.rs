//! What operators said of what is exported: who authorized it, and whether its pods were under recording.

use std::collections::{BTreeSet, HashSet};

use ledger::entry::Workload;
use ledger::search::cluster::{ConnectionEntry, ConnectionQuery, CoverageEntry, CoverageQuery};
use ledger::search::{MAX_LIMIT, Query};
use ledger::statement::Connection;

use super::select::covers;
use crate::error::CliError;
use crate::reader::Reader;

/// What was selected, as far as operators speak of it.
#[derive(Debug, Default)]
pub(super) struct Concern {
    /// Connections that were served, as `namespace/name`.
    served: BTreeSet<String>,
    /// Generations that were served: cluster, UID, generation.
    generations: HashSet<(String, String, u64)>,
    /// The pods' cluster and UID.
    pods: HashSet<(String, String)>,
}

impl Concern {
    /// A pod under a connection.
    pub(super) fn add(&mut self, pod: &Workload, connection: Option<&Connection>) {
        self.pods.insert((pod.cluster.clone(), pod.pod_uid.clone()));
        if let Some(connection) = connection {
            self.served.insert(full_name(connection));
            let generation = (pod.cluster.clone(), connection.uid.clone(), connection.generation);
            self.generations.insert(generation);
        }
    }
}

/// Where operators' entries lie that belong to the answer to `query`, in a log of `size` entries. `calls` says that only calls were
/// asked for, and not all that somebody did: then only their own pods and connections count.
pub(super) fn entries(
    reader: &Reader,
    query: &Query,
    mut concern: Concern,
    calls: bool,
    size: u64,
) -> Result<BTreeSet<u64>, CliError> {
    let mut indexes = BTreeSet::new();
    for question in coverage_questions(query, &concern, calls) {
        let only = (calls || query.session.is_some()).then_some(&concern.pods);
        let told = coverage(reader, question, size)?.into_iter();
        let told: Vec<_> = told.filter(|told| is_of(told, query.agent.as_deref(), only)).collect();
        concern.served.extend(told.iter().filter_map(|told| told.connection.as_ref()).map(full_name));
        indexes.extend(told.iter().map(|told| told.index));
    }
    for question in connection_questions(query, &concern, calls) {
        indexes.extend(in_force(&connections(reader, question, size)?, query, &concern));
    }
    Ok(indexes.into_iter().filter(|index| *index < size).collect())
}

fn full_name(connection: &Connection) -> String {
    format!("{}/{}", connection.namespace, connection.name)
}

fn coverage_questions(query: &Query, concern: &Concern, calls: bool) -> Vec<CoverageQuery> {
    let question = CoverageQuery {
        namespace: query.namespace.clone(),
        connection: query.connection.clone(),
        pod: query.pod.clone(),
        since: query.since,
        until: query.until,
        ..CoverageQuery::default()
    };
    if query.connection.is_none() && (calls || query.session.is_some()) {
        let of = |name: &String| CoverageQuery { connection: Some(name.clone()), ..question.clone() };
        return concern.served.iter().map(of).collect();
    }
    let of_agent = || query.agent.as_deref()?.split_once('/').map(|(namespace, _)| namespace.to_owned());
    vec![CoverageQuery { namespace: query.namespace.clone().or_else(of_agent), ..question }]
}

/// Is it of this agent, and of one of these pods?
fn is_of(told: &CoverageEntry, agent: Option<&str>, pods: Option<&HashSet<(String, String)>>) -> bool {
    let said = &told.coverage;
    let of_agent = agent.is_none_or(|agent| match agent.split_once('/') {
        Some((namespace, "")) => said.namespace == namespace,
        Some((namespace, account)) => (&*said.namespace, &*said.service_account) == (namespace, account),
        None => false,
    });
    let pod = || (told.subject.cluster.clone(), said.pod_uid.clone());
    of_agent && pods.is_none_or(|pods| pods.contains(&pod()))
}

fn coverage(reader: &Reader, mut question: CoverageQuery, size: u64) -> Result<Vec<CoverageEntry>, CliError> {
    (question.limit, question.wait) = (Some(MAX_LIMIT), Some(size));
    let mut found = Vec::new();
    loop {
        let answer = reader.coverage(&question)?;
        covers(answer.size, size)?;
        found.extend(answer.entries);
        question.before = answer.next;
        if answer.next.is_none() {
            return Ok(found);
        }
    }
}

fn connection_questions(query: &Query, concern: &Concern, calls: bool) -> Vec<ConnectionQuery> {
    let question = ConnectionQuery { namespace: query.namespace.clone(), ..ConnectionQuery::default() };
    let narrower = [&query.agent, &query.pod, &query.connection].into_iter().any(Option::is_some);
    if query.namespace.is_some() && !narrower && !calls && query.session.is_none() {
        return vec![question];
    }
    let names = concern.served.iter().chain(&query.connection).collect::<BTreeSet<_>>();
    let of = |name: &String| ConnectionQuery { connection: Some(name.clone()), ..question.clone() };
    names.into_iter().map(of).collect()
}

/// What is known of an entry about a connection, for choosing; the specs themselves are not held.
struct Version {
    index: u64,
    received: jiff::Timestamp,
    generation: (String, String, u64),
    deleted: bool,
}

impl From<ConnectionEntry> for Version {
    fn from(entry: ConnectionEntry) -> Self {
        let ConnectionEntry { index, received, subject, connection, accepted: _, gone } = entry;
        let generation = (subject.cluster, connection.uid, connection.generation);
        Self { index, received, generation, deleted: gone.is_some() }
    }
}

/// All of them, newest first.
fn connections(reader: &Reader, mut question: ConnectionQuery, size: u64) -> Result<Vec<Version>, CliError> {
    (question.limit, question.wait) = (Some(MAX_LIMIT), Some(size));
    let mut found = Vec::new();
    loop {
        let answer = reader.connections(&question)?;
        covers(answer.size, size)?;
        found.extend(answer.entries.into_iter().map(Version::from));
        question.before = answer.next;
        if answer.next.is_none() {
            return Ok(found);
        }
    }
}

/// Of these, which come newest first: what was said in the period, what was in force when it began, and the generations that were served,
/// whenever they were entered.
fn in_force(versions: &[Version], query: &Query, concern: &Concern) -> Vec<u64> {
    let mut before = HashSet::new();
    let mut chosen = Vec::new();
    for version in versions {
        let (cluster, uid, _) = &version.generation;
        let earlier = query.since.is_some_and(|since| version.received < since);
        let later = query.until.is_some_and(|until| version.received >= until);
        let last_before = earlier && before.insert((cluster, uid)) && !version.deleted;
        let served = !version.deleted && concern.generations.contains(&version.generation);
        if served || last_before || !(earlier || later) {
            chosen.push(version.index);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn version(index: u64, uid: &str, generation: u64, deleted: bool) -> Version {
        let received = at(i64::try_from(index).unwrap());
        Version { index, received, generation: ("prod".into(), uid.into(), generation), deleted }
    }

    #[test]
    fn what_was_in_force_is_chosen() {
        let versions = [
            version(90, "b", 3, false),
            version(50, "b", 2, false),
            version(40, "a", 3, true),
            version(30, "b", 1, false),
            version(20, "a", 2, false),
            version(10, "a", 1, false),
        ];
        let chosen = |since: Option<i64>, until: Option<i64>, served: &[(&str, u64)]| {
            let query = Query { since: since.map(at), until: until.map(at), ..Query::default() };
            let generations = served.iter().map(|(uid, n)| ("prod".to_owned(), (*uid).to_owned(), *n));
            let concern = Concern { generations: generations.collect(), ..Concern::default() };
            in_force(&versions, &query, &concern)
        };
        assert_eq!(chosen(None, None, &[]), [90, 50, 40, 30, 20, 10]);
        // Of b the generation before; a was deleted before.
        assert_eq!(chosen(Some(45), Some(60), &[]), [50, 30]);
        assert_eq!(chosen(Some(35), Some(60), &[]), [50, 40, 30, 20]);
        // Pods outlive what they were created under, and an operator may enter it late.
        assert_eq!(chosen(Some(45), Some(60), &[("a", 1), ("b", 3)]), [90, 50, 30, 10]);
        assert_eq!(chosen(Some(95), None, &[]), [90]);
    }

    #[test]
    fn what_is_asked_of_operators_is_what_was_asked() {
        let mut concern = Concern::default();
        concern.served.insert("agents/billing".into());
        let names = |questions: Vec<ConnectionQuery>| {
            questions.into_iter().map(|q| (q.namespace, q.connection)).collect::<Vec<_>>()
        };
        let text = |text: &str| Some(text.to_owned());
        let namespace = Query { namespace: text("agents"), ..Query::default() };
        assert_eq!(names(connection_questions(&namespace, &concern, false)), [(text("agents"), None)]);
        let one = [(text("agents"), text("agents/billing"))];
        assert_eq!(names(connection_questions(&namespace, &concern, true)), one);
        let agent = Query { agent: text("agents/etl"), ..Query::default() };
        assert_eq!(names(connection_questions(&agent, &concern, false)), [(None, text("agents/billing"))]);
        let asked = coverage_questions(&agent, &concern, false);
        assert_eq!((asked.len(), &asked[0].namespace, &asked[0].connection), (1, &text("agents"), &None));
        let asked = coverage_questions(&agent, &concern, true);
        assert_eq!((asked.len(), &asked[0].namespace), (1, &None), "of the calls' own connections");
        let connection = Query { connection: text("agents/new"), ..Query::default() };
        let both = [(None, text("agents/billing")), (None, text("agents/new"))];
        assert_eq!(names(connection_questions(&connection, &concern, false)), both);
    }
}
