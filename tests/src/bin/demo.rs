//! `make demo`: the story, told to a newcomer. Exits 0 only if all that it claims was so.

use std::process::ExitCode;
use std::time::Instant;

use bqwitness_tests::narrator::Narrator;
use bqwitness_tests::stage::WayIn;
use bqwitness_tests::story;
use clap::Parser;

/// Tells the whole story in about half a minute: two agents with different identities query a BigQuery emulator through their
/// sidecars; the trail shows who ran what; a session is replayed; evidence is exported and verified; the recorder is stopped, and
/// the next query is refused; one byte of the log is changed in a copy, and that is found.
///
/// `make demo` installs and builds what it needs. It stops what it starts and removes its files.
#[derive(Debug, Parser)]
#[command(
    name = "demo",
    after_help = "Exit status: 0 all of it was so; 1 something was not, or could not run; 130 interrupted.",
    max_term_width = 110
)]
struct Arguments {
    /// Agents are asked to use their sidecars (HTTP CONNECT, by HTTPS_PROXY), as without root. By default root gives each pod a
    /// network of its own that leads to its sidecar.
    #[arg(long)]
    connect: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { connect } = Arguments::parse();
    let way = if connect { WayIn::Connect } else { WayIn::of_this_machine() };
    let start = Instant::now();
    let narrator = Narrator::for_people();
    narrator
        .say("bqwitness: what AI agents do in BigQuery, recorded by something that they cannot influence.");
    let told = tokio::select! {
        told = story::tell(&narrator, way) => told,
        // Dropped, the story stops what it started and removes its files.
        _signal = runtime::drain::shutdown_signal() => return ExitCode::from(130),
    };
    match told {
        Ok(_) => {
            narrator
                .say(&format!("\nAll of it was so; the story took {:.0} s.", start.elapsed().as_secs_f32()));
            narrator.say("Next: `make test`, docs/architecture.md, docs/format.md.");
            ExitCode::SUCCESS
        }
        Err(trouble) => {
            narrator.say(&format!("\nNOT SO: {trouble}"));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::*;

    #[test]
    fn whoever_asks_what_it_does_is_told_and_nothing_is_started() {
        for (word, kind) in [("--help", ErrorKind::DisplayHelp), ("--fast", ErrorKind::UnknownArgument)] {
            let told = Arguments::try_parse_from(["demo", word]).expect_err("it does not begin");
            assert_eq!(told.kind(), kind, "{word}");
        }
        assert!(Arguments::try_parse_from(["demo"]).is_ok_and(|said| !said.connect));
        assert!(Arguments::try_parse_from(["demo", "--connect"]).is_ok_and(|said| said.connect));
    }
}
