//! Which paths are BigQuery's, on hosts that are not BigQuery's alone. Google's front ends may go by path too, so that a host
//! of another API could be a way round.
//!
//! A path is read in every way in which a server on its way may read it: as it came, and percent-decoded once and twice; with
//! empty and `.` segments left out; and from the beginning as well as from behind each `..`. One such reading is enough.

use super::hosts::{HostClass, classify_host};
use super::path::decode_lossy;

/// Segments that may come before an API's name: what is done with its paths, and the scheme of a URL that is sent as a path.
const PREFIXES: [&str; 8] = ["upload", "resumable", "download", "batch", "rpc", "$rpc", "http", "https"];

/// Endpoints that take calls of every API in their bodies, when no API is named after them.
const CARRIERS: [&str; 2] = ["batch", "rpc"];

/// First part of the names of BigQuery's gRPC services: `google.cloud.bigquery.v2.JobService`,
/// `google.cloud.bigquery.storage.v1.BigQueryRead`.
const SERVICES: &str = "google.cloud.bigquery";

/// Is this path on a shared host ([`HostClass::SharedGoogle`]) to be treated as a BigQuery call? Deliberately wide: all
/// that has `bigquery` in its decoded path, and the batch paths that can carry calls of any API.
#[must_use]
pub fn is_bigquery_path(path: &str) -> bool {
    readings(path).iter().any(|reading| {
        let carries = |start: &[&str]| words(start).next().is_some_and(|first| CARRIERS.contains(&first));
        reading.contains("bigquery") || any_start(reading, carries)
    })
}

/// Does this path on the host of another Google API ([`HostClass::OtherGoogle`]) begin as BigQuery's do? Narrower than
/// [`is_bigquery_path`], because these hosts have paths with names of their users' (`/storage/v1/b/bigquery-exports`): it is
/// BigQuery's when the API's name, a service of its gRPC, or one of its hosts comes first, or when it can carry any API's calls.
#[must_use]
pub(super) fn begins_as_bigquery(path: &str) -> bool {
    readings(path).iter().any(|reading| any_start(reading, is_bigquery))
}

fn readings(path: &str) -> [String; 3] {
    let once = decode_lossy(path);
    let twice = decode_lossy(&once);
    [path, &once, &twice].map(str::to_ascii_lowercase)
}

/// Is it so of the segments from any place where the path may begin, to the next such place?
fn any_start(reading: &str, is_so: impl Fn(&[&str]) -> bool) -> bool {
    let segments: Vec<_> = reading.split(['/', '\\']).collect();
    segments.split(|segment| is_parent(segment)).any(is_so)
}

/// The segments' words; empty segments and `.` have none.
fn words<'a>(segments: &[&'a str]) -> impl Iterator<Item = &'a str> {
    segments.iter().map(|segment| word(segment)).filter(|word| !word.is_empty())
}

/// `..`, also with parameters behind it.
fn is_parent(segment: &str) -> bool {
    segment.split(';').next() == Some("..")
}

/// The segment without what some servers don't look at: parameters behind a `;`, a port or verb behind a `:`, white space.
fn word(segment: &str) -> &str {
    let rest = segment.trim_start_matches(|c: char| !c.is_ascii_alphanumeric() && c != '$');
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"$._-".contains(c)).unwrap_or(rest.len());
    rest[..end].trim_end_matches('.')
}

fn is_bigquery(start: &[&str]) -> bool {
    let mut carrier = false;
    for word in words(start) {
        if word == "bigquery" || word.starts_with(SERVICES) {
            return true;
        }
        carrier = CARRIERS.contains(&word);
        match classify_host(word) {
            HostClass::BigQuery => return true,
            HostClass::Other if !PREFIXES.contains(&word) => return false,
            HostClass::SharedGoogle | HostClass::OtherGoogle | HostClass::Other => {}
        }
    }
    carrier
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shared_hosts_serve_bigquery_by_path() {
        for path in [
            "/bigquery/v2/projects",
            "/upload/bigquery/v2/projects/p/jobs",
            "/resumable/upload/bigquery/v2/projects/p/jobs",
            "/batch/bigquery/v2",
            "/batch",
            "/batch/storage/v1",
            "//bigquery/v2",
            "/%62igquery/v2",
            "/%2562igquery/v2",
            "/BigQuery/v2",
            "/discovery/v1/apis/bigquery/v2/rest",
            "//batch/",
            "/./batch",
            "/x/../batch",
            "/rpc",
            "/./bigquery/v2",
        ] {
            assert!(is_bigquery_path(path), "{path}");
        }
        for path in [
            "/",
            "/storage/v1/b",
            "/oauth2/v3/certs",
            "/discovery/v1/apis",
            "/upload/storage/v1/b",
            "/storage/batch",
        ] {
            assert!(!is_bigquery_path(path), "{path}");
        }
    }

    #[test]
    fn bigquerys_paths_on_other_hosts() {
        for path in [
            "/bigquery/v2/projects/p/queries",
            "/BigQuery",
            "/upload/bigquery/v2/projects/p/jobs",
            "/resumable/upload/bigquery/v2/projects/p/jobs",
            "/batch/bigquery/v2",
            "/batch",
            "/batch/",
            "/rpc",
            "//bigquery/v2/projects/p/queries",
            "/./bigquery/v2",
            "/storage/../bigquery/v2",
            "/storage/v1/../../upload/bigquery/v2",
            "/upload/x/../bigquery/v2",
            "/a%2fb/../bigquery/v2",
            "/a/..%2fbigquery/v2",
            "/a/..;x=y/bigquery/v2",
            "/%2e%2e/bigquery/v2",
            "/x/%252e%252e/%2562igquery/v2",
            "/%62igquery/v2",
            "/big%71uery%2fv2",
            "\\bigquery\\v2",
            "/bigquery;x=y/v2",
            "/bigquery%20/v2",
            "/%00bigquery/v2",
            "/bigquery./v2",
            "/bigquery:443/v2",
            "//bigquery.googleapis.com/bigquery/v2",
            "//www.googleapis.com/bigquery/v2",
            "/https://bigquery.googleapis.com/bigquery/v2",
            "/https:/storage.googleapis.com/bigquery/v2",
            "/bigqueryconnection.googleapis.com/v1/projects/p/locations/us/connections",
            "/google.cloud.bigquery.v2.JobService/InsertJob",
            "/google.cloud.bigquery.storage.v1.BigQueryRead/ReadRows",
            "/google.cloud.bigquery.datatransfer.v1.DataTransferService/CreateTransferConfig",
            "/$rpc/google.cloud.bigquery.v2.JobService/Query",
            "/%24rpc/google.cloud.bigquery.v2.JobService/Query",
        ] {
            assert!(begins_as_bigquery(path), "{path}");
            assert!(is_bigquery_path(path), "{path}");
        }
    }

    /// Buckets, objects, topics and services are named by their users, after BigQuery too.
    #[test]
    fn names_that_users_give_are_no_paths_of_bigquerys() {
        for path in [
            "",
            "*",
            "/",
            "/storage/v1/b/bigquery/o/2026.csv",
            "/upload/storage/v1/b/bigquery-exports/o?uploadType=media",
            "/download/storage/v1/b/b/o/bigquery%2Fv2%2Fx",
            "/bigquery-exports/2026/rows.csv",
            "/bigquery_exports/rows.csv",
            "/my-bucket/bigquery/v2/rows.csv",
            "/my-bucket/upload/bigquery/v2",
            "/batch/storage/v1",
            "/$discovery/rest",
            "/v1/projects/p/services/bigquery.googleapis.com:enable",
            "/v1/projects/p/topics/bigquery",
            "/google.pubsub.v1.Publisher/Publish",
            "/google.storage.v2.Storage/ReadObject",
            "/token",
        ] {
            assert!(!begins_as_bigquery(path), "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_spelling_of_the_path_gets_past(
            before in prop::sample::select(vec!["/", "//", "/./", "/a/../", "/a/b/../../", "/upload/", "/%2e/", "/.%2e/", "/\\"]),
            coded in prop::collection::vec(0_u8..3, 8),
            after in "(/[a-z0-9]{0,8}){0,4}",
        ) {
            let spell = |(letter, times): (char, &u8)| match times {
                0 => letter.to_ascii_uppercase().to_string(),
                1 => format!("%{:02x}", u32::from(letter)),
                _ => format!("%25{:02X}", u32::from(letter)),
            };
            let name: String = "bigquery".chars().zip(&coded).map(spell).collect();
            let path = format!("{before}{name}{after}");
            prop_assert!(begins_as_bigquery(&path) && is_bigquery_path(&path), "{}", path);
        }

        #[test]
        fn any_path_is_read(path: String) {
            let _either = begins_as_bigquery(&path) | is_bigquery_path(&path);
        }
    }
}
