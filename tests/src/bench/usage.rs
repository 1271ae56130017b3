//! What a process uses: CPU time and memory, as the kernel counts them.

use std::time::Duration;

use crate::trouble::{Doing as _, Result, Trouble};

/// What a process used until now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// CPU time of all its threads, in user and kernel mode. The kernel counts it in steps of 10 ms.
    pub(crate) cpu: Duration,
    /// Memory that it holds now, in MiB.
    pub(crate) resident: f64,
    /// The most that it ever held, in MiB.
    pub(crate) peak: f64,
}

impl Usage {
    /// What process `id` used.
    ///
    /// # Errors
    /// It is gone.
    pub(crate) fn of(id: u32) -> Result<Self> {
        let read = |file: &str| {
            let path = format!("/proc/{id}/{file}");
            std::fs::read_to_string(&path).doing(format!("reading {path}"))
        };
        let (stat, status) = (read("stat")?, read("status")?);
        let odd = || Trouble::new(format!("/proc/{id} is not as expected"));
        let cpu = cpu(&stat).ok_or_else(odd)?;
        let mib = |key| mib(&status, key).ok_or_else(odd);
        Ok(Self { cpu, resident: mib("VmRSS:")?, peak: mib("VmHWM:")? })
    }
}

/// Fields 14 and 15 of `proc_pid_stat(5)`, in hundredths of a second; the second field is in parentheses and may hold
/// anything.
fn cpu(stat: &str) -> Option<Duration> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}

fn mib(status: &str, key: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: u32 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(f64::from(kib) / 1024.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_in_parentheses_does_not_confuse() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 1 0 0 0 150 50 0 0 20 0 1 0";
        assert_eq!(cpu(stat), Some(Duration::from_secs(2)));
    }

    #[test]
    fn this_process_uses_something() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.resident > 0.0 && usage.peak >= usage.resident / 2.0);
    }
}
