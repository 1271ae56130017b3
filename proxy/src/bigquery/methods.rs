//! Which method of the API a verb and a path name. The table itself is generated: `method_table.rs`.

use super::method_table::REST_METHODS;
use super::path::identifier;

/// One row of the table.
pub(super) struct RestMethod {
    /// Discovery id, without `bigquery.`
    pub(super) name: &'static str,
    /// HTTP verb.
    pub(super) verb: &'static str,
    /// Path after the base path: `projects/{projectId}/datasets/{datasetId}:undelete`
    pub(super) path: &'static str,
    /// Also served under the upload paths.
    pub(super) upload: bool,
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

/// The method that `verb` and `path` name; `None` unless exactly one reading of the path exists and the table has it.
pub(super) fn find(verb: &str, path: &str) -> Option<Found> {
    let (rest, upload) = match path.strip_prefix(BASE) {
        Some(rest) => (rest, false),
        None => (UPLOAD_BASES.iter().find_map(|base| path.strip_prefix(base))?, true),
    };
    // A resumable upload's data is PUT to the path of the POST that began it.
    let verb = if upload && verb == "PUT" { "POST" } else { verb };
    REST_METHODS
        .iter()
        .filter(|method| method.verb == verb && (method.upload || !upload))
        .find_map(|method| Some(Found { name: method.name, resource: fits(method.path, rest)?, upload }))
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
                _ => (), // routines, models and policies stay in the recorded path
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

    /// Every row of the table is found by a path made from it, and by no other row.
    #[test]
    fn every_method_is_found_by_its_own_path() {
        for method in REST_METHODS {
            let path: String =
                method.path.split('/').map(|part| format!("/{}", part.replace(['{', '}'], ""))).collect();
            let found = find(method.verb, &format!("/bigquery/v2{path}")).expect(method.name);
            assert_eq!(found.name, method.name);
            assert!(!found.upload);
            let project = method.path.contains("{projectId}").then(|| "projectId".to_owned());
            assert_eq!(found.resource.project, project, "{}", method.name);
            assert_eq!(find(method.verb, &format!("/upload/bigquery/v2{path}")).is_some(), method.upload);
        }
        assert_eq!(REST_METHODS.iter().filter(|method| method.upload).count(), 1);
        assert!(REST_METHODS.len() >= 47);
    }

    #[test]
    fn resources_are_read_from_the_path() {
        let found =
            find("GET", "/bigquery/v2/projects/example.com:p/datasets/billing/tables/invoices$2026/data");
        let resource = found.expect("tabledata.list").resource;
        assert_eq!(resource.project.as_deref(), Some("example.com:p"));
        assert_eq!(resource.dataset.as_deref(), Some("billing"));
        assert_eq!(resource.table.as_deref(), Some("invoices$2026"));
        let policy = find("POST", "/bigquery/v2/projects/p/datasets/d/tables/t:getIamPolicy").expect("known");
        assert_eq!((policy.name, policy.resource.table.as_deref()), ("tables.getIamPolicy", Some("t")));
        let batch = find("POST", "/bigquery/v2/projects/p/datasets/d/tables/t/rowAccessPolicies:batchDelete")
            .expect("known");
        assert_eq!(batch.name, "rowAccessPolicies.batchDelete");
        let undelete = find("POST", "/bigquery/v2/projects/p/datasets/d:undelete").expect("known");
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
            assert_eq!(find(verb, path), None, "{verb} {path}");
        }
    }
}
