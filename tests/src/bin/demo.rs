//! `make demo`: the story, told to a newcomer. Exits 0 only if all that it claims was so.

use std::process::ExitCode;
use std::time::Instant;

use bqwitness_tests::narrator::Narrator;
use bqwitness_tests::story;

#[tokio::main]
async fn main() -> ExitCode {
    let start = Instant::now();
    let narrator = Narrator::for_people();
    narrator
        .say("bqwitness: what AI agents do in BigQuery, recorded by something that they cannot influence.");
    let told = tokio::select! {
        told = story::tell(&narrator) => told,
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
