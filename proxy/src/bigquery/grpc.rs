//! gRPC calls on BigQuery's hosts: the Storage Read and Write APIs, named by path. Their messages are not decoded.
//!
//! The gRPC form of v2 (`google.cloud.bigquery.v2.JobService`) carries SQL in its messages, so it is unknown until they
//! are decoded: forwarding it would be a statement that nobody recorded.

use http::{HeaderMap, HeaderName, header};
use ledger::call::Access;

use super::methods::Resource;
use super::path::{identifier, parameters};

/// Routing header of Google's gRPC clients: `read_session.table=projects/p/datasets/d/tables/t`. The agent writes it, so the
/// table that is read here is what the agent says.
const REQUEST_PARAMS: HeaderName = HeaderName::from_static("x-goog-request-params");

const READ: &[&str] = &[
    "/google.cloud.bigquery.storage.v1.BigQueryRead/",
    "/google.cloud.bigquery.storage.v1beta2.BigQueryRead/",
];
const WRITE: &[&str] = &[
    "/google.cloud.bigquery.storage.v1.BigQueryWrite/",
    "/google.cloud.bigquery.storage.v1beta2.BigQueryWrite/",
];
const BETA: &[&str] = &["/google.cloud.bigquery.storage.v1beta1.BigQueryStorage/"];

/// Method as recorded, the services that have it, and what it does with the table.
const METHODS: &[(&str, &[&str], Access)] = &[
    ("BigQueryRead.CreateReadSession", READ, Access::Read),
    ("BigQueryRead.ReadRows", READ, Access::Read),
    ("BigQueryRead.SplitReadStream", READ, Access::Read),
    ("BigQueryWrite.AppendRows", WRITE, Access::Write),
    ("BigQueryWrite.BatchCommitWriteStreams", WRITE, Access::Write),
    ("BigQueryWrite.CreateWriteStream", WRITE, Access::Write),
    ("BigQueryWrite.FinalizeWriteStream", WRITE, Access::Write),
    ("BigQueryWrite.FlushRows", WRITE, Access::Write),
    ("BigQueryWrite.GetWriteStream", WRITE, Access::Read),
    ("BigQueryStorage.BatchCreateReadSessionStreams", BETA, Access::Read),
    ("BigQueryStorage.CreateReadSession", BETA, Access::Read),
    ("BigQueryStorage.FinalizeStream", BETA, Access::Read),
    ("BigQueryStorage.ReadRows", BETA, Access::Read),
    ("BigQueryStorage.SplitReadStream", BETA, Access::Read),
];

/// Does the request say that it is gRPC?
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map(http::HeaderValue::as_bytes).unwrap_or_default();
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let (kind, form) = essence.split_at(essence.len().min(16));
    kind.eq_ignore_ascii_case(b"application/grpc") && (form.is_empty() || form[0] == b'+')
}

/// The method that a gRPC path names.
pub(super) fn find(path: &str) -> Option<(&'static str, Access)> {
    METHODS.iter().find_map(|(name, services, access)| {
        let (_, method) = name.split_once('.')?;
        let named = services.iter().any(|service| path.strip_prefix(service) == Some(method));
        named.then_some((*name, *access))
    })
}

/// The table that the routing header names. Some clients send the header twice, the second time empty.
pub(super) fn resource(headers: &HeaderMap) -> Resource {
    let values = headers.get_all(REQUEST_PARAMS);
    let pairs = values.iter().filter_map(|value| value.to_str().ok()).flat_map(parameters);
    let mut resource = Resource::default();
    for (name, value) in pairs {
        match name.as_str() {
            "table_reference.project_id" => resource.project = identifier(&value),
            "table_reference.dataset_id" => resource.dataset = identifier(&value),
            "table_reference.table_id" => resource.table = identifier(&value),
            _ => resource = named(&value).unwrap_or(resource),
        }
    }
    resource
}

/// `projects/p/datasets/d/tables/t`, also with more after it (`/streams/s`, `/_default`), or only the project.
fn named(resource_name: &str) -> Option<Resource> {
    let mut parts = resource_name.split('/');
    let mut next =
        |collection| (parts.next() == Some(collection)).then(|| parts.next().and_then(identifier)).flatten();
    let project = Some(next("projects")?);
    let dataset = next("datasets");
    let table = dataset.as_ref().and_then(|_| next("tables"));
    Some(Resource { project, dataset, table, job: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(REQUEST_PARAMS, http::HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn names() {
        let read = find("/google.cloud.bigquery.storage.v1.BigQueryRead/ReadRows");
        assert_eq!(read, Some(("BigQueryRead.ReadRows", Access::Read)));
        let append = find("/google.cloud.bigquery.storage.v1.BigQueryWrite/AppendRows");
        assert_eq!(append, Some(("BigQueryWrite.AppendRows", Access::Write)));
        for unknown in [
            "/google.cloud.bigquery.v2.JobService/InsertJob",
            "/google.cloud.bigquery.storage.v1.BigQueryRead/AppendRows",
            "/google.cloud.bigquery.storage.v1.BigQueryRead/ReadRows/",
            "/v1/projects/p/locations/us/sessions",
            "/google.cloud.bigquery.storage.v1beta1.BigQueryStorage/AppendRows",
            "",
        ] {
            assert_eq!(find(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn the_table_comes_from_the_routing_header() {
        let resource_of = |values: &[&'static str]| {
            let found = resource(&params(values));
            [found.project, found.dataset, found.table].map(Option::unwrap_or_default).join("|")
        };
        assert_eq!(resource_of(&["read_session.table=projects/p/datasets/d/tables/t"]), "p|d|t");
        assert_eq!(resource_of(&["read_session.table=projects%2Fp%2Fdatasets%2Fd%2Ftables%2Ft"]), "p|d|t");
        assert_eq!(
            resource_of(&["write_stream=projects/p/datasets/d/tables/t/streams/_default", ""]),
            "p|d|t"
        );
        assert_eq!(resource_of(&["write_stream=projects/p/datasets/d/tables/t/_default"]), "p|d|t");
        assert_eq!(resource_of(&["parent=projects/p/datasets/d/tables/t"]), "p|d|t");
        assert_eq!(resource_of(&["read_stream=projects/p/locations/us/sessions/s/streams/x"]), "p||");
        assert_eq!(resource_of(&["table_reference.project_id=p&table_reference.dataset_id=d"]), "p|d|");
        assert_eq!(resource_of(&[]), "||");
        assert_eq!(resource_of(&["x=projects/../datasets/d"]), "||");
    }

    #[test]
    fn content_types() {
        let of = |value: &'static str| {
            is_grpc(&[(header::CONTENT_TYPE, http::HeaderValue::from_static(value))].into_iter().collect())
        };
        assert!(of("application/grpc") && of("application/grpc+proto") && of("Application/gRPC ;x=y"));
        assert!(
            !of("application/grpc-web") && !of("application/json") && !of("") && !is_grpc(&HeaderMap::new())
        );
    }
}
