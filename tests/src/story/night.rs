//! Rows that move without a word of SQL: what a record of queries alone would miss.

use ledger::call::CallResult;
use ledger::search::Call;

use super::show;
use crate::agent::Finished;
use crate::narrator::Narrator;
use crate::stage::{Player, Stage};
use crate::trouble::Result;

/// A load, a stream, an export.
pub(super) async fn work(narrator: &Narrator, player: &Player) -> Result<Finished> {
    narrator.step(
        "An agent moves rows without SQL",
        "It uploads a file, streams rows into the table, and takes all rows of another table with it. Most of what leaves\n\
         a warehouse leaves it that way.",
    );
    let night = player.agent.nightly().await?;
    narrator.command(&player.pod.agent(), "python nightly.py");
    narrator.output(&night.said());
    narrator.claim(night.success(), "it got what it wanted")?;
    Ok(night)
}

/// Where the network redirects, an agent that knows BigQuery's address meets its sidecar all the same.
pub(super) async fn go_round(narrator: &Narrator, stage: &Stage) -> Result<()> {
    if !stage.is_redirected() {
        return Ok(());
    }
    narrator.step(
        "An agent goes round its sidecar",
        "It connects to BigQuery's address itself, without naming BigQuery; then it tries to change the network's rules.",
    );
    let address = stage.front.address().ip().to_string();
    let before = stage.front.arrivals().len();
    let player = &stage.etl;
    for (line, attempt) in [
        ("curl --insecure https://ADDRESS/", &["tls", &address, "443", "-", "bigquery.googleapis.com"][..]),
        ("iptables --table nat --flush", &["rules"]),
    ] {
        let tried = player.agent.go_round(attempt).await?;
        narrator.command(&player.pod.agent(), line);
        narrator.output(&tried.said());
        narrator.claim(tried.code == Some(1) && tried.stdout.contains("refused: "), "it got nowhere")?;
    }
    narrator.claim(stage.front.arrivals().len() == before, "nothing of it reached BigQuery")
}

/// The auditor looks at that agent's session, call by call. Returns the calls that have no SQL, oldest first.
pub(super) async fn auditor_replays(narrator: &Narrator, stage: &Stage, calls: &[Call]) -> Result<Vec<Call>> {
    narrator.step(
        "The auditor replays one session",
        "All that one sidecar recorded, in its order: a gap would be shown. It has what was moved without SQL, too.",
    );
    let of_etl = |call: &&Call| call.subject.pod_uid == stage.etl.pod.uid.to_string();
    let mut moved: Vec<Call> =
        calls.iter().filter(of_etl).filter(|call| call.sql.is_none()).cloned().collect();
    moved.reverse();
    if let Some(session) = moved.first().map(|call| call.session.to_string()) {
        show(narrator, &stage.auditor, &["replay", &session]).await?;
    }
    let answered = |method: &str| {
        let found = |call: &&Call| call.method == method && call.result == Some(CallResult::Answered);
        moved.iter().find(found)
    };
    let uploads = moved.iter().any(|call| call.upload.is_some() && call.job.is_some());
    narrator.claim(uploads, "the file's upload is there, with the job that loaded it")?;
    let sent = answered("tabledata.insertAll").and_then(|call| call.rows_sent);
    narrator.claim(sent == Some(3), "the 3 streamed rows are there")?;
    let took = answered("tabledata.list").and_then(|call| call.rows);
    narrator.claim(took == Some(4), "the 4 rows that left billing.invoices are there")?;
    Ok(moved)
}
