//! A request that arrived, and which of the API's methods it is. Written from the API's documentation, and not shared with
//! what is tested.

use http::{HeaderValue, Request, header};
use ledger::digest::Digest;

/// A request that arrived, noted when its head was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// `GET`, `POST`, ...
    pub verb: String,
    /// From `:authority` or `Host`.
    pub host: String,
    /// Path and query.
    pub path: String,
    /// SHA-256 of the `Authorization` header's value.
    pub authorization: Option<Digest>,
    /// The `User-Agent` header.
    pub user_agent: Option<String>,
    /// Whose token it carried, when the front asks for one ([`super::Front::demand`]). A request without was refused.
    pub principal: Option<String>,
}

impl Arrival {
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = request.headers();
        let host =
            request.uri().host().map(ToOwned::to_owned).or_else(|| headers.get(header::HOST).map(text));
        Self {
            verb: request.method().to_string(),
            host: host.unwrap_or_default().trim_end_matches(":443").to_owned(),
            path: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
            authorization: headers.get(header::AUTHORIZATION).map(|value| Digest::of(value.as_bytes())),
            user_agent: headers.get(header::USER_AGENT).map(text),
            principal: None,
        }
    }

    /// The method's name in the API's documentation (`jobs.query`, `BigQueryRead.ReadRows`); `unknown` when it is none that the
    /// stand's clients call.
    #[must_use]
    pub fn method(&self) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        if let Some((service, method)) = path.trim_start_matches('/').split_once('/')
            && service.starts_with("google.cloud.")
        {
            let service = service.rsplit('.').next().unwrap_or_default();
            return format!("{service}.{method}");
        }
        let path = path.strip_prefix("/upload").unwrap_or(path);
        let rest = path.strip_prefix("/bigquery/v2/projects").unwrap_or("?");
        let parts: Vec<&str> = rest.trim_start_matches('/').split('/').collect();
        self.method_of(&parts).map_or_else(|| "unknown".into(), |(noun, verb)| format!("{noun}.{verb}"))
    }

    /// Verb and URL, as the log has them of the same request.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{} https://{}{}", self.verb, self.host, without_secrets(&self.path))
    }

    fn method_of<'a>(&self, parts: &[&'a str]) -> Option<(&'a str, &'static str)> {
        let put_on = |noun: &'a str| Some((noun, self.on_one()?));
        match parts {
            [""] => Some(("projects", "list")),
            [_, "queries"] => Some(("jobs", "query")),
            [_, "queries", _] => Some(("jobs", "getQueryResults")),
            [_, "jobs", _, "cancel"] => Some(("jobs", "cancel")),
            // A resumable upload's data goes by the path that began it.
            [_, "jobs"] if self.verb == "PUT" => Some(("jobs", "insert")),
            [_, "datasets", _, "tables", _, "data"] => Some(("tabledata", "list")),
            [_, "datasets", _, "tables", _, "insertAll"] => Some(("tabledata", "insertAll")),
            [_, noun] | [_, "datasets", _, noun] => Some((noun, self.on_many()?)),
            [_, noun, _] | [_, "datasets", _, noun, _] => put_on(noun),
            _ => None,
        }
    }

    fn on_many(&self) -> Option<&'static str> {
        match self.verb.as_str() {
            "GET" => Some("list"),
            "POST" => Some("insert"),
            _ => None,
        }
    }

    fn on_one(&self) -> Option<&'static str> {
        match self.verb.as_str() {
            "GET" => Some("get"),
            "PATCH" => Some("patch"),
            "PUT" => Some("update"),
            "DELETE" => Some("delete"),
            _ => None,
        }
    }
}

/// As the format has it: who knows the id of an upload may add to it.
fn without_secrets(path: &str) -> String {
    let Some((path, query)) = path.split_once('?') else { return path.to_owned() };
    let redacted = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name @ "upload_id", _)) => format!("{name}=REDACTED"),
        _ => pair.to_owned(),
    });
    format!("{path}?{}", redacted.collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart_by_method() {
        for (verb, path, method) in [
            ("GET", "projects", "projects.list"),
            ("POST", "projects/p/queries?prettyPrint=false", "jobs.query"),
            ("GET", "projects/p/queries/job?maxResults=0", "jobs.getQueryResults"),
            ("POST", "projects/p/jobs", "jobs.insert"),
            ("GET", "projects/p/jobs?parentJobId=x", "jobs.list"),
            ("GET", "projects/p/jobs/job", "jobs.get"),
            ("GET", "projects/p/datasets/d/tables/t/data", "tabledata.list"),
            ("POST", "projects/p/datasets/d/tables/t/insertAll", "tabledata.insertAll"),
            ("DELETE", "projects/p/datasets/d/tables/t", "tables.delete"),
            ("GET", "projects/p/datasets/d/tables", "tables.list"),
            ("PATCH", "projects/p/datasets/d", "datasets.patch"),
            ("GET", "other", "unknown"),
        ] {
            assert_eq!(arrival(verb, &format!("/bigquery/v2/{path}")).method(), method, "{verb} {path}");
        }
        let upload = "/upload/bigquery/v2/projects/p/jobs?uploadType=resumable";
        assert_eq!(arrival("POST", upload).method(), "jobs.insert");
        assert_eq!(arrival("PUT", upload).method(), "jobs.insert");
        let grpc = "/google.cloud.bigquery.storage.v1.BigQueryRead/ReadRows";
        assert_eq!(arrival("POST", grpc).method(), "BigQueryRead.ReadRows");
    }

    fn arrival(verb: &str, path: &str) -> Arrival {
        let host = "bigquery.googleapis.com".into();
        let path = path.into();
        Arrival { verb: verb.into(), host, path, authorization: None, user_agent: None, principal: None }
    }
}
