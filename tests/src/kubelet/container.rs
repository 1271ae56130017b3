//! One container as a command line: its mounts, its user and capabilities, its variables, its program.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::volumes::Volumes;
use super::{list, text};
use crate::programs::{IMAGE, program};
use crate::trouble::{Doing as _, Result, Trouble};

/// What runtimes leave to root in a container that says nothing.
const CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Folders that are empty in every container, so that volumes can be mounted in them.
const EMPTY: [&str; 2] = ["/run", "/mnt"];

/// Where an image has its roots (Debian's package ca-certificates).
const ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What containers have in the place of this machine's files.
#[derive(Debug)]
pub struct Image {
    /// The sidecar's.
    programs: PathBuf,
    /// The sidecar's.
    roots: PathBuf,
    /// The users': folders of this machine that everybody may read there.
    software: Vec<PathBuf>,
}

impl Image {
    /// Made in `folder`, of our programs and the public roots, here one authority's that stands for all.
    ///
    /// # Errors
    /// The programs are not built.
    pub fn of_sidecar(folder: &Path, roots: &Path) -> Result<Self> {
        let programs = folder.join("image");
        std::fs::create_dir(&programs).doing("making an image")?;
        for name in ["bqwitness-proxy", "bqwitness-redirect"] {
            std::fs::copy(program(name)?, programs.join(name)).doing(format!("copying {name}"))?;
        }
        Ok(Self { programs, roots: roots.into(), software: Vec::new() })
    }

    /// The users' containers also have these folders where they are on this machine, whoever may enter the folders above them here.
    #[must_use]
    pub fn with_software(self, folders: &[&Path]) -> Self {
        Self { software: folders.iter().map(|folder| (*folder).to_owned()).collect(), ..self }
    }
}

/// A container of a pod.
pub(super) struct Container<'a> {
    /// The pod's spec.
    pub(super) pod: &'a Value,
    pub(super) container: &'a Value,
    pub(super) volumes: &'a Volumes,
    pub(super) image: &'a Image,
}

impl Container<'_> {
    /// The words that run it in a network namespace.
    pub(super) fn words(&self, network: &Path) -> Result<Vec<String>> {
        let script = [self.mounts()?, self.becoming()?].concat();
        let network = format!("--net={}", network.display());
        let before =
            ["nsenter", &network, "unshare", "--mount", "sh", "-c", &script, text(self.container, "name")?];
        let mut words: Vec<_> = before.iter().map(|word| (*word).to_owned()).collect();
        for part in ["command", "args"] {
            let part = list(&self.container[part]).iter().filter_map(Value::as_str);
            words.extend(part.map(str::to_owned));
        }
        Ok(words)
    }

    fn is_ours(&self) -> bool {
        self.container["image"] == IMAGE
    }

    /// The mounts, of which the other containers see nothing.
    fn mounts(&self) -> Result<String> {
        let mut script = String::from("set -e\n");
        let bind = |from: &Path, to: &str| {
            format!("mount --bind {} {}\n", quoted(&from.display().to_string()), quoted(to))
        };
        if self.is_ours() {
            script.push_str(&bind(&self.image.programs, "/usr/local/bin"));
            script.push_str(&bind(&self.image.roots, ROOTS));
        } else {
            script.push_str(&self.software()?);
        }
        script.push_str(&bind(&self.volumes.hosts, "/etc/hosts"));
        script.push_str(&bind(&self.volumes.resolv_conf, "/etc/resolv.conf"));
        for folder in EMPTY {
            script.push_str(&format!("mount -t tmpfs -o mode=0755 tmpfs {folder}\n"));
        }
        for mount in list(&self.container["volumeMounts"]) {
            let (from, to) = (self.volumes.path(text(mount, "name")?)?, text(mount, "mountPath")?);
            let within = ["/run/", "/var/run/", "/mnt/"].iter().any(|folder| to.starts_with(folder));
            if !within || !mount["subPath"].is_null() {
                return Err(Trouble::new(format!("a mount of a kind that is not known here: {mount}")));
            }
            script.push_str(&format!("mkdir -p {}\n{}", quoted(to), bind(&from, to)));
            if mount["readOnly"] == true {
                script.push_str(&format!("mount -o remount,bind,ro {}\n", quoted(to)));
            }
        }
        if self.context("readOnlyRootFilesystem") == true {
            script.push_str("mount -o remount,bind,ro /\n");
        }
        Ok(script)
    }

    /// An empty folder in the place of each closed one above the software, and in it the software.
    fn software(&self) -> Result<String> {
        let (mut aside, mut back) = (String::from("mount -t tmpfs tmpfs /mnt\n"), String::new());
        let mut closed = BTreeSet::new();
        for (number, folder) in self.image.software.iter().enumerate() {
            let (here, kept) = (quoted(&folder.display().to_string()), format!("/mnt/{number}"));
            let Some(above) = closed_above(folder)? else { continue };
            closed.insert(quoted(&above.display().to_string()));
            aside.push_str(&format!("mkdir {kept}\nmount --bind {here} {kept}\n"));
            back.push_str(&format!(
                "mkdir -p {here}\nmount --move {kept} {here}\nmount -o remount,bind,ro {here}\n"
            ));
        }
        let emptied = closed.iter().map(|folder| format!("mount -t tmpfs -o mode=0755 tmpfs {folder}\n"));
        Ok(format!("mount --make-rprivate /\n{aside}{}{back}umount /mnt\n", emptied.collect::<String>()))
    }

    /// The user, what that one may do, and its variables; then the program.
    fn becoming(&self) -> Result<String> {
        if ["fsGroup", "supplementalGroups"].iter().any(|field| !self.pod["securityContext"][field].is_null())
        {
            return Err(Trouble::new("groups of files are not known here"));
        }
        let user = self.context("runAsUser").as_u64().unwrap_or(if self.is_ours() { 61_337 } else { 0 });
        let group = self.context("runAsGroup").as_u64().unwrap_or(0);
        if self.context("runAsNonRoot") == true && user == 0 {
            return Err(Trouble::new("a container that must not run as root would"));
        }
        let no_new_privileges =
            if self.context("allowPrivilegeEscalation") == false { "--no-new-privs " } else { "" };
        let capabilities = self.capabilities();
        Ok(format!(
            "exec setpriv --pdeathsig=KILL --reuid={user} --regid={group} --clear-groups {no_new_privileges}--inh-caps=-all \
             --bounding-set={capabilities} -- env -i {} \"$@\"\n",
            self.variables()?
        ))
    }

    fn capabilities(&self) -> String {
        let context = &self.container["securityContext"]["capabilities"];
        let names = |field: &str| list(&context[field]).iter().filter_map(Value::as_str).collect::<Vec<_>>();
        let (dropped, added) = (names("drop"), names("add"));
        let left =
            CAPABILITIES.into_iter().filter(|name| !dropped.contains(name) && !dropped.contains(&"ALL"));
        let has: Vec<_> = left.chain(added).map(|name| format!(",+{}", name.to_lowercase())).collect();
        format!("-all{}", has.concat())
    }

    /// A container's own word counts before its pod's.
    fn context(&self, field: &str) -> &Value {
        match &self.container["securityContext"][field] {
            Value::Null => &self.pod["securityContext"][field],
            own => own,
        }
    }

    fn variables(&self) -> Result<String> {
        let path = match self.is_ours() {
            true => "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            false => std::env::var("PATH").unwrap_or_default(),
        };
        let mut variables = vec![quoted(&format!("PATH={path}"))];
        for variable in list(&self.container["env"]) {
            if !variable["valueFrom"].is_null() {
                return Err(Trouble::new(format!("a variable of a kind that is not known here: {variable}")));
            }
            let value = variable["value"].as_str().unwrap_or_default();
            variables.push(quoted(&format!("{}={value}", text(variable, "name")?)));
        }
        Ok(variables.join(" "))
    }
}

/// The first folder above this one that not everybody may enter.
fn closed_above(folder: &Path) -> Result<Option<PathBuf>> {
    let mut above: Vec<_> = folder.ancestors().skip(1).collect();
    above.reverse();
    for one in above {
        let mode = one.metadata().doing(format!("looking at {}", one.display()))?.permissions().mode();
        if mode & 0o001 == 0 {
            return Ok(Some(one.to_owned()));
        }
    }
    Ok(None)
}

/// One word of a shell's.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
