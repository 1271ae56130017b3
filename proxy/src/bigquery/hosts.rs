//! Which hosts are BigQuery's.
//!
//! A host counts by the *service label* of its name, not by a fixed list, because one service answers under many names:
//! global (`bigquery.googleapis.com`), regional (`us-central1-bigquery.googleapis.com`, `bigquery.us-central1.rep.googleapis.com`),
//! mutual TLS (`bigquery.mtls.googleapis.com`), browser (`content-bigquery.googleapis.com`), and Private Service Connect
//! (`bigquery-myendpoint.p.googleapis.com`).

/// What a host is to the recorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HostClass {
    /// Every request to it is a BigQuery call.
    BigQuery,
    /// Google's shared API host: BigQuery's by path ([`super::is_bigquery_path`]), so it has to be looked into.
    SharedGoogle,
    /// Another Google API.
    OtherGoogle,
    /// Not Google's.
    Other,
}

/// Domains under which Google serves its APIs.
const API_DOMAINS: [&str; 2] = ["googleapis.com", "clients6.google.com"];

/// First labels of the hosts that serve every API by path.
const SHARED: [&str; 2] = ["www", "content"];

/// The labels of `host` before Google's API domain, in lower case; nothing when it is none of Google's.
#[must_use]
pub fn google_labels(host: &str) -> Option<Vec<String>> {
    let host = normalise(host);
    let prefix = API_DOMAINS.iter().find_map(|domain| within(&host, domain))?;
    Some(prefix.split('.').filter(|label| !label.is_empty()).map(str::to_owned).collect())
}

/// What `host` is. A port, a final dot and upper case make no difference.
#[must_use]
pub fn classify_host(host: &str) -> HostClass {
    let host = normalise(host);
    let Some(prefix) = API_DOMAINS.iter().find_map(|domain| within(&host, domain)) else {
        return HostClass::Other;
    };
    let mut labels = prefix.split('.');
    if labels.clone().any(names_bigquery) {
        HostClass::BigQuery
    } else if prefix.is_empty() || labels.next().is_some_and(|first| SHARED.contains(&first)) {
        HostClass::SharedGoogle
    } else {
        HostClass::OtherGoogle
    }
}

/// The host's name alone: lower case, without port and final dot.
fn normalise(host: &str) -> String {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// The labels of `host` before `domain`; empty for the domain itself.
fn within<'a>(host: &'a str, domain: &str) -> Option<&'a str> {
    let prefix = host.strip_suffix(domain)?;
    if prefix.is_empty() { Some(prefix) } else { prefix.strip_suffix('.') }
}

/// `bigquery`, `bigquerystorage`, `us-central1-bigquery`, `bigquery-myendpoint`
fn names_bigquery(label: &str) -> bool {
    label.split('-').any(|word| word.starts_with("bigquery"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bigquery_answers_under_many_names() {
        for host in [
            "bigquery.googleapis.com",
            "BigQuery.GoogleAPIs.com:443",
            "bigquery.googleapis.com.",
            "bigquery.googleapis.com.:443",
            "bigquerystorage.googleapis.com",
            "bigquerystorage.googleapis.com:443",
            "bigquerystorage.mtls.googleapis.com",
            "us-central1-bigquery.googleapis.com",
            "bigquery.us-central1.rep.googleapis.com",
            "bigquery.mtls.googleapis.com",
            "bigquery.us-central1.rep.mtls.googleapis.com",
            "content-bigquery.googleapis.com",
            "bigquery-agents.p.googleapis.com",
            "bigqueryreservation.googleapis.com",
            "bigqueryconnection.googleapis.com",
            "bigquerydatatransfer.googleapis.com",
            "bigquerydatapolicy.googleapis.com",
            "bigquerymigration.googleapis.com",
            "bigquery.clients6.google.com",
        ] {
            assert_eq!(classify_host(host), HostClass::BigQuery, "{host}");
        }
    }

    #[test]
    fn other_hosts() {
        for (host, class) in [
            ("www.googleapis.com", HostClass::SharedGoogle),
            ("WWW.googleapis.com:443", HostClass::SharedGoogle),
            ("www.mtls.googleapis.com", HostClass::SharedGoogle),
            ("content.googleapis.com", HostClass::SharedGoogle),
            ("clients6.google.com", HostClass::SharedGoogle),
            ("googleapis.com", HostClass::SharedGoogle),
            ("storage.googleapis.com", HostClass::OtherGoogle),
            ("sts.googleapis.com", HostClass::OtherGoogle),
            ("dataform.googleapis.com", HostClass::OtherGoogle),
            ("bigquery.googleapis.com.evil.example", HostClass::Other),
            ("bigquery.evilgoogleapis.com", HostClass::Other),
            ("notbigquery.example", HostClass::Other),
            ("", HostClass::Other),
            (":443", HostClass::Other),
        ] {
            assert_eq!(classify_host(host), class, "{host}");
        }
    }
}
