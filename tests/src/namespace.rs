//! A network namespace like a pod's whose connections are redirected: whatever an agent in it does, ports 80 and 443 lead to
//! the sidecar, and nothing else leads anywhere. Needs root.
//!
//! ```text
//! namespace                                             this machine
//!   agent (root without capabilities)
//!     └─ TCP 80, 443 ──REDIRECT──> sidecar (uid 61337) ──veth──> "Google" and the recorder, at the same address
//!     └─ all else ───REJECT
//! ```
//!
//! The agent is root, as in many containers, and holds no capability, as the injector will see to: it can't become the
//! sidecar's user, nor change the rules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

use uuid::Uuid;

use crate::process::any_number;
use crate::programs::program;
use crate::tools::on_path;
use crate::trouble::{Doing as _, Result, Trouble};

/// The user that sidecars in a namespace run as; nobody else does.
pub const SIDECAR: u32 = 61_337;

/// The port on loopback where redirected connections arrive.
const REDIRECT: u16 = 15_001;

/// Names of Google's that have an address there. There is no other name service.
const NAMES: &str =
    "bigquery.googleapis.com bigquerystorage.googleapis.com www.googleapis.com storage.googleapis.com";

/// The metadata server of every machine of Google Cloud.
const METADATA: &str = "169.254.169.254";

/// RFC 2544 and RFC 5180: for tests between networks, and nobody's address. To the sidecar they are public.
const NETWORKS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
const NETWORKS_V6: [u16; 3] = [0x2001, 2, 0];

/// What names of namespaces begin with; the process that made them follows.
const PREFIX: &str = "bqwitness-";

/// A namespace; gone when it is dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    link: String,
    /// This machine's end of the link.
    gateway: IpAddr,
    outside: IpAddr,
    inside: IpAddr,
    /// Another address of this machine, in namespaces of pods.
    second: IpAddr,
}

/// The address family of a namespace; in the other one nothing leaves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    fn iptables(self) -> &'static str {
        match self {
            Self::V4 => "iptables",
            Self::V6 => "ip6tables",
        }
    }

    fn loopback(self) -> &'static str {
        match self {
            Self::V4 => "127.0.0.0/8",
            Self::V6 => "::1",
        }
    }

    /// This machine's address, the namespace's, and a second one of this machine, in a network of their own: no two of a process
    /// share one, and those of two processes hardly ever.
    fn network(self, [high, low]: [u8; 2]) -> [IpAddr; 3] {
        match self {
            // One of 16,384 networks of eight addresses.
            Self::V4 => {
                let number = u32::from(u16::from_be_bytes([high & 0x3f, low]));
                let address = |host: u32| Ipv4Addr::from(u32::from(NETWORKS) + number * 8 + host).into();
                [1, 2, 3].map(address)
            }
            Self::V6 => {
                let ([a, b, c], number) = (NETWORKS_V6, u16::from_be_bytes([high, low]));
                let address = |host: u16| Ipv6Addr::new(a, b, c, number, 0, 0, 0, host).into();
                [1, 2, 3].map(address)
            }
        }
    }
}

impl Namespace {
    /// What is missing here for it, if anything is.
    #[must_use]
    pub fn missing() -> Option<String> {
        const NET_ADMIN: u64 = 1 << 12;
        const SYS_ADMIN: u64 = 1 << 21;
        let capabilities = capabilities().unwrap_or(0);
        if capabilities & NET_ADMIN == 0 || capabilities & SYS_ADMIN == 0 {
            return Some("a network namespace needs root (CAP_NET_ADMIN and CAP_SYS_ADMIN)".into());
        }
        let programs = [("ip", "iproute2"), ("iptables", "iptables"), ("setpriv", "util-linux")];
        let absent = programs.into_iter().find(|(program, _)| on_path(program).is_none());
        absent.map(|(program, package)| format!("no {program} on this machine (package {package})"))
    }

    /// Makes one, with a name and a network of its own.
    ///
    /// # Errors
    /// The system refuses. What was made until then is taken away again.
    pub fn make() -> Result<Self> {
        let namespace = Self::choose(Family::V4, None);
        namespace.build()?;
        Ok(namespace)
    }

    /// One as a pod's containers find it: a network that leads to this machine, and no rule in it yet. Its names and their
    /// addresses are the containers' own affair.
    ///
    /// # Errors
    /// As [`Namespace::make`].
    pub fn of_pod() -> Result<Self> {
        let namespace = Self::choose(Family::V4, None);
        namespace.link()?;
        run(&["ip", "addr", "add", &format!("{}/32", namespace.second), "dev", &namespace.link])?;
        Ok(namespace)
    }

    /// One with IPv6 and nothing else.
    ///
    /// # Errors
    /// As [`Namespace::make`].
    pub fn make_ipv6() -> Result<Self> {
        let namespace = Self::choose(Family::V6, None);
        namespace.build()?;
        Ok(namespace)
    }

    /// What is missing here for IPv6, if anything is.
    #[must_use]
    pub fn missing_ipv6() -> Option<String> {
        let is_there = Path::new("/proc/net/if_inet6").exists();
        Self::missing().or_else(|| (!is_there).then(|| "this machine has no IPv6".into()))
    }

    /// Makes another before the same "Google" and recorder.
    ///
    /// # Errors
    /// As [`Namespace::make`].
    pub fn another(&self) -> Result<Self> {
        let namespace = Self::choose(Family::of(self.outside), Some(self.outside));
        namespace.build()?;
        Ok(namespace)
    }

    fn choose(family: Family, outside: Option<IpAddr>) -> Self {
        static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(any_number()));
        sweep();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let [gateway, inside, second] = family.network(number.to_be_bytes());
        Self {
            name: format!("{PREFIX}{}-{number:04x}", std::process::id()),
            link: format!("bqw{}", &Uuid::now_v7().simple().to_string()[20..]),
            gateway,
            outside: outside.unwrap_or(gateway),
            inside,
            second,
        }
    }

    /// The only address that the sidecar reaches: this machine's. Google's names lead there, and nothing of this machine
    /// listens there but what a test puts there.
    #[must_use]
    pub fn outside(&self) -> IpAddr {
        self.outside
    }

    /// The namespace's own address, which this machine reaches.
    #[must_use]
    pub fn inside(&self) -> IpAddr {
        self.inside
    }

    /// Where the sidecar takes what is redirected.
    #[must_use]
    pub fn redirect(&self) -> SocketAddr {
        let loopback: IpAddr = match Family::of(self.outside) {
            Family::V4 => Ipv4Addr::LOCALHOST.into(),
            Family::V6 => Ipv6Addr::LOCALHOST.into(),
        };
        SocketAddr::new(loopback, REDIRECT)
    }

    /// Another address of this machine that a pod's namespace reaches, for what must not share ports with the first.
    #[must_use]
    pub fn second(&self) -> IpAddr {
        self.second
    }

    /// The file that names it to `nsenter --net=`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// Sets one of the pod's sysctls, as its sandbox does: those of the network are the namespace's own.
    ///
    /// # Errors
    /// There is no such sysctl, or not this value for it.
    pub fn set_sysctl(&self, name: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        let words =
            ["ip", "netns", "exec", &self.name, "sh", "-c", "echo \"$1\" >\"$2\"", "sh", value, &path];
        run(&words)
    }

    /// The sidecar's own connections to the metadata server's address lead to this machine; those of agents don't get there.
    ///
    /// # Errors
    /// The system refuses.
    pub fn lead_metadata_outside(&self) -> Result<()> {
        self.run(&format!(
            "iptables -w -t nat -A OUTPUT -d {METADATA} -p tcp --dport 80 -m owner --uid-owner {SIDECAR} \
             -j DNAT --to-destination {}:80",
            self.outside
        ))
    }

    /// The words that run a program as an agent in it.
    #[must_use]
    pub fn as_agent(&self) -> Vec<String> {
        self.words(&[
            "setpriv",
            "--pdeathsig=KILL",
            "--inh-caps=-all",
            "--bounding-set=-all",
            "--no-new-privs",
        ])
    }

    /// The words that run a program as the sidecar in it.
    #[must_use]
    pub fn as_sidecar(&self) -> Vec<String> {
        let (user, group) = (format!("--reuid={SIDECAR}"), format!("--regid={SIDECAR}"));
        self.words(&["setpriv", "--pdeathsig=KILL", &user, &group, "--clear-groups", "--no-new-privs"])
    }

    fn words(&self, then: &[&str]) -> Vec<String> {
        ["ip", "netns", "exec", &self.name].iter().chain(then).map(|word| (*word).to_owned()).collect()
    }

    fn build(&self) -> Result<()> {
        self.write_names()?;
        self.link()?;
        self.rules(&self.outside.to_string())
    }

    fn link(&self) -> Result<()> {
        let (gateway, inside) = (self.gateway.to_string(), self.inside.to_string());
        // Duplicates are not looked for: an address that is tentative for a second can't be used in it.
        let (network, ip) = match Family::of(self.gateway) {
            Family::V4 => ("/29", "ip"),
            Family::V6 => ("/64 nodad", "ip -6"),
        };
        run(&["ip", "netns", "add", &self.name])?;
        run(&["ip", "link", "add", &self.link, "type", "veth", "peer", "name", "eth0", "netns", &self.name])?;
        let add = |address: &str, device: &str| format!("{ip} addr add {address}{network} dev {device}");
        run(&add(&gateway, &self.link).split(' ').collect::<Vec<_>>())?;
        run(&["ip", "link", "set", &self.link, "up"])?;
        self.run("ip link set lo up")?;
        self.run(&add(&inside, "eth0"))?;
        self.run("ip link set eth0 up")?;
        self.run(&format!("{ip} route add default via {gateway}"))
    }

    fn rules(&self, outside: &str) -> Result<()> {
        let family = Family::of(self.outside);
        let (iptables, loopback) = (family.iptables(), family.loopback());
        match family {
            Family::V6 => self.run("iptables -w -A OUTPUT ! -d 127.0.0.0/8 -j REJECT")?,
            Family::V4 if Path::new("/proc/sys/net/ipv6").exists() => {
                self.run("ip6tables -w -A OUTPUT ! -d ::1 -j REJECT")?;
            }
            Family::V4 => {}
        }
        let redirect = program("bqwitness-redirect")?;
        let (user, port) = (SIDECAR.to_string(), REDIRECT.to_string());
        let words = ["ip", "netns", "exec", &self.name, &redirect.display().to_string()];
        run(&[&words[..], &["--proxy-uid", &user, "--port", &port]].concat())?;
        // Answers of the sidecar to what was redirected: from loopback to the namespace's own address.
        self.run(&format!("{iptables} -w -A OUTPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT"))?;
        // What was redirected has loopback as its destination by now.
        self.run(&format!("{iptables} -w -A OUTPUT -d {loopback} -j ACCEPT"))?;
        if family == Family::V6 {
            // Who is at the gateway's address (neighbour discovery)?
            self.run("ip6tables -w -A OUTPUT -p icmpv6 -j ACCEPT")?;
        }
        let sidecar = format!("-d {outside} -m owner --uid-owner {SIDECAR} -j ACCEPT");
        self.run(&format!("{iptables} -w -A OUTPUT {sidecar}"))?;
        self.run(&format!("{iptables} -w -A OUTPUT -j REJECT"))
    }

    /// `ip netns exec` puts these files in the place of `/etc/hosts` and `/etc/resolv.conf`.
    fn write_names(&self) -> Result<()> {
        let folder = self.etc();
        std::fs::create_dir_all(&folder).doing(format!("making {}", folder.display()))?;
        let hosts =
            format!("127.0.0.1 localhost\n{} {NAMES}\n{METADATA} metadata.google.internal\n", self.outside);
        std::fs::write(folder.join("hosts"), hosts).doing("writing a namespace's hosts")?;
        std::fs::write(folder.join("resolv.conf"), "").doing("writing a namespace's resolv.conf")
    }

    fn etc(&self) -> PathBuf {
        Path::new("/etc/netns").join(&self.name)
    }

    fn run(&self, line: &str) -> Result<()> {
        let words: Vec<&str> =
            ["ip", "netns", "exec", &self.name].into_iter().chain(line.split(' ')).collect();
        run(&words)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Whatever there is of it: it may be half built.
        let _link = run(&["ip", "link", "del", &self.link]).is_ok();
        let _namespace = run(&["ip", "netns", "del", &self.name]).is_ok();
        let _files = std::fs::remove_dir_all(self.etc()).is_ok();
        let _empty = std::fs::remove_dir("/etc/netns").is_ok();
    }
}

/// Takes away what test runs left that were killed, as far as another run isn't at it too. Links go with their namespaces.
fn sweep() {
    for namespace in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = namespace.file_name().to_string_lossy().into_owned();
        let maker = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if maker.is_some_and(|maker| !Path::new("/proc").join(maker).exists()) {
            let _namespace = run(&["ip", "netns", "del", &name]).is_ok();
            let _files = std::fs::remove_dir_all(Path::new("/etc/netns").join(&name)).is_ok();
        }
    }
}

/// The capabilities of this process.
fn capabilities() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn run(words: &[&str]) -> Result<()> {
    let line = words.join(" ");
    let (program, arguments) = words.split_first().ok_or_else(|| Trouble::new("nothing to run"))?;
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.doing(format!("running {line}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Trouble::new(format!("{line}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr))))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::skip;

    #[test]
    fn a_namespace_is_made_and_gone_also_after_a_panic() {
        if let Some(why) = Namespace::missing() {
            return skip::skipped(&why);
        }
        let namespace = Namespace::make().unwrap();
        let (name, link, etc) = (namespace.name.clone(), namespace.link.clone(), namespace.etc());
        let there = || {
            let seen = [
                Path::new("/run/netns").join(&name).exists(),
                Path::new("/sys/class/net").join(&link).exists(),
                etc.exists(),
            ];
            assert!(seen.iter().all(|part| *part == seen[0]), "{seen:?}");
            seen[0]
        };
        assert!(there());
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _held = namespace;
            std::panic::resume_unwind(Box::new("a test that fails"));
        }));
        assert!(panicked.is_err() && !there());
    }
}
