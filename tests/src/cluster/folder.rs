//! Where a control plane keeps its data and its logs: a folder in `target/cluster`, named by the process that made it.
//! Those of processes that are gone are removed by the next one: until then, logs can be read.

use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::tools::root;
use crate::trouble::{Doing as _, Result};

/// A control plane's folder.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Makes one, after it has removed those that nobody needs.
    pub(super) fn make() -> Result<Self> {
        let all = root().join("target/cluster");
        std::fs::create_dir_all(&all).doing(format!("making {}", all.display()))?;
        sweep(&all)?;
        let own = all.join(format!("{}-{}", std::process::id(), Uuid::now_v7().simple()));
        std::fs::create_dir(&own).doing(format!("making {}", own.display()))?;
        Ok(Self(own))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

fn sweep(all: &Path) -> Result<()> {
    let looking = || format!("looking through {}", all.display());
    for entry in std::fs::read_dir(all).doing(looking())? {
        let path = entry.doing(looking())?.path();
        if is_over(&path) {
            // Another test program may have been quicker.
            let _removed = std::fs::remove_dir_all(&path).is_ok();
        }
    }
    Ok(())
}

/// Is the process gone that made this folder?
fn is_over(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let maker = name.split('-').next().unwrap_or_default();
    !Path::new("/proc").join(maker).exists()
}
