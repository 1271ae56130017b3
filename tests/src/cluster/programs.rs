//! Where the programs are: in the folder that `KUBEBUILDER_ASSETS` names, as far as it has them, else where
//! `tests/setup/cluster.sh` has built them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::skip;
use crate::tools::{on_path, root};

/// All that a control plane needs, and what speaks with it.
const NEEDED: [&str; 5] = ["etcd", "kube-apiserver", "kube-controller-manager", "kubectl", "helm"];

/// The programs of a control plane.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    folders: Vec<PathBuf>,
}

impl Programs {
    /// All of them; or says SKIPPED.
    pub(super) fn find_or_skip() -> Option<Self> {
        let missing = |name| {
            skip::skipped(&format!("no {name} here (tests/setup/cluster.sh builds a control plane)"));
        };
        Self::find().map_err(missing).ok()
    }

    /// All of them, or the name of one that is not here.
    pub(super) fn find() -> Result<Self, &'static str> {
        let given = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
        let programs = Self { folders: given.into_iter().chain(built()).collect() };
        let absent = NEEDED.into_iter().find(|name| programs.of(name).is_none());
        match absent.or_else(|| on_path("setpriv").is_none().then_some("setpriv")) {
            None => Ok(programs),
            Some(name) => Err(name),
        }
    }

    fn of(&self, name: &str) -> Option<PathBuf> {
        self.folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file())
    }

    /// A program that ends, and is not left behind, when this one does, however that happens. It also ends with the thread
    /// that starts it.
    pub(super) fn server(&self, name: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(self.path(name));
        command
    }

    /// One of [`NEEDED`].
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.of(name).unwrap_or_else(|| Path::new(name).to_owned())
    }
}

fn built() -> Option<PathBuf> {
    let folder = std::fs::read_to_string(root().join("target/test-tools-cluster")).ok()?;
    Some(PathBuf::from(folder.trim_end()))
}
