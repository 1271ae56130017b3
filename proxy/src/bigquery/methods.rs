//! Which method of an API a host, a verb and a path name. The tables themselves are generated: `method_table.rs` and
//! `sister_table.rs`.

use super::method_table::REST_METHODS;
use super::path::identifier;
use super::sister_table::SISTERS;

/// One row of the table.
pub(super) struct RestMethod {
    /// Discovery id, without `bigquery.`; a sister's with its own name (`bigqueryconnection.projects...`).
    pub(super) name: &'static str,
    /// HTTP verb.
    pub(super) verb: &'static str,
    /// Path after the base path, if there is one: `projects/{projectId}/datasets/{datasetId}:undelete`
    pub(super) path: &'static str,
    /// Also served under the upload paths.
    pub(super) upload: bool,
}

/// A service beside BigQuery's own, on a host of its own: connections, reservations, transfers, data policies.
pub(super) struct Sister {
    /// First label of its host's name.
    pub(super) name: &'static str,
    /// Its methods, in all versions.
    pub(super) methods: &'static [RestMethod],
}

/// Base paths under which the methods are served.
const BASE: &str = "/bigquery/v2/";
const UPLOAD_BASES: [&str; 2] = ["/upload/bigquery/v2/", "/resumable/upload/bigquery/v2/"];

/// What a path names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Resource {
    pub(super) project: Option<String>,
    pub(super) dataset: Option<String>,
    pub(super) table: Option<String>,
    pub(super) job: Option<String>,
}

/// A method, as a path named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) name: &'static str,
    pub(super) resource: Resource,
    /// Found under an upload path.
    pub(super) upload: bool,
}

/// The method that `verb` and `path` name on this host; `None` unless exactly one reading of the path exists and the host's
/// table has it.
pub(super) fn find(host: &str, verb: &str, path: &str) -> Option<Found> {
    match sister(host) {
        Some(sister) => find_in(sister.methods.iter(), verb, path.strip_prefix('/')?, false),
        None => find_own(verb, path),
    }
}

/// The sister service that answers under this name: `bigqueryconnection.googleapis.com`,
/// `us-bigqueryconnection.googleapis.com`, `bigqueryconnection.us.rep.googleapis.com`.
pub(super) fn sister(host: &str) -> Option<&'static Sister> {
    let mut words = host.split(['.', '-', ':']);
    words.find_map(|word| SISTERS.iter().find(|sister| sister.name.eq_ignore_ascii_case(word)))
}

/// Is this the name of a sister service's method?
pub(super) fn is_sisters(method: &str) -> bool {
    let service = method.split_once('.').map(|(service, _)| service);
    SISTERS.iter().any(|sister| service == Some(sister.name))
}

fn find_own(verb: &str, path: &str) -> Option<Found> {
    let (rest, upload) = match path.strip_prefix(BASE) {
        Some(rest) => (rest, false),
        None => (UPLOAD_BASES.iter().find_map(|base| path.strip_prefix(base))?, true),
    };
    // A resumable upload's data is PUT to the path of the POST that began it.
    let verb = if upload && verb == "PUT" { "POST" } else { verb };
    find_in(REST_METHODS.iter().filter(|method| method.upload || !upload), verb, rest, upload)
}

fn find_in(
    mut methods: impl Iterator<Item = &'static RestMethod>,
    verb: &str,
    path: &str,
    upload: bool,
) -> Option<Found> {
    methods.find_map(|method| {
        let resource =
            (method.verb == verb && has_form(method.path, path)).then(|| fits(method.path, path))??;
        Some(Found { name: method.name, resource, upload })
    })
}

/// Does the path have the template's number of segments, and its words? Most rows end here, before anything is decoded.
fn has_form(template: &str, path: &str) -> bool {
    let (mut wanted, mut given) = (template.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(want), Some(value)) if want.starts_with('{') || want == value => {}
            _ => return false,
        }
    }
}

fn fits(template: &str, path: &str) -> Option<Resource> {
    let mut resource = Resource::default();
    let (mut wanted, mut given) = (template.split('/').peekable(), path.split('/'));
    while let Some(want) = wanted.next() {
        let last = wanted.peek().is_none();
        let value = segment(want, given.next()?, last)?;
        if let Some((parameter, value)) = value {
            match parameter {
                "projectId" => resource.project = Some(value),
                "datasetId" => resource.dataset = Some(value),
                "tableId" => resource.table = Some(value),
                "jobId" => resource.job = Some(value),
                _ => (), // routines, models, policies and a sister's own resources stay in the recorded path
            }
        }
    }
    given.next().is_none().then_some(resource)
}

/// Matches one segment; the parameter and its value when it has one.
fn segment<'t>(want: &'t str, given: &str, last: bool) -> Option<Option<(&'t str, String)>> {
    let Some(parameter) = want.strip_prefix('{') else {
        return (want == given).then_some(None);
    };
    let (parameter, custom_verb) = parameter.split_once('}')?;
    let value = identifier(given.strip_suffix(custom_verb)?)?;
    // A colon at the end could be read as the custom verb of another method; only a project's id has one.
    let ambiguous = last && value.contains(':');
    (!ambiguous).then_some(Some((parameter, value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "bigquery.googleapis.com";

    /// Every row of the table is found by a path made from it, and by no other row.
    #[test]
    fn every_method_is_found_by_its_own_path() {
        for method in REST_METHODS {
            let path: String =
                method.path.split('/').map(|part| format!("/{}", part.replace(['{', '}'], ""))).collect();
            let found = find(HOST, method.verb, &format!("/bigquery/v2{path}")).expect(method.name);
            assert_eq!(found.name, method.name);
            assert!(!found.upload);
            let project = method.path.contains("{projectId}").then(|| "projectId".to_owned());
            assert_eq!(found.resource.project, project, "{}", method.name);
            assert_eq!(
                find(HOST, method.verb, &format!("/upload/bigquery/v2{path}")).is_some(),
                method.upload
            );
        }
        assert_eq!(REST_METHODS.iter().filter(|method| method.upload).count(), 1);
        assert!(REST_METHODS.len() >= 47);
    }

    #[test]
    fn resources_are_read_from_the_path() {
        let found = find(
            HOST,
            "GET",
            "/bigquery/v2/projects/example.com:p/datasets/billing/tables/invoices$2026/data",
        );
        let resource = found.expect("tabledata.list").resource;
        assert_eq!(resource.project.as_deref(), Some("example.com:p"));
        assert_eq!(resource.dataset.as_deref(), Some("billing"));
        assert_eq!(resource.table.as_deref(), Some("invoices$2026"));
        let policy =
            find(HOST, "POST", "/bigquery/v2/projects/p/datasets/d/tables/t:getIamPolicy").expect("known");
        assert_eq!((policy.name, policy.resource.table.as_deref()), ("tables.getIamPolicy", Some("t")));
        let batch =
            find(HOST, "POST", "/bigquery/v2/projects/p/datasets/d/tables/t/rowAccessPolicies:batchDelete")
                .expect("known");
        assert_eq!(batch.name, "rowAccessPolicies.batchDelete");
        let undelete = find(HOST, "POST", "/bigquery/v2/projects/p/datasets/d:undelete").expect("known");
        assert_eq!((undelete.name, undelete.resource.dataset.as_deref()), ("datasets.undelete", Some("d")));
    }

    #[test]
    fn a_path_with_two_readings_names_nothing() {
        for (verb, path) in [
            ("POST", "/bigquery/v2/projects/p/queries/"),
            ("POST", "/bigquery/v2/projects//queries"),
            ("POST", "/bigquery/v2/projects/p/%71ueries"),
            ("POST", "/bigquery/v2//projects/p/queries"),
            ("POST", "//bigquery/v2/projects/p/queries"),
            ("POST", "/bigquery/v2/projects/p/../p/queries"),
            ("POST", "/bigquery/v2/projects/p%2Fqueries"),
            ("POST", "/bigquery/v2/projects/a%2Fb/queries"),
            ("POST", "/bigquery/v2/projects/p/queries;x=y"),
            ("POST", "/BigQuery/v2/projects/p/queries"),
            ("POST", "/batch/bigquery/v2"),
            ("POST", "/mcp"),
            ("HEAD", "/bigquery/v2/projects/p/jobs/j"),
            ("POST", "/bigquery/v2/projects/p/datasets/d/tables/t%3AgetIamPolicy"),
            ("GET", "/bigquery/v2/projects/p/datasets/d/tables/t:getIamPolicy"),
            ("PUT", "/bigquery/v2/projects/p/jobs"),
            ("POST", "/upload/bigquery/v2/projects/p/queries"),
        ] {
            assert_eq!(find(HOST, verb, path), None, "{verb} {path}");
        }
    }

    #[test]
    fn every_method_of_a_sister_is_found_on_its_own_host_alone() {
        assert_eq!(SISTERS.len(), 4);
        for sister in SISTERS {
            assert!(sister.methods.len() >= 8, "{}", sister.name);
            let host = format!("{}.googleapis.com", sister.name);
            for method in sister.methods {
                let path = format!("/{}", method.path.replace(['{', '}'], ""));
                let found = find(&host, method.verb, &path).expect(method.path);
                assert_eq!((found.name, found.upload), (method.name, false));
                assert!(found.resource.project.is_some(), "{}", method.path);
                assert!(method.name.starts_with(sister.name), "{}", method.name);
                assert_eq!(find(HOST, method.verb, &path), None, "BigQuery itself has no {path}");
            }
            assert_eq!(find(&host, "GET", "/bigquery/v2/projects"), None);
            assert_eq!(find(&host, "POST", "/batch"), None);
        }
    }

    #[test]
    fn sisters_answer_under_many_names() {
        let name = |host| sister(host).map(|sister| sister.name);
        for (host, expected) in [
            ("bigqueryconnection.googleapis.com", Some("bigqueryconnection")),
            ("BigQueryConnection.mtls.googleapis.com:443", Some("bigqueryconnection")),
            ("us-bigquerydatatransfer.googleapis.com", Some("bigquerydatatransfer")),
            ("bigqueryreservation.us-central1.rep.googleapis.com", Some("bigqueryreservation")),
            ("bigquerydatapolicy-agents.p.googleapis.com", Some("bigquerydatapolicy")),
            ("bigquery.googleapis.com", None),
            ("bigquerystorage.googleapis.com", None),
        ] {
            assert_eq!(name(host), expected, "{host}");
        }
    }
}
