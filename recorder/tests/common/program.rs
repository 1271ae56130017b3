//! The real program, as a process of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{ISSUER, ORIGIN, Site};

/// Until then it has to listen.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A recorder's process. It is killed when this is dropped.
pub struct Program {
    pub child: Child,
    pub address: SocketAddr,
    pub admin: SocketAddr,
}

impl Program {
    /// Starts it on the site's data, and waits until it listens.
    pub fn start(site: &Site) -> Self {
        let ports = site.path("ports.json");
        if ports.exists() {
            std::fs::remove_file(&ports).unwrap();
        }
        let mut child = command(site, &ports).stdin(Stdio::null()).spawn().unwrap();
        let [address, admin] = wait_for_addresses(&ports, &mut child);
        Self { child, address, admin }
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM: it must end in order.
    pub fn stop(mut self) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success(), "SIGTERM ends it in order");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Errors mean that it has ended.
        let _ended = self.child.kill().is_err() || self.child.wait().is_err();
    }
}

fn command(site: &Site, ports: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bqwitness-recorder"));
    for (flag, path) in [
        ("--data", site.data()),
        ("--tls-cert", site.path("tls.crt")),
        ("--tls-key", site.path("tls.key")),
        ("--jwks", site.path("jwks.json")),
        ("--port-file", ports.into()),
    ] {
        command.arg(flag).arg(path);
    }
    for (flag, value) in [
        ("--listen", "127.0.0.1:0"),
        ("--admin", "127.0.0.1:0"),
        ("--origin", ORIGIN),
        ("--issuer", ISSUER),
        ("--cluster", "test"),
        ("--reader", "audit/auditor"),
        ("--log-level", "error"),
    ] {
        command.args([flag, value]);
    }
    command
}

fn wait_for_addresses(ports: &Path, child: &mut Child) -> [SocketAddr; 2] {
    let deadline = Instant::now() + START_LIMIT;
    while Instant::now() < deadline {
        if let Ok(text) = std::fs::read_to_string(ports) {
            let ports: serde_json::Value = serde_json::from_str(&text).unwrap();
            return ["listen", "admin"].map(|name| ports[name].as_str().unwrap().parse().unwrap());
        }
        assert_eq!(child.try_wait().unwrap(), None, "the recorder did not start");
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("the recorder does not listen");
}
