//! A pod's volumes as folders, each filled as the kubelet fills it; and the files by which its containers find names.

use std::fs::Permissions;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Node, list, text, write};
use crate::trouble::{Doing as _, Result, Trouble};

/// All volumes of a pod.
#[derive(Debug)]
pub(super) struct Volumes {
    folder: PathBuf,
    pub(super) hosts: PathBuf,
    pub(super) resolv_conf: PathBuf,
}

impl Volumes {
    pub(super) async fn set_up(
        node: &Node,
        pod: &Value,
        inside: IpAddr,
        name_server: IpAddr,
        folder: &Path,
    ) -> Result<Self> {
        let folder = folder.join("volumes");
        std::fs::create_dir(&folder).doing("making a folder for volumes")?;
        for volume in list(&pod["spec"]["volumes"]) {
            let path = folder.join(text(volume, "name")?);
            std::fs::create_dir(&path).doing("making a volume")?;
            fill(node, pod, volume, &path).await?;
        }
        let (hosts, resolv_conf) = (folder.join(".hosts"), folder.join(".resolv.conf"));
        write(&hosts, &hosts_file(pod, inside)?)?;
        let home = text(&pod["metadata"], "namespace")?;
        let search = format!("search {home}.svc.cluster.local svc.cluster.local cluster.local");
        write(&resolv_conf, &format!("nameserver {name_server}\n{search}\noptions ndots:5\n"))?;
        Ok(Self { folder, hosts, resolv_conf })
    }

    /// Where a volume lies.
    pub(super) fn path(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        if path.is_dir() { Ok(path) } else { Err(Trouble::new(format!("the pod has no volume {name}"))) }
    }
}

async fn fill(node: &Node, pod: &Value, volume: &Value, path: &Path) -> Result<()> {
    if volume["emptyDir"].is_object() {
        return std::fs::set_permissions(path, Permissions::from_mode(0o777)).doing("opening an emptyDir");
    }
    if volume["configMap"].is_object() {
        return config_map(node, pod, &volume["configMap"], path).await;
    }
    if !volume["projected"].is_object() {
        return Err(Trouble::new(format!("a volume of a kind that is not known here: {volume}")));
    }
    for source in list(&volume["projected"]["sources"]) {
        if source["serviceAccountToken"].is_object() {
            let source = &source["serviceAccountToken"];
            write(&path.join(text(source, "path")?), &node.token(pod, source).await?)?;
        } else if source["configMap"].is_object() {
            config_map(node, pod, &source["configMap"], path).await?;
        } else {
            for item in list(&source["downwardAPI"]["items"]) {
                let field = text(&item["fieldRef"], "fieldPath")?.replace('.', "/");
                let value = pod.pointer(&format!("/{field}")).and_then(Value::as_str);
                let value = value.ok_or_else(|| Trouble::new(format!("the pod has no {field}")))?;
                write(&path.join(text(item, "path")?), value)?;
            }
        }
    }
    Ok(())
}

async fn config_map(node: &Node, pod: &Value, source: &Value, path: &Path) -> Result<()> {
    let data = node.config_map(text(&pod["metadata"], "namespace")?, text(source, "name")?).await?;
    for item in list(&source["items"]) {
        write(&path.join(text(item, "path")?), text(&data, text(item, "key")?)?)?;
    }
    Ok(())
}

/// `/etc/hosts`, which the kubelet writes into every container.
fn hosts_file(pod: &Value, inside: IpAddr) -> Result<String> {
    let mut hosts = format!(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{inside}\t{}\n",
        text(&pod["metadata"], "name")?
    );
    for alias in list(&pod["spec"]["hostAliases"]) {
        let names: Vec<_> = list(&alias["hostnames"]).iter().filter_map(Value::as_str).collect();
        hosts.push_str(&format!("{}\t{}\n", text(alias, "ip")?, names.join("\t")));
    }
    Ok(hosts)
}
