//! The values of single flags, as they are written.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use http::Uri;
use ledger::statement::Connection;
use runtime::tls;
use rustls::RootCertStore;

use crate::names::Names;

pub(super) fn recorder_url(text: &str) -> Result<Uri, String> {
    let url: Uri = text.parse().map_err(|error| format!("{text:?}: {error}"))?;
    let plain_origin = url.path() == "/" && url.query().is_none();
    match (url.scheme_str(), url.authority()) {
        (Some("https"), Some(_)) if plain_origin => Ok(url),
        _ => Err(format!("{text:?} is not of the form https://host:port")),
    }
}

pub(super) fn connection(text: &str) -> Result<Connection, String> {
    let named = |part: &str| !part.is_empty() && part.len() <= 253 && !part.contains(char::is_whitespace);
    match text.split_once('/') {
        Some((namespace, name)) if named(namespace) && named(name) && !name.contains('/') => Ok(Connection {
            namespace: namespace.into(),
            name: name.into(),
            uid: String::new(),
            generation: 0,
            spec_digest: None,
        }),
        _ => Err(format!("{text:?} is not of the form namespace/name")),
    }
}

pub(super) fn overrides(texts: &[String]) -> Result<Names, String> {
    let one = |text: &String| -> Option<((String, u16), SocketAddr)> {
        let (name, address) = text.split_once('=')?;
        let (host, port) = name.rsplit_once(':')?;
        Some(((host.to_ascii_lowercase(), port.parse().ok()?), address.parse().ok()?))
    };
    let parsed = texts.iter().map(|text| {
        one(text)
            .ok_or_else(|| format!("{text:?} is not of the form HOST:PORT=ADDR:PORT, with an IP address"))
    });
    parsed.collect::<Result<HashMap<_, _>, _>>().map(Names::new)
}

pub(super) fn addresses(texts: &[String]) -> Result<Vec<SocketAddr>, String> {
    let one = |text: &String| text.parse().map_err(|error| format!("{text:?}: {error}"));
    texts.iter().map(one).collect()
}

/// Who arrives there is taken for this pod's agent.
pub(super) fn loopbacks(texts: &[String]) -> Result<Vec<SocketAddr>, String> {
    texts.iter().map(|text| loopback(text)).collect()
}

/// Placeholders are handed to whoever asks: that must be this pod.
pub(super) fn loopback(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => Ok(address),
        Ok(_) => Err(format!("{text:?} is not a loopback address: only the sidecar's own pod may ask there")),
        Err(error) => Err(format!("{text:?}: {error}")),
    }
}

pub(super) fn upstream_roots(file: Option<&Path>) -> Result<RootCertStore, tls::TlsError> {
    file.map_or_else(tls::system_roots, tls::pinned_roots)
}

/// Fewest bytes between two words of a call's progress: less would make more record than data.
const MIN_PROGRESS_BYTES: u64 = 64 * 1024;

pub(super) fn progress_bytes(text: &str) -> Result<u64, String> {
    let bytes: u64 = text.parse().map_err(|error| format!("{text:?}: {error}"))?;
    if bytes < MIN_PROGRESS_BYTES {
        return Err(format!("{bytes} is less than {MIN_PROGRESS_BYTES}"));
    }
    Ok(bytes)
}

/// Shortest time between two words of a call's progress.
const MIN_PROGRESS_EVERY: Duration = Duration::from_millis(50);

pub(super) fn progress_every(text: &str) -> Result<Duration, String> {
    let every = seconds(text)?;
    if every < MIN_PROGRESS_EVERY {
        return Err(format!("{text} seconds is less than {MIN_PROGRESS_EVERY:?}"));
    }
    Ok(every)
}

/// Longest time that a setting may name, in seconds.
const MAX_SECONDS: f64 = 3600.0;

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= MAX_SECONDS => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!("{text:?} is not a number of seconds above 0 and up to {MAX_SECONDS}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_a_namespace_and_a_name() {
        assert_eq!(connection("agents/billing").expect("well formed").name, "billing");
        for bad in ["billing", "/billing", "agents/", "a/b/c", "a b/c", ""] {
            assert!(connection(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_recorder_is_an_https_origin() {
        assert!(recorder_url("https://recorder:8443").is_ok());
        assert!(recorder_url("https://[::1]:8443/").is_ok());
        for bad in ["http://recorder", "recorder:8443", "https://recorder/path", "https://recorder?x", ""] {
            assert!(recorder_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn overrides_name_host_port_and_address() {
        let one = overrides(&["BigQuery.googleapis.com:443=[::1]:8443".into()]).expect("well formed");
        assert_eq!(
            one.overridden("bigquery.googleapis.com", 443),
            Some("[::1]:8443".parse().expect("an address"))
        );
        assert_eq!(one.overridden("bigquery.googleapis.com", 444), None);
        for bad in ["a=1.2.3.4:5", "a:443=host:5", "a:x=1.2.3.4:5", "a:443"] {
            assert!(overrides(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
