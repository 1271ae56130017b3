//! A memory limit for one process: the kernel kills it when it needs more, as it kills a container that has outgrown its own.

use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::trouble::{Doing as _, Result, Trouble};

/// Where memory cgroups are, by version, and what they call limit, limit with swap, and the counter of kills.
const VERSIONS: [Version; 2] = [
    Version {
        root: "/sys/fs/cgroup/memory",
        limit: "memory.limit_in_bytes",
        no_swap: ("memory.memsw.limit_in_bytes", None),
        kills: "memory.oom_control",
    },
    Version {
        root: "/sys/fs/cgroup",
        limit: "memory.max",
        no_swap: ("memory.swap.max", Some("0")),
        kills: "memory.events",
    },
];

#[derive(Clone, Copy, Debug)]
struct Version {
    root: &'static str,
    limit: &'static str,
    /// The file, and what is written to it; `None` is the limit itself.
    no_swap: (&'static str, Option<&'static str>),
    kills: &'static str,
}

/// A cgroup of its own; gone when it is dropped, if its process has ended by then.
#[derive(Debug)]
pub struct MemoryLimit {
    folder: PathBuf,
    version: Version,
}

impl MemoryLimit {
    /// Makes a cgroup, without a limit as yet. Needs root, and a memory cgroup file system (version 1 or 2) that may be written.
    ///
    /// # Errors
    /// There is none: says why.
    pub fn make() -> Result<Self> {
        let mut why = String::new();
        for version in VERSIONS {
            match Self::make_in(version) {
                Ok(limit) => return Ok(limit),
                Err(trouble) => why = format!("{why}{trouble}; "),
            }
        }
        Err(Trouble::new(format!("no memory cgroup can be made here: {why}")))
    }

    fn make_in(version: Version) -> Result<Self> {
        let root = Path::new(version.root);
        if version.root == VERSIONS[1].root {
            // Not an error yet: it may be on already, or the file system may be version 1's.
            let _on = std::fs::write(root.join("cgroup.subtree_control"), "+memory").is_ok();
        }
        let folder = root.join(format!("bqwitness-{}", Uuid::now_v7().simple()));
        std::fs::create_dir(&folder).doing(format!("making {}", folder.display()))?;
        let limit = Self { folder, version };
        match limit.file(version.limit).exists() {
            true => Ok(limit),
            false => Err(Trouble::new(format!("{} has no {}", version.root, version.limit))),
        }
    }

    /// From now on, `process` may take `bytes` more than it has: what it holds by then is charged elsewhere.
    ///
    /// # Errors
    /// The system refuses.
    pub fn hold(&self, process: u32, bytes: u64) -> Result<()> {
        let doing = || format!("limiting the memory of process {process}");
        std::fs::write(self.file(self.version.limit), bytes.to_string()).doing(doing())?;
        let (no_swap, value) = self.version.no_swap;
        if self.file(no_swap).exists() {
            let value = value.map_or_else(|| bytes.to_string(), ToOwned::to_owned);
            std::fs::write(self.file(no_swap), value).doing(doing())?;
        }
        std::fs::write(self.file("cgroup.procs"), process.to_string()).doing(doing())
    }

    /// How many processes the kernel has killed for it.
    ///
    /// # Errors
    /// The counter can't be read.
    pub fn kills(&self) -> Result<u64> {
        let text = std::fs::read_to_string(self.file(self.version.kills)).doing("counting OOM kills")?;
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.ok_or_else(|| Trouble::new("the kernel counts no OOM kills"))?.trim().parse().doing("OOM kills")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // An error: its process still runs, and the empty folder stays behind it.
        let _gone = std::fs::remove_dir(&self.folder).is_ok();
    }
}
