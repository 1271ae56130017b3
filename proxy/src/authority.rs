//! Whom a request is for. SNI, `:authority` and Host must agree on every request: Google's front ends go by the latter two,
//! so a connection that was opened for one host must not carry a request for another.

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, Uri, Version};

use crate::forward::Target;
use crate::listen::hello::normal_name;
use crate::refuse::Refused;

/// The port that goes without saying.
const HTTPS: u16 = 443;

/// Checks that the request is for this connection's host and that its framing has one meaning.
///
/// # Errors
/// [`Refused::BadHead`], [`Refused::Misdirected`]
pub fn agree(request: &Parts, target: &Target) -> Result<(), Refused> {
    one_framing(&request.headers)?;
    let named = named(request)?;
    if named.iter().all(|authority| is_for(authority, target)) {
        return Ok(());
    }
    Err(Refused::Misdirected { name: target.name.clone() })
}

/// Every host that the head names: at least one.
fn named(request: &Parts) -> Result<Vec<&str>, Refused> {
    let mut hosts = request.headers.get_all(HOST).iter();
    let host =
        hosts.next().map(|host| host.to_str().map_err(|_| Refused::BadHead("has a Host that is no text")));
    if hosts.next().is_some() {
        return Err(Refused::BadHead("has two Hosts"));
    }
    let named: Vec<_> = authority(&request.uri).into_iter().chain(host.transpose()?).collect();
    match named.as_slice() {
        [] if request.version == Version::HTTP_2 => Err(Refused::BadHead("has neither :authority nor Host")),
        [] => Err(Refused::BadHead("has no Host")),
        _ => Ok(named),
    }
}

fn authority(uri: &Uri) -> Option<&str> {
    uri.authority().map(http::uri::Authority::as_str)
}

fn is_for(authority: &str, target: &Target) -> bool {
    let (name, port) = match authority.rsplit_once(':') {
        Some((name, port)) => (name, port.parse().ok()),
        None => (authority, Some(HTTPS)),
    };
    let port_fits = port.is_some_and(|port| port == HTTPS || port == target.port);
    port_fits && normal_name(name) == target.name
}

fn one_framing(headers: &HeaderMap) -> Result<(), Refused> {
    let lengths = headers.get_all(CONTENT_LENGTH).iter().count();
    if lengths > 1 {
        return Err(Refused::BadHead("has two Content-Lengths"));
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match codings.next() {
        None => Ok(()),
        Some(_) if lengths == 1 => Err(Refused::BadHead("has both Content-Length and Transfer-Encoding")),
        Some(coding) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") && codings.next().is_none() => {
            Ok(())
        }
        Some(_) => Err(Refused::BadHead("has a Transfer-Encoding other than chunked")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn checked(uri: &str, headers: &[(&str, &str)]) -> Result<(), &'static str> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        let target = Target { name: "bigquery.googleapis.com".into(), port: 8443 };
        agree(&parts, &target).map_err(|refused| refused.category())
    }

    #[test]
    fn all_that_name_a_host_must_name_this_one() {
        let ours = [
            "bigquery.googleapis.com",
            "BigQuery.googleapis.com.",
            "bigquery.googleapis.com:443",
            "bigquery.googleapis.com:8443",
        ];
        for host in ours {
            assert_eq!(checked("/x", &[("host", host)]), Ok(()), "{host}");
            assert_eq!(checked(&format!("https://{host}/x"), &[]), Ok(()), "{host}");
        }
        let others = [
            "storage.googleapis.com",
            "bigquery.googleapis.com.evil.example",
            "bigquery.googleapis.com:80",
            "bigquery.googleapis.com:x",
            "me@bigquery.googleapis.com",
            "",
        ];
        for host in others {
            assert_eq!(checked("/x", &[("host", host)]), Err("misdirected"), "{host}");
            assert_eq!(
                checked("https://bigquery.googleapis.com/x", &[("host", host)]),
                Err("misdirected"),
                "{host}"
            );
        }
        assert_eq!(checked("https://storage.googleapis.com/x", &[("host", ours[0])]), Err("misdirected"));
    }

    #[test]
    fn heads_with_two_meanings() {
        let host = ("host", "bigquery.googleapis.com");
        assert_eq!(checked("/x", &[]), Err("bad_head"));
        assert_eq!(checked("/x", &[host, host]), Err("bad_head"));
        assert_eq!(
            checked("/x", &[host, ("content-length", "1"), ("transfer-encoding", "chunked")]),
            Err("bad_head")
        );
        assert_eq!(checked("/x", &[host, ("content-length", "1"), ("content-length", "1")]), Err("bad_head"));
        assert_eq!(checked("/x", &[host, ("transfer-encoding", "gzip, chunked")]), Err("bad_head"));
        assert_eq!(
            checked("/x", &[host, ("transfer-encoding", "gzip"), ("transfer-encoding", "chunked")]),
            Err("bad_head")
        );
        assert_eq!(checked("/x", &[host, ("transfer-encoding", "Chunked")]), Ok(()));
    }
}
