//! Where figures were taken: without this they mean nothing.

use std::fmt;
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

use crate::trouble::{Doing as _, Result, Trouble};

/// Kernel's name of a file system in memory (`TMPFS_MAGIC` of `statfs(2)`): an fdatasync there does nothing.
const TMPFS: i64 = 0x0102_1994;

/// Others at work: above this load before the start, the figures say little.
const QUIET: f64 = 0.7;

/// A machine at one time.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// When.
    pub date: Timestamp,
    /// The processor, as it names itself.
    pub processor: String,
    /// Cores.
    pub cores: usize,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// The kernel's version.
    pub kernel: String,
    /// Load average (1 minute) before the start: other work on this machine.
    pub load: f64,
}

impl Machine {
    /// This one, now.
    ///
    /// # Errors
    /// `/proc` can't be read.
    pub(crate) fn here() -> Result<Self> {
        let read = |path: &str| std::fs::read_to_string(path).doing(format!("reading {path}"));
        let value = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key));
            line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
        };
        let memory = value(&read("/proc/meminfo")?, "MemTotal").unwrap_or_default();
        let kib: u64 = memory.trim_end_matches(" kB").parse().doing("reading the machine's memory")?;
        let load = read("/proc/loadavg")?;
        Ok(Self {
            date: Timestamp::from_second(Timestamp::now().as_second()).doing("reading the clock")?,
            processor: value(&read("/proc/cpuinfo")?, "model name").unwrap_or_else(|| "unknown".into()),
            cores: std::thread::available_parallelism().doing("counting cores")?.get(),
            memory_mib: kib / 1024,
            kernel: read("/proc/sys/kernel/osrelease")?.trim().into(),
            load: load.split(' ').next().unwrap_or_default().parse().doing("reading the load")?,
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { date, processor, cores, memory_mib, kernel, load } = self;
        write!(
            f,
            "{date}, {processor}, {cores} cores, {memory_mib} MiB, Linux {kernel}, load before: {load}"
        )?;
        if *load > QUIET {
            write!(f, " (NOT QUIET: others were at work, the figures are too low)")
        } else {
            Ok(())
        }
    }
}

/// Refuses a folder that is only in memory: durability costs nothing there, and every figure would be a lie.
pub(crate) fn must_be_a_disk(folder: &Path) -> Result<()> {
    let kind = rustix::fs::statfs(folder).doing(format!("asking what {} lies on", folder.display()))?.f_type;
    if kind == TMPFS {
        let folder = folder.display();
        return Err(Trouble::new(format!(
            "{folder} lies in memory (tmpfs): name a folder on a disk with --dir"
        )));
    }
    Ok(())
}
