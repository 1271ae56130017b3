//! Skipping, loudly. In CI nothing may be skipped.

/// Says that a test, or the rest of it, is left out and why.
///
/// # Panics
/// Where `CI=true`: a test that is skipped there would be a hole that nobody sees.
#[allow(clippy::print_stderr, clippy::panic)]
pub fn skipped(why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    if std::env::var("CI").is_ok_and(|ci| ci == "true") {
        panic!("{test} would be skipped, and CI allows none: {why}");
    }
    // Not `eprintln!`, which the test harness captures.
    let line = format!("SKIPPED {test}: {why}\n");
    let _written = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).is_ok();
}
