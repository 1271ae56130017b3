//! What a stream costs, however large and long it is. These tests measure their process, so they have one of their own, and
//! take turns.

#![allow(unreachable_pub, clippy::unwrap_used, clippy::panic)]
#![allow(dead_code, reason = "a part of the stand is enough here")]

mod day;
mod large;
#[path = "../in_process/stand/mod.rs"]
mod stand;

use tokio::sync::Mutex;

/// Held by the test whose turn it is.
static TURN: Mutex<()> = Mutex::const_new(());

/// Resident memory of this process, in bytes: agent, proxy, recorder and upstream together.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
}
