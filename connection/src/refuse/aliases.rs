//! What would get round host aliases, or can't be together with them.

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::{Refusal, is_within};
use crate::aliases::{self, Host, PORT, SYSCTL};
use crate::resource::{BigQueryConnection, IdentityMode};

/// Every reason against recording this pod by host aliases, `hosts` being the names that lead to the sidecar.
pub(crate) fn pod(spec: &PodSpec, hosts: &[Host]) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    own_aliases(spec, hosts, &mut refusals);
    sysctl(spec, &mut refusals);
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        if !super::CONTAINERS.contains(&container.name.as_str()) {
            self::container(container, &mut refusals);
        }
    }
    refusals
}

/// The API server says the same of a connection that is applied; a file has seen no API server.
pub(crate) fn connection(connection: &BigQueryConnection) -> Option<Refusal> {
    (connection.spec.identity.mode == IdentityMode::WorkloadIdentity).then(|| {
        let sentence = "identity mode WorkloadIdentity needs interception mode Redirect: without its rules agents reach the node's \
                        metadata server, and with it the pod's credential, as the sidecar does; use Federated";
        Refusal::new("identity_mode", sentence)
    })
}

fn own_aliases(spec: &PodSpec, hosts: &[Host], refusals: &mut Vec<Refusal>) {
    for alias in spec.host_aliases.iter().flatten() {
        for name in alias.hostnames.iter().flatten() {
            let lower = name.to_ascii_lowercase();
            // Ours first: they are hundreds, and each would be looked for among hundreds.
            if !aliases::is_ours(&alias.ip, &lower) && hosts.iter().any(|host| *host == lower) {
                let sentence = format!(
                    "spec.hostAliases leads {name} to {}, and its calls would not be recorded: in interception mode Aliases it leads to \
                     the sidecar; remove it",
                    alias.ip
                );
                refusals.push(Refusal::new("host_alias", sentence));
            }
        }
    }
}

fn sysctl(spec: &PodSpec, refusals: &mut Vec<Refusal>) {
    let sysctls = spec.security_context.iter().flat_map(|context| context.sysctls.iter().flatten());
    for sysctl in sysctls.filter(|sysctl| sysctl.name == SYSCTL) {
        if !sysctl.value.trim().parse::<u16>().is_ok_and(|first| first <= PORT) {
            let sentence = format!(
                "sysctl {SYSCTL} is {:?}, and the sidecar, which is not root, listens on port {PORT}: set it to {PORT} or less, or remove it",
                sysctl.value
            );
            refusals.push(Refusal::new("sysctl", sentence));
        }
    }
}

fn container(container: &Container, refusals: &mut Vec<Refusal>) {
    let place = format!("container {}", container.name);
    for mount in container.volume_mounts.iter().flatten() {
        if is_within("/etc/hosts", &mount.mount_path) {
            let sentence = format!(
                "{place} mounts something at {}, and so has an /etc/hosts of its own, without the names that lead to the sidecar: mount \
                 it elsewhere",
                mount.mount_path
            );
            refusals.push(Refusal::new("hosts_file", sentence));
        }
    }
    for port in container.ports.iter().flatten().filter(|port| port.container_port == i32::from(PORT)) {
        let sentence = format!(
            "{place} listens on port {}, which the sidecar has on loopback in interception mode Aliases: choose another",
            port.container_port
        );
        refusals.push(Refusal::new("reserved_port", sentence));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::needless_pass_by_value)] // json!() reads best where it is given

    use super::*;
    use serde_json::{Value, json};

    fn refused(spec: &Value) -> Vec<&'static str> {
        let spec: PodSpec = serde_json::from_value(spec.clone()).unwrap();
        pod(&spec, &["bigquery.googleapis.com".into()]).iter().map(Refusal::category).collect()
    }

    #[test]
    fn what_gets_round_the_aliases_has_a_name() {
        let alias = |ip: &str, name: &str| {
            refused(
                &json!({"containers": [], "hostAliases": [{"ip": ip, "hostnames": ["fine.example", name]}]}),
            )
        };
        assert_eq!(alias("199.36.153.8", "bigquery.googleapis.com"), ["host_alias"]);
        assert_eq!(alias("199.36.153.8", "BigQuery.googleapis.com"), ["host_alias"]);
        assert_eq!(alias("199.36.153.8", "storage.googleapis.com"), [""; 0]);
        assert_eq!(alias("127.61.33.1", "bigquery.googleapis.com"), [""; 0], "ours, on the second call");

        let sysctl = |value: &str| {
            refused(
                &json!({"containers": [], "securityContext": {"sysctls": [{"name": SYSCTL, "value": value}]}}),
            )
        };
        assert_eq!((sysctl("444"), sysctl("x")), (vec!["sysctl"], vec!["sysctl"]));
        assert_eq!((sysctl("443"), sysctl("0")), (vec![], vec![]));

        let with = |more: Value| {
            let mut agent = json!({"name": "agent"});
            agent.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            refused(&json!({"containers": [agent]}))
        };
        for path in ["/etc/hosts", "/etc", "/etc/", "/", "/etc/../etc/hosts"] {
            assert_eq!(
                with(json!({"volumeMounts": [{"name": "v", "mountPath": path}]})),
                ["hosts_file"],
                "{path}"
            );
        }
        assert_eq!(with(json!({"volumeMounts": [{"name": "v", "mountPath": "/etc/agent"}]})), [""; 0]);
        assert_eq!(with(json!({"ports": [{"containerPort": 443}]})), ["reserved_port"]);
    }
}
