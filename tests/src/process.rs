//! Child processes: started, waited for, stopped, and never left behind, however this process ends.

use std::fs::File;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use uuid::Uuid;

use crate::trouble::{Doing as _, Result, Trouble};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(10);

/// How long a process may take to stop after SIGTERM; then it is killed, and that is trouble. No program of ours allows itself as long.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// How much of a log is shown when something went wrong.
const LOG_LINES: usize = 40;

/// The words before a program that is killed when the thread that started it ends, and with it when this process is killed.
/// Who changes its user later must say so again.
pub const DIES_WITH_US: [&str; 2] = ["setpriv", "--pdeathsig=KILL"];

/// A running program. Dropped, it is killed; while a test panics, the end of its log is printed first.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; what it prints goes to `NAME.log` in `folder`, behind what is there.
    ///
    /// # Errors
    /// The program can't be run.
    pub fn start(name: &str, command: &mut Command, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .doing(format!("opening {}", log.display()))?;
        let errors = file.try_clone().doing("opening a log twice")?;
        let program = command.get_program().display().to_string();
        let child = dying_with_us(command).stdin(Stdio::null()).stdout(file).stderr(errors).spawn();
        let child = child.doing(format!("starting {program}"))?;
        Ok(Self { name: name.into(), child, log })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log)
            .unwrap_or_else(|error| format!("({}: {error})", self.log.display()))
    }

    /// Waits until `condition` gives something. Never longer than `limit`, nor for a process that has ended.
    ///
    /// # Errors
    /// Too late, or the process has ended: with the end of its log.
    pub async fn until<T, F: Future<Output = Option<T>>>(
        &mut self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut() -> F,
    ) -> Result<T> {
        let start = Instant::now();
        loop {
            if let Some(found) = condition().await {
                return Ok(found);
            }
            if let Some(status) = self.child.try_wait().doing("asking for a process's state")? {
                return Err(self.trouble(&format!("{} ended ({status}) before {what}", self.name)));
            }
            if start.elapsed() > limit {
                return Err(self.trouble(&format!("{}: no {what} after {limit:?}", self.name)));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Asks it to stop (SIGTERM) and waits until it has ended.
    ///
    /// # Errors
    /// It did not stop within 30 seconds; it is killed then.
    pub async fn stop(mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.ended(STOP_LIMIT).await
    }

    /// Kills it (SIGKILL), as a crash does, and waits until it has ended.
    ///
    /// # Errors
    /// The system's.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().doing(format!("killing {}", self.name))?;
        self.child.wait().map(drop).doing(format!("waiting for {}", self.name))
    }

    /// Waits until it ends by itself, or by somebody else.
    ///
    /// # Errors
    /// It does not within `limit`: with the end of its log.
    pub async fn ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        while start.elapsed() < limit {
            if let Some(status) = self.child.try_wait().doing("asking for a process's state")? {
                return Ok(status);
            }
            tokio::time::sleep(POLL).await;
        }
        Err(self.trouble(&format!("{} did not end within {limit:?}", self.name)))
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// The system's.
    pub fn status(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().doing("asking for a process's state")
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let id = id.ok_or_else(|| Trouble::new(format!("{} has no process id", self.name)))?;
        kill_process(id, signal).doing(format!("signalling {}", self.name))
    }

    fn trouble(&self, what: &str) -> Trouble {
        Trouble::new(format!("{what}; it said:\n{}", tail(&self.log())))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        #[allow(clippy::print_stderr)] // for the one who reads why a test failed
        if std::thread::panicking() {
            eprintln!("--- the end of {}:\n{}", self.log.display(), tail(&self.log()));
        }
        // An error means that it has ended already.
        let _ended = self.child.kill().and_then(|()| self.child.wait()).is_ok();
    }
}

/// The same command, that ends when this process does.
fn dying_with_us(command: &Command) -> Command {
    let [first, flag] = DIES_WITH_US;
    let mut dying = Command::new(first);
    dying.arg(flag).arg("--").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => dying.env(name, value),
            None => dying.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        dying.current_dir(folder);
    }
    dying
}

/// The ends of all logs in `folder`, each under its name.
#[must_use]
pub fn logs(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let logs = files.filter(|path| path.extension().is_some_and(|end| end == "log"));
    logs.map(|path| {
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| error.to_string());
        format!("--- the end of {}:\n{}", path.display(), tail(&text))
    })
    .collect()
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

/// Ports that are handed out here. Systems choose theirs above 32,768 for whoever asks for any, and for every connection that goes
/// out: a port from there may be taken before its program listens on it, or while that is being restarted.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// A port of 127.0.0.1 that was free a moment ago, for programs that can't choose one themselves.
///
/// # Errors
/// The system has none.
pub fn free_port() -> Result<SocketAddr> {
    free_port_at(Ipv4Addr::LOCALHOST.into())
}

/// The same of another address of this machine. No port is given twice by this process.
///
/// # Errors
/// The system has none, or the address is not this machine's.
pub fn free_port_at(address: IpAddr) -> Result<SocketAddr> {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(any_number()));
    let candidates =
        PORTS.map(|_| PORTS.start + NEXT.fetch_add(1, Ordering::Relaxed) % (PORTS.end - PORTS.start));
    let mut free = candidates.filter_map(|port| TcpListener::bind((address, port)).ok());
    let listener = match free.next() {
        Some(listener) => listener,
        None => TcpListener::bind((address, 0)).doing("looking for a free port")?,
    };
    listener.local_addr().doing("looking for a free port")
}

/// To begin with, unlike other processes.
pub(crate) fn any_number() -> u16 {
    let [.., high, low] = *Uuid::now_v7().as_bytes();
    u16::from_be_bytes([high, low])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn shell(script: &str, folder: &Path) -> Process {
        Process::start("shell", Command::new("sh").args(["-c", script]), folder).unwrap()
    }

    #[tokio::test]
    async fn a_process_is_waited_for_and_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let marker = folder.path().join("marker");
        let script =
            format!("trap 'echo bye; exit 3' TERM; touch {}; while :; do sleep 0.01; done", marker.display());
        let mut process = shell(&script, folder.path());
        process.until("marker", LIMIT, || async { marker.exists().then_some(()) }).await.unwrap();
        assert_eq!(process.stop().await.unwrap().code(), Some(3));
        assert_eq!(std::fs::read_to_string(folder.path().join("shell.log")).unwrap(), "bye\n");
    }

    #[tokio::test]
    async fn a_process_that_ends_too_early_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = shell("echo no such flag >&2; exit 2", folder.path());
        let trouble = process.until("port", LIMIT, || async { None::<()> }).await.unwrap_err();
        assert!(
            trouble.to_string().contains("before port") && trouble.to_string().contains("no such flag"),
            "{trouble}"
        );
    }

    #[tokio::test]
    async fn a_process_does_not_outlive_who_started_it() {
        let folder = tempfile::tempdir().unwrap();
        let (path, marker) = (folder.path().to_owned(), folder.path().join("marker"));
        // The system goes by the thread; a process that is killed ends with all of its threads.
        let starts_it = move || {
            let process = shell(&format!("touch {}; exec sleep 600", marker.display()), &path);
            while !marker.exists() {
                std::thread::yield_now();
            }
            process
        };
        let mut process = std::thread::spawn(starts_it).join().unwrap();
        let start = Instant::now();
        while process.child.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < LIMIT, "it goes on");
            tokio::time::sleep(POLL).await;
        }
    }

    #[test]
    fn no_port_is_handed_out_twice() {
        let ports: std::collections::BTreeSet<_> = (0..50).map(|_| free_port().unwrap().port()).collect();
        assert_eq!(ports.len(), 50);
        assert!(ports.iter().all(|port| PORTS.contains(port)), "{ports:?}");
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let process = shell("sleep 600", folder.path());
        let proc = format!("/proc/{}", process.child.id());
        drop(process);
        assert!(!Path::new(&proc).exists());
    }
}
