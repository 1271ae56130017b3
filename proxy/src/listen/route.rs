//! What becomes of a connection. Pure: where it wants to go and how it opens decide.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::hello::normal_name;
use crate::bigquery::{HostClass, classify_host};
use crate::config::{Egress, OtherEgress, OtherGoogleApis};
use crate::swap::endpoints;

/// The port on which Google's front ends speak TLS.
const HTTPS: u16 = 443;

/// The port on which they speak plain HTTP.
const HTTP: u16 = 80;

/// Google Cloud's metadata server.
const METADATA_NAMES: [&str; 2] = ["metadata.google.internal", "metadata"];
const METADATA_V4: IpAddr = IpAddr::V4(crate::identity::workload::ADDRESS);
const METADATA_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254));

/// Where a client wants to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A name (lower case, no trailing dot) and a port.
    Name(String, u16),
    /// An address: the name, if any, is in the ClientHello.
    Address(SocketAddr),
}

impl Destination {
    /// The destination that a CONNECT request names: a name, or an address (IPv6 in brackets), and a port.
    #[must_use]
    pub fn parse(host: &str, port: u16) -> Option<Self> {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Some(Self::Address(SocketAddr::new(address.to_canonical(), port)));
        }
        let name = normal_name(host);
        (!name.is_empty() && !name.contains(['[', ']', '%'])).then_some(Self::Name(name, port))
    }

    /// The name, or the address, to connect to.
    #[must_use]
    pub fn host(&self) -> String {
        match self {
            Self::Name(name, _) => name.clone(),
            Self::Address(address) => address.ip().to_string(),
        }
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        match self {
            Self::Name(_, port) => *port,
            Self::Address(address) => address.port(),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name, port) => write!(f, "{name}:{port}"),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// How a connection opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// With a ClientHello, which names a server or none.
    Tls(Option<String>),
    /// With something else.
    NotTls,
    /// It makes no difference, and was not read: the server may be the one to speak first.
    Unread,
}

/// What becomes of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// TLS is terminated with a leaf for this name.
    Intercept(String),
    /// Bytes are copied both ways.
    Splice,
    /// The same, if the name leads to a private address; else it is closed, for this reason.
    SpliceWithin(&'static str),
    /// It is for the metadata server: the sidecar's own, or, when agents bring their own credentials, the node's.
    Metadata,
    /// It is closed, for this reason.
    Refuse(&'static str),
}

/// Must the first bytes be read? On Google's ports any host may turn out to be its front end, which serves BigQuery under
/// every one of its addresses to who asks for it, in the ClientHello or in a Host header.
pub(super) fn depends_on_opening(destination: &Destination) -> bool {
    [HTTPS, HTTP].contains(&destination.port()) || is_ours(&destination.host())
}

/// Is it Google Cloud's metadata server, under one of its addresses or names?
pub(super) fn is_metadata(destination: &Destination) -> bool {
    let host = match destination {
        Destination::Name(name, _) => METADATA_NAMES.contains(&name.as_str()),
        Destination::Address(address) => [METADATA_V4, METADATA_V6].contains(&address.ip()),
    };
    host && destination.port() == HTTP
}

/// Does BigQuery answer under this name, by host or by path?
fn is_ours(name: &str) -> bool {
    matches!(classify_host(name), HostClass::BigQuery | HostClass::SharedGoogle)
}

/// Is this another Google API, of which that is to become?
fn is_google(name: &str, egress: Egress, becomes: OtherGoogleApis) -> bool {
    egress.google == becomes && classify_host(name) == HostClass::OtherGoogle
}

/// Decides on a connection.
pub(super) fn route(destination: &Destination, opening: &Opening, egress: Egress) -> Route {
    let inspected = |name: &str| is_google(name, egress, OtherGoogleApis::Inspect);
    let gives_tokens = |name: &str| egress.keyless && endpoints::is_on(name);
    let looked_into = |name: &str| is_ours(name) || gives_tokens(name) || inspected(name);
    match (destination, opening) {
        (destination, _) if is_metadata(destination) => Route::Metadata,
        (Destination::Name(host, _), Opening::Tls(name)) if looked_into(host) => match name {
            Some(name) if name != host => Route::Refuse("name_mismatch"),
            _ => Route::Intercept(host.clone()),
        },
        (Destination::Name(host, _), _) if is_ours(host) || gives_tokens(host) => Route::Refuse("not_tls"),
        (Destination::Address(_), Opening::Tls(Some(name))) if looked_into(name) => {
            Route::Intercept(name.clone())
        }
        (Destination::Name(..), Opening::Tls(Some(name))) if looked_into(name) => {
            Route::Refuse("name_mismatch")
        }
        (destination, opening) if is_refused(destination, opening, egress) => {
            Route::Refuse("google_api_refused")
        }
        (destination, opening) => elsewhere(destination, unnamed(destination, opening), egress.other),
    }
}

fn is_refused(destination: &Destination, opening: &Opening, egress: Egress) -> bool {
    let host = destination.host();
    let named = match opening {
        Opening::Tls(Some(name)) => name,
        _ => &host,
    };
    [&host, named].into_iter().any(|name| is_google(name, egress, OtherGoogleApis::Refuse))
}

/// Is it left to the Host header, which nobody here sees in every request, who is asked? Then this is the name of the fault.
fn unnamed(destination: &Destination, opening: &Opening) -> Option<&'static str> {
    match opening {
        Opening::Tls(None) => Some("name_absent"),
        Opening::NotTls if destination.port() == HTTP => Some("plain_http"),
        _ => None,
    }
}

/// What is not BigQuery's by name goes as egress says; what has no name, only within networks of one's own.
fn elsewhere(destination: &Destination, unnamed: Option<&'static str>, other: OtherEgress) -> Route {
    match (other, unnamed, destination) {
        (_, Some(fault), Destination::Address(address)) if !is_private(address.ip()) => Route::Refuse(fault),
        (OtherEgress::Refuse, ..) => Route::Refuse("egress_refused"),
        (OtherEgress::Splice, Some(fault), Destination::Name(..)) => Route::SpliceWithin(fault),
        (OtherEgress::Splice, ..) => Route::Splice,
    }
}

/// Addresses of networks of one's own, such as a cluster's API server, which is called by its address, and its services,
/// which speak plain HTTP. Any other may be Google's front end.
pub(super) fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let carrier_grade = address.octets()[0] == 100 && address.octets()[1] & 0xc0 == 64; // RFC 6598; GKE's pods
            address.is_private() || address.is_loopback() || address.is_link_local() || carrier_grade
        }
        IpAddr::V6(address) => {
            address.is_unique_local() || address.is_loopback() || address.is_unicast_link_local()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(name: &str) -> Opening {
        Opening::Tls(Some(name.into()))
    }

    fn routed(host: &str, port: u16, opening: &Opening) -> Route {
        let destination = Destination::parse(host, port).expect("a destination");
        assert!(
            depends_on_opening(&destination) || *opening == Opening::Unread,
            "{host}:{port} would not be read"
        );
        route(&destination, opening, SPLICE)
    }

    const SPLICE: Egress =
        Egress { google: OtherGoogleApis::Splice, other: OtherEgress::Splice, keyless: false };
    const REFUSE: Egress =
        Egress { google: OtherGoogleApis::Refuse, other: OtherEgress::Refuse, keyless: false };
    const INSPECT: Egress = Egress { google: OtherGoogleApis::Inspect, ..SPLICE };

    #[test]
    fn what_gives_out_tokens_is_looked_into_when_agents_hold_no_key() {
        let keyless = [Egress { keyless: true, ..SPLICE }, Egress { keyless: true, ..REFUSE }];
        for egress in keyless {
            for host in ["sts.googleapis.com", "oauth2.googleapis.com", "iamcredentials.mtls.googleapis.com"]
            {
                let named = Destination::parse(host, 443).expect("a destination");
                let address = Destination::parse("192.0.2.1", 443).expect("a destination");
                for destination in [&named, &address] {
                    assert_eq!(
                        route(destination, &tls(host), egress),
                        Route::Intercept(host.into()),
                        "{host}"
                    );
                }
                assert_eq!(route(&named, &Opening::NotTls, egress), Route::Refuse("not_tls"), "{host}");
            }
        }
        assert_eq!(routed("sts.googleapis.com", 443, &tls("sts.googleapis.com")), Route::Splice);
    }

    #[test]
    fn the_metadata_server_is_known_by_its_addresses_and_names() {
        for host in
            ["169.254.169.254", "[::ffff:169.254.169.254]", "[fd20:ce::254]", "metadata.google.internal."]
        {
            assert_eq!(routed(host, 80, &Opening::NotTls), Route::Metadata, "{host}");
        }
        for (host, port) in [("169.254.169.254", 443), ("169.254.1.1", 80), ("metadata.example", 80)] {
            let opening = if port == 443 { tls("x.example") } else { Opening::NotTls };
            assert_ne!(routed(host, port, &opening), Route::Metadata, "{host}:{port}");
        }
    }

    #[test]
    fn other_google_apis_are_looked_into() {
        let routed = |host: &str, port: u16, opening: &Opening, egress: Egress| {
            route(&Destination::parse(host, port).expect("a destination"), opening, egress)
        };
        let (storage, nameless) = ("storage.googleapis.com", Opening::Tls(None));
        for (host, opening) in
            [(storage, tls(storage)), (storage, nameless.clone()), ("192.0.2.1", tls(storage))]
        {
            assert_eq!(routed(host, 443, &opening, INSPECT), Route::Intercept(storage.into()), "{host}");
        }
        for (host, name) in [("innocent.example", storage), (storage, "innocent.example")] {
            assert_eq!(routed(host, 443, &tls(name), INSPECT), Route::Refuse("name_mismatch"), "{host}");
        }
        let only_google = Egress { other: OtherEgress::Splice, ..REFUSE };
        for (host, opening) in [(storage, tls(storage)), ("192.0.2.1", tls(storage)), (storage, nameless)] {
            assert_eq!(
                routed(host, 443, &opening, only_google),
                Route::Refuse("google_api_refused"),
                "{host}"
            );
        }
        assert_eq!(routed("pypi.org", 443, &tls("pypi.org"), only_google), Route::Splice);
        assert_eq!(routed("pypi.org", 443, &tls("pypi.org"), INSPECT), Route::Splice);
    }

    #[test]
    fn bigquery_is_intercepted_under_the_name_that_tls_and_connect_agree_on() {
        let intercept = |name: &str| Route::Intercept(name.to_owned());
        assert_eq!(
            routed("BigQuery.googleapis.com.", 443, &tls("bigquery.googleapis.com")),
            intercept("bigquery.googleapis.com")
        );
        assert_eq!(
            routed("bigquery.googleapis.com", 8443, &tls("bigquery.googleapis.com")),
            intercept("bigquery.googleapis.com")
        );
        assert_eq!(
            routed("www.googleapis.com", 443, &tls("www.googleapis.com")),
            intercept("www.googleapis.com")
        );
        let nameless = Opening::Tls(None);
        assert_eq!(routed("bigquery.googleapis.com", 443, &nameless), intercept("bigquery.googleapis.com"));
        assert_eq!(
            routed("192.0.2.1", 443, &tls("bigquery.googleapis.com")),
            intercept("bigquery.googleapis.com")
        );
        assert_eq!(
            routed("[2001:db8::1]", 443, &tls("bigquerystorage.googleapis.com")),
            intercept("bigquerystorage.googleapis.com")
        );
    }

    #[test]
    fn going_round_by_another_name_is_refused() {
        for (host, opening, category) in [
            ("bigquery.googleapis.com", tls("storage.googleapis.com"), "name_mismatch"),
            ("storage.googleapis.com", tls("bigquery.googleapis.com"), "name_mismatch"),
            ("innocent.example", tls("bigquery.googleapis.com"), "name_mismatch"),
            ("bigquery.googleapis.com", Opening::NotTls, "not_tls"),
            ("142.250.0.1", Opening::Tls(None), "name_absent"),
            ("100.128.0.1", Opening::Tls(None), "name_absent"),
            ("[2a00:1450::1]", Opening::Tls(None), "name_absent"),
        ] {
            assert_eq!(routed(host, 443, &opening), Route::Refuse(category), "{host} {opening:?}");
        }
        assert_eq!(routed("bigquery.googleapis.com", 80, &Opening::NotTls), Route::Refuse("not_tls"));
        assert_eq!(routed("142.250.0.1", 80, &Opening::NotTls), Route::Refuse("plain_http"));
        assert_eq!(routed("142.250.0.1", 80, &Opening::Tls(None)), Route::Refuse("name_absent"));
    }

    /// Whoever owns a name can point it to Google's front end.
    #[test]
    fn without_a_name_in_it_a_connection_stays_within_private_networks() {
        for (host, port, opening, category) in [
            ("anything.example", 443, Opening::Tls(None), "name_absent"),
            ("anything.example", 80, Opening::NotTls, "plain_http"),
        ] {
            assert_eq!(routed(host, port, &opening), Route::SpliceWithin(category), "{host}:{port}");
            let destination = Destination::parse(host, port).expect("a destination");
            let refused = route(&destination, &opening, REFUSE);
            assert_eq!(refused, Route::Refuse("egress_refused"), "{host}:{port}");
        }
        for (address, private) in [
            ("10.0.0.1", true),
            ("::ffff:10.0.0.1", true),
            ("fd00::1", true),
            ("142.250.0.1", false),
            ("::ffff:142.250.0.1", false),
            ("2a00:1450::1", false),
        ] {
            assert_eq!(is_private(address.parse().expect("an address")), private, "{address}");
        }
    }

    #[test]
    fn all_else_goes_as_egress_says() {
        let nameless = Opening::Tls(None);
        for (host, port, opening) in [
            ("storage.googleapis.com", 443, tls("storage.googleapis.com")),
            ("pypi.org", 443, tls("pypi.org")),
            ("10.96.0.1", 443, nameless.clone()),
            ("100.127.0.1", 443, nameless.clone()),
            ("[fd00::1]", 443, nameless),
            ("10.96.0.2", 80, Opening::NotTls),
            ("192.0.2.1", 443, tls("pypi.org")),
            ("git.example", 443, Opening::NotTls),
            ("git.example", 22, Opening::Unread),
        ] {
            assert_eq!(routed(host, port, &opening), Route::Splice, "{host}");
            let destination = Destination::parse(host, port).expect("a destination");
            let refused = route(&destination, &opening, REFUSE);
            assert!(matches!(refused, Route::Refuse("egress_refused" | "google_api_refused")), "{host}");
        }
    }

    #[test]
    fn destinations() {
        assert_eq!(Destination::parse("A.Example.", 1), Some(Destination::Name("a.example".into(), 1)));
        assert_eq!(Destination::parse("[::1]", 1).map(|d| d.to_string()).as_deref(), Some("[::1]:1"));
        assert_eq!(
            Destination::parse("[::ffff:192.0.2.1]", 1).map(|d| d.host()).as_deref(),
            Some("192.0.2.1")
        );
        for bad in ["", ".", "[x]", "fe80::1%eth0"] {
            assert_eq!(Destination::parse(bad, 1), None, "{bad}");
        }
    }
}
