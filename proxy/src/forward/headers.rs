//! Which headers end at this hop (RFC 9110, section 7.6.1). All others pass, unchanged and with their case.

use http::HeaderMap;
use http::header::{
    CONNECTION, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING,
    UPGRADE,
};

/// Headers that are about one connection, whether `Connection` names them or not.
const HOP_BY_HOP: [HeaderName; 7] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Headers that decide how the message is read or who asks for it. `Connection` can't name them away.
fn is_protected(name: &HeaderName) -> bool {
    use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRAILER};
    [AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRAILER, TE].contains(name)
}

/// Removes what is about one connection alone. `TE: trailers` stays: it says what the agent can read;
/// other codings are of a transfer that ends here.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    for name in named_by_connection(headers) {
        headers.remove(name);
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    if let Some(te) = headers.remove(TE) {
        let trailers = te
            .to_str()
            .is_ok_and(|te| te.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("trailers")));
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    }
}

fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let names =
        values.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse::<HeaderName>().ok());
    names.filter(|name| !is_protected(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(lines: &[(&'static str, &'static str)]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        strip_hop_by_hop(&mut headers);
        let mut left: Vec<_> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")))
            .collect();
        left.sort();
        left
    }

    #[test]
    fn what_is_about_the_connection_ends_here() {
        let left = stripped(&[
            ("connection", "keep-alive, X-Mine"),
            ("connection", "close"),
            ("x-mine", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "Basic x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("accept", "*/*"),
            ("x-other", "2"),
        ]);
        assert_eq!(left, ["accept: */*", "x-other: 2"]);
    }

    #[test]
    fn te_trailers_stays() {
        assert_eq!(stripped(&[("te", "trailers")]), ["te: trailers"]);
        assert_eq!(stripped(&[("te", "gzip, Trailers"), ("connection", "te")]), ["te: trailers"]);
        assert!(stripped(&[("te", "gzip")]).is_empty());
    }

    #[test]
    fn connection_can_t_name_away_what_decides() {
        let left = stripped(&[
            ("connection", "authorization, host, content-encoding"),
            ("authorization", "Bearer x"),
            ("content-encoding", "gzip"),
        ]);
        assert_eq!(left, ["authorization: Bearer x", "content-encoding: gzip"]);
    }
}
