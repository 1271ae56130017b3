//! `bqwitness-redirect` in a network namespace of its own, with routes in both address families. Needs root.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::process::{Command, Output};

/// A namespace with a way out that leads nowhere; gone when it is dropped.
struct Pod(String);

impl Pod {
    /// `None`, loudly, where this machine can't make one.
    fn make() -> Option<Self> {
        let programs = ["ip", "iptables-restore", "ip6tables-restore", "setpriv", "python3"];
        let absent = programs.into_iter().find(|name| !run(&["which", name]).status.success());
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let pod = Self(format!("bqw-redirect-{}-{count}", std::process::id()));
        if absent.is_some() || !run(&["ip", "netns", "add", &pod.0]).status.success() {
            let why = format!("SKIPPED: needs root and {programs:?}; {absent:?} is not here\n");
            assert!(std::env::var("CI").is_ok_and(|ci| ci == "true").eq(&false), "{why}");
            std::io::Write::write_all(&mut std::io::stderr(), why.as_bytes()).unwrap();
            return None;
        }
        for line in [
            "ip link set lo up",
            "ip link add eth0 type veth peer name peer0",
            "ip addr add 198.18.255.2/30 dev eth0",
            "ip addr add fd00:b9::2/64 dev eth0 nodad",
            "ip link set eth0 up",
            "ip link set peer0 up",
            "ip route add default via 198.18.255.1",
            "ip -6 route add default via fd00:b9::1",
        ] {
            let output = pod.run(&line.split(' ').collect::<Vec<_>>());
            assert!(output.status.success(), "{line}: {output:?}");
        }
        Some(pod)
    }

    fn run(&self, words: &[&str]) -> Output {
        run(&[&["ip", "netns", "exec", &self.0], words].concat())
    }

    /// As the init container does: NET_ADMIN and nothing else.
    fn install(&self) -> Output {
        let program = env!("CARGO_BIN_EXE_bqwitness-redirect");
        let capabilities = ["setpriv", "--bounding-set=-all,+net_admin", "--inh-caps=-all", "--no-new-privs"];
        self.run(&[&capabilities[..], &[program, "--proxy-uid", "61337"]].concat())
    }

    /// What a try to reach `address` ends with, as an agent or as the sidecar.
    fn reach(&self, user: &str, kind: &str, address: &str, port: &str) -> String {
        let script = r#"
import errno, os, socket, sys
user, kind, address, port = sys.argv[1:]
os.setuid(int(user))
family = socket.AF_INET6 if ":" in address else socket.AF_INET
one = socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
one.settimeout(0.5)
try:
    one.connect((address, int(port)))
    if kind == "udp":
        one.send(b"x")
        one.recv(1)
    print("reached")
except OSError as error:
    left = isinstance(error, TimeoutError) or error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH)
    print("left the pod" if left else type(error).__name__)
"#;
        let output = self.run(&["python3", "-c", script, user, kind, address, port]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

/// The kernel says so at once, at the sending or after it.
fn is_rejected(said: &str) -> bool {
    matches!(said, "PermissionError" | "ConnectionRefusedError")
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _gone = run(&["ip", "netns", "del", &self.0]).status.success();
    }
}

fn run(words: &[&str]) -> Output {
    Command::new(words[0]).args(&words[1..]).output().unwrap()
}

#[test]
fn agents_are_led_to_the_sidecar_and_the_sidecar_is_not() {
    let Some(pod) = Pod::make() else { return };
    const NOBODY: [&str; 2] = ["198.51.100.7", "2001:db8::7"];
    for address in NOBODY {
        assert_eq!(
            pod.reach("1000", "tcp", address, "443"),
            "left the pod",
            "{address}: before, it goes out"
        );
    }
    for _ in 0..2 {
        let output = pod.install();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        assert_eq!(said.matches("a trial connection arrived").count(), 2, "{said}");
    }
    for address in NOBODY {
        for port in ["443", "80"] {
            // Nobody listens at the sidecar's port: that it was led there shows in the refusal.
            assert_eq!(pod.reach("1000", "tcp", address, port), "ConnectionRefusedError", "{address}:{port}");
            assert_eq!(
                pod.reach("0", "tcp", address, port),
                "ConnectionRefusedError",
                "{address}:{port} as root"
            );
            assert_eq!(
                pod.reach("61337", "tcp", address, port),
                "left the pod",
                "{address}:{port} as the sidecar"
            );
        }
        assert_eq!(
            pod.reach("1000", "tcp", address, "5432"),
            "left the pod",
            "{address}: other ports are left alone"
        );
        assert!(is_rejected(&pod.reach("1000", "udp", address, "443")), "{address}: HTTP/3");
        assert_eq!(pod.reach("1000", "udp", address, "53"), "left the pod", "{address}: DNS");
    }
    for port in ["988", "8080"] {
        assert!(is_rejected(&pod.reach("1000", "tcp", "169.254.169.254", port)), "{port}");
        assert_eq!(pod.reach("61337", "tcp", "169.254.169.254", port), "left the pod");
    }
    assert_eq!(
        pod.reach("1000", "udp", "169.254.169.254", "53"),
        "left the pod",
        "clouds have name servers there"
    );
}

#[test]
fn without_the_capability_it_says_what_is_missing() {
    let Some(pod) = Pod::make() else { return };
    let program = env!("CARGO_BIN_EXE_bqwitness-redirect");
    let output =
        pod.run(&["setpriv", "--bounding-set=-all", "--inh-caps=-all", program, "--proxy-uid", "61337"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("NET_ADMIN"), "{said}");
}
