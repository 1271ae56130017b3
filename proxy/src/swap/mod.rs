//! What becomes of the credentials in a request's head. Pure.
//!
//! Only requests that are recorded as BigQuery calls are touched, and only when agents hold no key:
//!
//! | part of the request | rule |
//! |---|---|
//! | `Authorization` (also as gRPC metadata, which is a header) | replaced by the sidecar's credential |
//! | `access_token`, `oauth_token`, `bearer_token`, `key`, `api_key`, `$key` in the query | taken out: Google would take one of them for the credential |
//! | `x-goog-api-key`, `x-goog-iam-authorization-token`, `x-goog-iam-authority-selector`, `Cookie` | taken out, for the same reason |
//! | `x-goog-user-project` | set to the settings' quota project; taken out when there is none |
//! | `x-allowed-locations` | taken out: it belongs to a credential that the agent does not have |
//!
//! On every other host, and in passthrough mode, a request passes as it came.

pub mod endpoints;
pub mod presented;

use http::Uri;
use http::header::{AUTHORIZATION, COOKIE, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;

pub use self::presented::Presented;

use crate::bigquery::decode_parameter;
use crate::identity::keeper::Credential;

/// Headers that are credentials, or that belong to one.
const HEADERS: [HeaderName; 6] = [
    AUTHORIZATION,
    COOKIE,
    HeaderName::from_static("x-goog-api-key"),
    HeaderName::from_static("x-goog-iam-authorization-token"),
    HeaderName::from_static("x-goog-iam-authority-selector"),
    HeaderName::from_static("x-allowed-locations"),
];

const QUOTA_PROJECT: HeaderName = HeaderName::from_static("x-goog-user-project");

/// Query parameters that are credentials; compared in lower case, decoded, without a leading `$`.
const TOKENS: [&str; 3] = ["access_token", "oauth_token", "bearer_token"];
const KEYS: [&str; 2] = ["key", "api_key"];

/// Replaces what the agent sent by `credential`.
pub fn apply(head: &mut Parts, credential: &Credential, quota_project: Option<&HeaderValue>) {
    for name in &HEADERS {
        head.headers.remove(name);
    }
    head.headers.insert(AUTHORIZATION, credential.bearer.clone());
    head.headers.remove(QUOTA_PROJECT);
    if let Some(project) = quota_project {
        head.headers.insert(QUOTA_PROJECT, project.clone());
    }
    if let Some(uri) = without_credentials(&head.uri) {
        head.uri = uri;
    }
}

/// The address without credentials in its query; nothing when there are none.
fn without_credentials(uri: &Uri) -> Option<Uri> {
    let query = uri.query()?;
    let kept: String = pairs(query).filter(|pair| !is_credential(&name(pair))).collect();
    if kept.len() == query.len() {
        return None;
    }
    let (path, kept) = (uri.path(), kept.trim_end_matches(SEPARATORS));
    let short = if kept.is_empty() { path.to_owned() } else { format!("{path}?{kept}") };
    let mut parts = uri.clone().into_parts();
    // A part of a good path and query is a good one.
    parts.path_and_query = Some(PathAndQuery::try_from(short).ok()?);
    Uri::from_parts(parts).ok()
}

/// What separates parameters: `;` does to some servers.
const SEPARATORS: [char; 2] = ['&', ';'];

/// The parameters of a query, each with what separates it from the next.
fn pairs(query: &str) -> impl Iterator<Item = &str> {
    query.split_inclusive(SEPARATORS)
}

/// A parameter's name, as the server that reads it may decode it.
fn name(pair: &str) -> String {
    let name = pair.trim_end_matches(SEPARATORS).split('=').next().unwrap_or_default();
    let name = decode_parameter(&decode_parameter(name)).to_ascii_lowercase();
    name.trim().trim_start_matches('$').to_owned()
}

fn is_credential(name: &str) -> bool {
    TOKENS.contains(&name) || KEYS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use proptest::prelude::*;

    fn credential() -> Credential {
        Credential { bearer: HeaderValue::from_static("Bearer real"), principal: None }
    }

    fn swapped(uri: &str, headers: &[(&str, &str)], quota: Option<&'static str>) -> (String, Vec<String>) {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        apply(&mut head, &credential(), quota.map(HeaderValue::from_static).as_ref());
        let mut headers: Vec<_> =
            head.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        headers.sort();
        (head.uri.to_string(), headers)
    }

    #[test]
    fn every_credential_of_the_agent_goes() {
        let (uri, headers) = swapped(
            "/bigquery/v2/projects/p/queries?alt=json&access_token=a&%6bey=b&$key=c&Oauth_Token=d&pageToken=t&keys=k",
            &[
                ("authorization", "Bearer one"),
                ("authorization", "Bearer two"),
                ("cookie", "SID=x"),
                ("x-goog-api-key", "k"),
                ("x-goog-iam-authorization-token", "t"),
                ("x-goog-iam-authority-selector", "s"),
                ("x-allowed-locations", "0x1"),
                ("x-goog-user-project", "other"),
                ("x-goog-api-client", "kept"),
            ],
            None,
        );
        assert_eq!(uri, "/bigquery/v2/projects/p/queries?alt=json&pageToken=t&keys=k");
        assert_eq!(headers, ["authorization: Bearer real", "x-goog-api-client: kept"]);
    }

    #[test]
    fn the_quota_project_is_the_settings() {
        let (uri, headers) = swapped(
            "https://bigquery.googleapis.com/x?key=k",
            &[("x-goog-user-project", "theirs")],
            Some("ours"),
        );
        assert_eq!(uri, "https://bigquery.googleapis.com/x");
        assert_eq!(headers, ["authorization: Bearer real", "x-goog-user-project: ours"]);
    }

    #[test]
    fn an_address_without_credentials_stays_to_the_byte() {
        for uri in ["/a?b=%7e&&c", "/a?", "/a", "/a?pageToken=x&x=key"] {
            assert_eq!(swapped(uri, &[], None).0, uri);
        }
    }

    proptest! {
        #[test]
        fn no_token_in_a_query_survives(before in "[a-z=&;%$]{0,12}", name in prop::sample::select(TOKENS.to_vec())) {
            let (uri, _) = swapped(&format!("/p?{before}&{name}=Z3cretZ"), &[], None);
            prop_assert!(!uri.contains("Z3cretZ"), "{uri}");
        }
    }
}
