//! Interception by host aliases: every name of BigQuery's leads to the sidecar on loopback, in every container of the pod.
//!
//! `/etc/hosts` knows no wildcards, so names are listed. A name that is not in the list goes its own way: `extraHosts` is for
//! those.

use std::borrow::Cow;
use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::inject::{array, member, object};
use crate::names;
use crate::resource::{BigQueryConnection, InterceptionMode};

/// Services whose every request is a BigQuery call.
const SERVICES: [&str; 7] = [
    "bigquery",
    "bigquerystorage",
    "bigqueryconnection",
    "bigquerydatapolicy",
    "bigquerydatatransfer",
    "bigquerymigration",
    "bigqueryreservation",
];

/// Hosts that serve BigQuery beside others, by path.
const SHARED: [&str; 3] = ["content-bigquery", "content", "www"];

/// Services that give out tokens and keys: an agent that holds none must not get one there.
const TOKENS: [&str; 4] = ["iam", "iamcredentials", "oauth2", "sts"];

/// Services that have regional endpoints, `SERVICE.REGION.rep.googleapis.com`, as BigQuery's page "Regional endpoints" lists them
/// (docs.cloud.google.com/bigquery/docs/regional-endpoints, read in 2026).
const REGIONAL: [&str; 5] =
    ["bigquery", "bigquerystorage", "bigqueryreservation", "bigquerymigration", "bigquerydatatransfer"];

/// Of those that give out tokens: `gcloud iam workload-identity-pools create-cred-config --sts-location` names the one, the JDBC
/// driver's documentation the other.
const REGIONAL_TOKENS: [&str; 2] = ["oauth2", "sts"];

/// Where these are: the page's regions, and those that the endpoints of Google's discovery documents have besides, of
/// bigquery v2, bigquerydatatransfer v1 and bigquerymigration v2. A service that is not in all of them loses nothing by a name more.
const REGIONS: [&str; 28] = [
    "asia-northeast1",
    "asia-south1",
    "asia-south2",
    "asia-southeast1",
    "australia-southeast1",
    "europe-west1",
    "europe-west2",
    "europe-west3",
    "europe-west4",
    "europe-west6",
    "europe-west8",
    "europe-west9",
    "me-central2",
    "northamerica-northeast1",
    "northamerica-northeast2",
    "southamerica-east1",
    "us-central1",
    "us-central2",
    "us-east1",
    "us-east4",
    "us-east5",
    "us-east7",
    "us-south1",
    "us-west1",
    "us-west2",
    "us-west3",
    "us-west4",
    "us-west8",
];

/// Services that have locational endpoints, `LOCATION-SERVICE.googleapis.com`: the older form, which `bq --use_lep` builds for
/// any location, and BigQuery DataFrames for its three.
const LOCATIONAL: [&str; 5] =
    ["bigquery", "bigquerystorage", "bigqueryconnection", "bigqueryreservation", "bigquerydatatransfer"];

/// BigQuery's locations (docs.cloud.google.com/bigquery/docs/locations, read in 2026), and [`REGIONS`].
const LOCATIONS: [&str; 48] = [
    "africa-south1",
    "asia-east1",
    "asia-east2",
    "asia-northeast1",
    "asia-northeast2",
    "asia-northeast3",
    "asia-south1",
    "asia-south2",
    "asia-southeast1",
    "asia-southeast2",
    "asia-southeast3",
    "australia-southeast1",
    "australia-southeast2",
    "eu",
    "europe-central2",
    "europe-north1",
    "europe-north2",
    "europe-southwest1",
    "europe-west1",
    "europe-west10",
    "europe-west12",
    "europe-west2",
    "europe-west3",
    "europe-west4",
    "europe-west6",
    "europe-west8",
    "europe-west9",
    "me-central1",
    "me-central2",
    "me-west1",
    "northamerica-northeast1",
    "northamerica-northeast2",
    "northamerica-south1",
    "southamerica-east1",
    "southamerica-west1",
    "us",
    "us-central1",
    "us-central2",
    "us-east1",
    "us-east4",
    "us-east5",
    "us-east7",
    "us-south1",
    "us-west1",
    "us-west2",
    "us-west3",
    "us-west4",
    "us-west8",
];

/// Longest line of `/etc/hosts` that every C library reads whole, in bytes: musl reads 511. What does not fit on one line goes to
/// the next address.
const MAX_LINE: usize = 500;

/// IPv6 has one loopback address, so its line is as long as it is. Where a line is cut, the name is on an IPv4 line still.
const LOOPBACK_V6: &str = "::1";

/// The port that is aliased.
pub const PORT: u16 = 443;

/// The pod's sysctl by which the sidecar, which is not root, listens on [`PORT`].
pub const SYSCTL: &str = "net.ipv4.ip_unprivileged_port_start";

/// A name of Google's, or one of the connection's own.
pub(crate) type Host = Cow<'static, str>;

/// The names that lead to the sidecar.
#[must_use]
pub fn hosts(connection: &BigQueryConnection) -> Vec<Host> {
    let spec = &connection.spec;
    let google = if spec.identity.mode.is_keyless() { &KEYLESS } else { &WITH_KEYS };
    let mut hosts: Vec<Host> = google.iter().map(|host| host.as_str().into()).collect();
    for host in &spec.interception.extra_hosts {
        let host = Host::from(host.to_ascii_lowercase());
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts
}

/// Google's names, where agents hold no key: made once, since each pod that is created is asked about.
static KEYLESS: LazyLock<Vec<String>> = LazyLock::new(|| google(true));

/// Google's names, where agents have credentials of their own.
static WITH_KEYS: LazyLock<Vec<String>> = LazyLock::new(|| google(false));

fn google(keyless: bool) -> Vec<String> {
    let mut hosts = Vec::new();
    let global =
        |service: &str| [format!("{service}.googleapis.com"), format!("{service}.mtls.googleapis.com")];
    hosts.extend(SERVICES.iter().chain(&SHARED).flat_map(|service| global(service)));
    if keyless {
        hosts.extend(TOKENS.iter().flat_map(|service| global(service)));
        // Nobody listens on its port 80 there: who does not go by the variables finds no metadata server, instead of the node's.
        hosts.push(names::METADATA_NAME.into());
    }
    let regional_tokens = REGIONAL_TOKENS.iter().filter(|_| keyless);
    for service in REGIONAL.iter().chain(regional_tokens) {
        hosts.extend(REGIONS.iter().map(|region| format!("{service}.{region}.rep.googleapis.com")));
    }
    for service in LOCATIONAL {
        hosts.extend(LOCATIONS.iter().map(|location| format!("{location}-{service}.googleapis.com")));
    }
    hosts
}

/// The same by the loopback address that each leads to.
fn lines(connection: &BigQueryConnection) -> Vec<(String, Vec<Host>)> {
    let hosts = hosts(connection);
    let mut lines: Vec<(String, Vec<Host>)> = Vec::new();
    let mut room = 0;
    for host in &hosts {
        if host.len() + 1 > room {
            let address = format!("{}{}", names::ALIAS_PREFIX, lines.len() + 1);
            room = MAX_LINE - address.len();
            lines.push((address, Vec::new()));
        }
        room -= host.len() + 1;
        lines.last_mut().expect("there is one by now").1.push(host.clone());
    }
    lines.push((LOOPBACK_V6.into(), hosts));
    lines
}

/// Where the sidecar listens, as its flag has it.
#[must_use]
pub fn listen(connection: &BigQueryConnection) -> String {
    let lines = lines(connection);
    let address = |(address, _): &(String, Vec<Host>)| match address.contains(':') {
        true => format!("[{address}]:{PORT}"),
        false => format!("{address}:{PORT}"),
    };
    lines.iter().map(address).collect::<Vec<_>>().join(",")
}

/// Leads the pod's containers to the sidecar: names to addresses, and the sysctl.
pub(crate) fn lead(pod: &mut Value, connection: &BigQueryConnection) {
    let spec = member(pod, "spec");
    match connection.spec.interception.mode {
        InterceptionMode::Aliases => {
            lines(connection).iter().for_each(|(address, hosts)| add(spec, address, hosts));
            allow_port(spec);
        }
        InterceptionMode::Redirect if connection.spec.identity.mode.is_keyless() => {
            add(spec, names::METADATA_ADDRESS, &[names::METADATA_NAME.into()]);
        }
        InterceptionMode::Redirect => {}
    }
}

/// Kubernetes takes one entry an address: the user's own stay in it, before ours.
fn add(spec: &mut Value, address: &str, hosts: &[Host]) {
    let aliases = array(member(spec, "hostAliases"));
    let index = aliases.iter().position(|alias| alias["ip"] == *address).unwrap_or_else(|| {
        aliases.push(json!({"ip": address, "hostnames": []}));
        aliases.len() - 1
    });
    array(member(&mut aliases[index], "hostnames"))
        .extend(hosts.iter().map(|host| Value::from(host.as_ref())));
}

fn allow_port(spec: &mut Value) {
    let sysctls = array(member(member(spec, "securityContext"), "sysctls"));
    // One that is there allows it, or the pod was refused.
    if !sysctls.iter().any(|sysctl| sysctl["name"] == SYSCTL) {
        sysctls.push(json!({"name": SYSCTL, "value": PORT.to_string()}));
    }
}

/// Takes away the aliases of an earlier injection, in whichever mode it was.
pub(crate) fn remove_ours(spec: &mut Value) {
    let Some(Value::Array(aliases)) = spec.get_mut("hostAliases") else { return };
    for alias in aliases.iter_mut() {
        let ip = alias["ip"].as_str().unwrap_or_default().to_owned();
        if let Some(Value::Array(hosts)) = alias.get_mut("hostnames") {
            hosts.retain(|host| !is_ours(&ip, host.as_str().unwrap_or_default()));
        }
    }
    aliases.retain(|alias| alias["hostnames"].as_array().is_none_or(|hosts| !hosts.is_empty()));
    if aliases.is_empty() {
        object(spec).remove("hostAliases");
    }
}

/// Does this alias lead where only ours lead? Google's names on loopback, and the metadata server's on its address.
pub(crate) fn is_ours(ip: &str, host: &str) -> bool {
    let metadata = host == names::METADATA_NAME;
    let google = metadata || host.ends_with(".googleapis.com");
    let here = ip == LOOPBACK_V6 || ip.starts_with(names::ALIAS_PREFIX);
    (here && google) || (metadata && ip == names::METADATA_ADDRESS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::needless_pass_by_value)] // json!() reads best where it is given

    use super::*;

    fn connection(interception: Value, identity: Value) -> BigQueryConnection {
        serde_json::from_value(json!({
            "apiVersion": "bqwitness.dev/v1alpha1", "kind": "BigQueryConnection",
            "metadata": {"name": "one", "namespace": "agents"},
            "spec": {"pods": {"selector": {}}, "identity": identity, "interception": interception},
        }))
        .unwrap()
    }

    fn aliases() -> BigQueryConnection {
        let interception = json!({"mode": "Aliases", "extraHosts": ["bigquery-agents.p.googleapis.com", "BigQuery.googleapis.com"]});
        connection(interception, json!({"mode": "Passthrough"}))
    }

    #[test]
    fn every_name_is_there_once_on_a_line_that_every_library_reads() {
        let one = aliases();
        let (hosts, lines) = (hosts(&one), lines(&one));
        for host in [
            "bigquery.googleapis.com",
            "us-west8-bigquery.googleapis.com",
            "eu-bigquerystorage.googleapis.com",
            "us-central2-bigqueryconnection.googleapis.com",
            "bigquery.us-central2.rep.googleapis.com",
            "bigquerymigration.southamerica-east1.rep.googleapis.com",
            "bigquery-agents.p.googleapis.com",
        ] {
            assert_eq!(hosts.iter().filter(|name| *name == host).count(), 1, "{host}");
        }
        let (v6, v4) = lines.split_last().unwrap();
        assert_eq!(v6.1, hosts);
        assert_eq!(v4.iter().flat_map(|(_, hosts)| hosts.clone()).collect::<Vec<_>>(), hosts);
        for (address, hosts) in v4 {
            let line = address.len() + hosts.iter().map(|host| host.len() + 1).sum::<usize>();
            assert!(line <= MAX_LINE, "{address}: {line}");
        }
        assert_eq!(listen(&one).split(',').count(), lines.len());
        assert!(listen(&one).starts_with("127.61.33.1:443,") && listen(&one).ends_with(",[::1]:443"));
    }

    #[test]
    fn regions_are_locations() {
        assert!(REGIONS.iter().all(|region| LOCATIONS.contains(region)));
        assert!(REGIONS.is_sorted() && LOCATIONS.is_sorted(), "so that one that is missing is seen");
    }

    #[test]
    fn agents_that_hold_no_key_find_none_by_name() {
        let federated = json!({"federated": {"provider": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/a/providers/b"}});
        let keyless = hosts(&connection(json!({"mode": "Aliases"}), federated));
        for host in [
            "sts.googleapis.com",
            "oauth2.mtls.googleapis.com",
            "sts.us-central1.rep.googleapis.com",
            names::METADATA_NAME,
        ] {
            assert!(keyless.iter().any(|name| name == host), "{host}");
            assert!(!hosts(&aliases()).iter().any(|name| name == host), "{host}");
        }
    }

    #[test]
    fn the_users_own_aliases_stay() {
        let theirs = json!([{"ip": "::1", "hostnames": ["mine"]}, {"ip": "10.0.0.7", "hostnames": ["ledger.internal"]}]);
        let mut pod = json!({"spec": {"hostAliases": theirs}});
        lead(&mut pod, &aliases());
        let entries = pod["spec"]["hostAliases"].as_array().unwrap();
        let ips: std::collections::BTreeSet<_> =
            entries.iter().map(|entry| entry["ip"].as_str().unwrap()).collect();
        assert_eq!(ips.len(), entries.len(), "one entry an address: {entries:?}");
        assert_eq!(entries[0]["hostnames"][0], "mine");
        remove_ours(&mut pod["spec"]);
        assert_eq!(pod["spec"]["hostAliases"], theirs);
    }
}
