//! What the tables should say. Pure. Rules are written as `iptables-save` prints them, so that what is read back is the same text.

use std::fmt::{self, Display, Formatter};

/// Our chain, in each table. Other programs' rules stay as they are, behind it.
const CHAIN: &str = "BQWITNESS";

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Display for Family {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Whom the rules leave alone, and where they lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The user that the sidecar alone runs as.
    pub proxy_uid: u32,
    /// The sidecar's port on loopback.
    pub redirect: u16,
}

impl Family {
    /// The programs that print the tables, and that write them.
    pub(super) fn programs(self) -> [&'static str; 2] {
        match self {
            Self::V4 => ["iptables-save", "iptables-restore"],
            Self::V6 => ["ip6tables-save", "ip6tables-restore"],
        }
    }

    fn loopback(self) -> &'static str {
        match self {
            Self::V4 => "127.0.0.0/8",
            Self::V6 => "::1/128",
        }
    }

    /// Where clouds have their metadata servers, and name servers at the same addresses.
    fn metadata(self) -> &'static [&'static str] {
        match self {
            Self::V4 => &["169.254.169.252/30"],
            Self::V6 => &["fd00:ec2::254/128", "fd20:ce::254/128"],
        }
    }

    fn unreachable(self) -> &'static str {
        match self {
            Self::V4 => "icmp-port-unreachable",
            Self::V6 => "icmp6-port-unreachable",
        }
    }
}

/// Our rules of each table, in their order.
fn tables(family: Family, ports: Ports) -> [(&'static str, Vec<String>); 2] {
    let Ports { proxy_uid, redirect } = ports;
    let spare = format!("-A {CHAIN} -m owner --uid-owner {proxy_uid} -j RETURN");
    let loopback = format!("-A {CHAIN} -d {} -j RETURN", family.loopback());
    let nat = vec![
        spare.clone(),
        loopback.clone(),
        format!("-A {CHAIN} -p tcp -m multiport --dports 80,443 -j REDIRECT --to-ports {redirect}"),
    ];
    let reject = format!("-j REJECT --reject-with {}", family.unreachable());
    // By now, what was redirected goes to loopback.
    let mut filter = vec![spare, loopback, format!("-A {CHAIN} -p udp -m udp --dport 443 {reject}")];
    for address in family.metadata() {
        filter.push(format!("-A {CHAIN} -d {address} -p udp -m udp --dport 53 -j RETURN"));
        filter.push(format!("-A {CHAIN} -d {address} -p tcp -m tcp --dport 53 -j RETURN"));
        filter.push(format!("-A {CHAIN} -d {address} {reject}"));
    }
    [("nat", nat), ("filter", filter)]
}

/// What leads to our chain, before anything else.
fn jump() -> String {
    format!("-A OUTPUT -j {CHAIN}")
}

/// The input of `iptables-restore --noflush` that makes the tables say what they should, given what they say.
pub(super) fn script(family: Family, ports: Ports, saved: &str) -> String {
    let mut script = String::new();
    for (table, rules) in tables(family, ports) {
        script.push_str(&format!("*{table}\n:{CHAIN} - [0:0]\n"));
        // Naming a chain empties it; a jump that is there goes, since it may not be the first rule any more.
        for _ in of_table(saved, table).filter(|line| **line == jump()) {
            script.push_str(&format!("-D OUTPUT -j {CHAIN}\n"));
        }
        script.push_str(&format!("-I OUTPUT 1 -j {CHAIN}\n"));
        for rule in rules {
            script.push_str(&rule);
            script.push('\n');
        }
        script.push_str("COMMIT\n");
    }
    script
}

/// Do the tables say what they should? Else what they lack.
pub(super) fn check(family: Family, ports: Ports, saved: &str) -> Result<(), String> {
    for (table, wanted) in tables(family, ports) {
        let of_chain = |chain: &str| {
            let begin = format!("-A {chain} ");
            of_table(saved, table).filter(|line| line.starts_with(&begin)).collect::<Vec<_>>()
        };
        let there = of_chain(CHAIN);
        if there != wanted {
            return Err(format!("table {table} has {there:?} instead of {wanted:?}"));
        }
        if of_chain("OUTPUT").first() != Some(&jump().as_str()) {
            return Err(format!("in table {table}, something comes before {:?}", jump()));
        }
    }
    Ok(())
}

/// The lines of one table.
fn of_table<'a>(saved: &'a str, table: &str) -> std::vec::IntoIter<&'a str> {
    let begin = format!("*{table}");
    let lines = saved.lines().map(str::trim).skip_while(|line| *line != begin).skip(1);
    lines.take_while(|line| *line != "COMMIT").collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORTS: Ports = Ports { proxy_uid: 61_337, redirect: 15_001 };

    /// What `iptables-save` prints once the script was taken.
    fn saved(family: Family) -> String {
        let mut text = String::from("# Generated by iptables-save\n");
        for (table, rules) in tables(family, PORTS) {
            text.push_str(&format!("*{table}\n:OUTPUT ACCEPT [0:0]\n:{CHAIN} - [0:0]\n{}\n", jump()));
            text.push_str(&format!("{}\nCOMMIT\n", rules.join("\n")));
        }
        text
    }

    #[test]
    fn what_was_written_is_recognised_and_nothing_else() {
        for family in [Family::V4, Family::V6] {
            let good = saved(family);
            assert_eq!(check(family, PORTS, &good), Ok(()));
            let other = Ports { proxy_uid: 0, ..PORTS };
            assert!(check(family, other, &good).is_err(), "another user is spared");
            for line in good.lines().filter(|line| line.starts_with("-A")) {
                let without = good.replacen(&format!("{line}\n"), "", 1);
                assert!(check(family, PORTS, &without).is_err(), "without {line}");
            }
            let first = good.replacen(&jump(), &format!("-A OUTPUT -j ACCEPT\n{}", jump()), 1);
            assert!(check(family, PORTS, &first).is_err(), "something comes before ours");
            let spared =
                good.replacen("-A BQWITNESS -m owner", "-A BQWITNESS -j RETURN\n-A BQWITNESS -m owner", 1);
            assert!(check(family, PORTS, &spared).is_err(), "a rule more");
        }
        assert!(check(Family::V4, PORTS, "").is_err());
    }

    #[test]
    fn done_again_the_old_jump_goes() {
        let first = script(Family::V4, PORTS, "");
        assert!(!first.contains("-D OUTPUT"), "{first}");
        let again = script(Family::V4, PORTS, &saved(Family::V4));
        assert_eq!(again.matches("-D OUTPUT -j BQWITNESS\n-I OUTPUT 1 -j BQWITNESS\n").count(), 2, "{again}");
        // Another's jump to a chain that is called alike is another's.
        let foreign = "*nat\n-A OUTPUT -j BQWITNESS_OTHER\nCOMMIT\n";
        assert!(!script(Family::V4, PORTS, foreign).contains("-D OUTPUT"));
    }
}
