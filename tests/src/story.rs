//! The story that `make demo` tells and `make test` holds us to: two agents, one record, and nobody who can talk it away.

pub mod evidence;
mod night;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use ledger::entry::Subject;
use ledger::search::{Answer, Call};
use ledger::statement::kind;
use tempfile::TempDir;

use crate::agent::Finished;
use crate::audit;
use crate::front::{Arrival, Front};
use crate::log::{self, Logged};
use crate::narrator::Narrator;
use crate::process;
use crate::programs::{Auditor, Recorder};
use crate::stage::{PATIENCE, Player, Stage, WayIn};
use crate::trouble::{Doing as _, Result, Trouble};

/// How long the last outcomes may take to become searchable.
const SETTLE_LIMIT: Duration = Duration::from_secs(20);

/// What one agent did.
#[derive(Clone, Debug)]
pub struct Act {
    /// `namespace/service-account`
    pub agent: String,
    /// With what.
    pub client: Client,
    /// What it asked for.
    pub sql: &'static str,
    /// What it was answered.
    pub finished: Finished,
}

/// A client of BigQuery's own making.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// The Google Cloud CLI.
    Bq,
    /// Python's `query_and_wait`: one call of `jobs.query`.
    Query,
    /// Python's `query`: a job, whose results are fetched by further calls.
    Job,
}

impl std::fmt::Display for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bq => "bq query",
            Self::Query => "python query.py",
            Self::Job => "python job.py",
        })
    }
}

/// What came to pass.
#[derive(Debug)]
pub struct Told {
    /// What the agents did.
    pub acts: Vec<Act>,
    /// An agent's night: a load, a stream, an export.
    pub night: Finished,
    /// The calls of that, oldest first.
    pub moved: Vec<Call>,
    /// What the record says of it: the calls that have SQL, newest first.
    pub trail: Vec<Call>,
    /// What an agent was told while the recorder was away.
    pub refusal: Finished,
    /// What reached "BigQuery".
    pub arrivals: Vec<Arrival>,
    /// The log, at its end.
    pub entries: Vec<Logged>,
    /// `verify-log` of the log.
    pub verified: Finished,
    /// `verify-log` of a copy with one byte changed.
    pub forged: Finished,
    /// What was taken out.
    pub evidence: evidence::Evidence,
}

const OVERDUE: &str =
    "SELECT account_id, status FROM billing.invoices WHERE status = \"overdue\" ORDER BY account_id";
const CLEAN_UP: &str = "DELETE FROM staging.imports WHERE batch_id = 42";
const SALARIES: &str = "SELECT name, amount FROM billing.salaries";

/// What sidecars give agents in the place of a credential begins with this.
const PLACEHOLDER: &str = "bqwitness-placeholder-";

/// Tells it.
///
/// # Errors
/// Something could not be run, or something that the story claims is not so.
pub async fn tell(narrator: &Narrator, way: WayIn) -> Result<Told> {
    let folder = TempDir::with_prefix("bqwitness-").doing("making a folder for the story")?;
    let told = play(narrator, folder.path(), way).await;
    if told.is_err() {
        process::logs(folder.path()).iter().for_each(|log| narrator.output(log));
    }
    told
}

async fn play(narrator: &Narrator, folder: &Path, way: WayIn) -> Result<Told> {
    let stage = set_the_stage(narrator, folder, way).await?;
    let acts = agents_work(narrator, &stage).await?;
    let night = night::work(narrator, &stage.etl).await?;
    night::go_round(narrator, &stage).await?;
    let calls = settled_calls(&stage).await?;
    let trail = auditor_searches(narrator, &stage, &acts, &calls).await?;
    let moved = night::auditor_replays(narrator, &stage, &calls).await?;
    let Stage { billing, auditor, front, recorder, .. } = stage;
    let (data, key) = (recorder.data().to_owned(), recorder.key());
    let evidence = evidence::take_out(narrator, &auditor, &key).await?;
    let refusal = no_record_no_query(narrator, recorder, &billing, &front).await?;
    let (entries, arrivals) = (log::read(&data)?, front.arrivals());
    principals(narrator, &entries, &arrivals)?;
    count(narrator, &entries, &arrivals)?;
    let verified = verify(narrator, &auditor, &data, &key).await?;
    let forged = forge(narrator, &auditor, &data, &key).await?;
    evidence::verify_alone(narrator, &evidence)?;
    Ok(Told { acts, night, moved, trail, refusal, arrivals, entries, verified, forged, evidence })
}

async fn set_the_stage(narrator: &Narrator, folder: &Path, way: WayIn) -> Result<Stage> {
    narrator.step(
        "The stage",
        "An emulator plays BigQuery, behind TLS of ours that counts every request and takes no token but Google's. A\n\
         recorder keeps the log. Two pods with identities of their own each have an agent and, on its only way out, a\n\
         sidecar, which exchanges the pod's identity for a short-lived credential.",
    );
    narrator.say(match (way, WayIn::of_this_machine()) {
        (WayIn::Redirect, _) => {
            "You are root: each pod has a network of its own, in which every connection is redirected to its sidecar."
        }
        (WayIn::Connect, WayIn::Redirect) => {
            "As you wish (--connect), agents are asked to use their sidecars (HTTPS_PROXY). Without that, root sees them redirected."
        }
        (WayIn::Connect, WayIn::Connect) => {
            "You are not root: agents are asked to use their sidecars (HTTPS_PROXY). Root sees them redirected."
        }
    });
    let start = Instant::now();
    let stage = Stage::set(folder, way).await?;
    narrator.say(&format!(
        "BigQuery  {}, as https://bigquery.googleapis.com\nrecorder  {}",
        stage.tools.emulator,
        stage.recorder.url()
    ));
    for Player { pod, sidecar, .. } in [&stage.billing, &stage.etl] {
        narrator.say(&format!(
            "agent     {}, in pod {}, sidecar at {}",
            pod.agent(),
            pod.name,
            sidecar.listen()
        ));
    }
    narrator.say(&format!("ready after {:.1} s", start.elapsed().as_secs_f32()));
    Ok(stage)
}

async fn agents_work(narrator: &Narrator, stage: &Stage) -> Result<Vec<Act>> {
    narrator.step(
        "Two agents work",
        "Their clients are unmodified, know nothing of a record, and hold no key: they find a credential as they do on any\n\
         machine of Google's. All that they were told is which certificates to trust.",
    );
    let command_line = if stage.billing.agent.has_bq() { Client::Bq } else { Client::Job };
    let billing = async { Ok(vec![act(&stage.billing, command_line, OVERDUE).await?]) };
    let etl = async {
        Ok(vec![
            act(&stage.etl, Client::Query, CLEAN_UP).await?,
            act(&stage.etl, Client::Job, SALARIES).await?,
        ])
    };
    let (billing, etl) = tokio::try_join!(billing, etl)?;
    let acts = [billing, etl].concat();
    for act in &acts {
        narrator.command(&act.agent, &format!("{} '{}'", act.client, act.sql));
        narrator.output(&act.finished.said());
    }
    let answered = |sql| acts.iter().any(|act| act.sql == sql && act.finished.success());
    narrator.claim(answered(OVERDUE) && answered(CLEAN_UP), "both agents got what they asked for")?;
    narrator.claim(!answered(SALARIES), "a table that is not there gave BigQuery's own error")?;
    Ok(acts)
}

async fn act(player: &Player, client: Client, sql: &'static str) -> Result<Act> {
    let finished = match client {
        Client::Bq => player.agent.bq_query(sql).await?,
        Client::Query => player.agent.python_query(sql).await?,
        Client::Job => player.agent.python_job(sql).await?,
    };
    Ok(Act { agent: player.pod.agent(), client, sql, finished })
}

async fn auditor_searches(
    narrator: &Narrator,
    stage: &Stage,
    acts: &[Act],
    calls: &[Call],
) -> Result<Vec<Call>> {
    narrator.step(
        "An auditor asks who did what",
        "The names come from the pods' identities, which the recorder verified. Neither an agent nor a shared key can\n\
         say otherwise.",
    );
    let trail: Vec<Call> = calls.iter().filter(|call| call.sql.is_some()).cloned().collect();
    for arguments in [&["search", "--limit", "8"][..], &["search", "--table", "billing.invoices"]] {
        show(narrator, &stage.auditor, arguments).await?;
    }
    for (act, player) in acts.iter().zip([&stage.billing, &stage.etl, &stage.etl]) {
        let calls: Vec<&Call> = trail.iter().filter(|call| call.sql.as_deref() == Some(act.sql)).collect();
        let subject = calls.first().map(|call| &call.subject);
        let is_player = subject.is_some_and(|subject| {
            subject.service_account == player.pod.service_account
                && subject.pod_uid == player.pod.uid.to_string()
        });
        let kind = act.sql.split(' ').next().unwrap_or_default();
        let what = format!("the {kind} is there once, and was {}'s", player.pod.agent());
        narrator.claim(calls.len() == 1 && is_player, &what)?;
    }
    Ok(trail)
}

/// The auditor runs `bqwitness`, and sees what it prints.
async fn show(narrator: &Narrator, auditor: &Auditor, arguments: &[&str]) -> Result<Finished> {
    narrator.command("auditor", &format!("bqwitness {}", arguments.join(" ")));
    let found = match narrator.has_terminal() {
        true => auditor.bqwitness_on_terminal(arguments).await?,
        false => auditor.bqwitness(arguments).await?,
    };
    narrator.output(&found.said());
    if found.success() {
        Ok(found)
    } else {
        Err(Trouble::new(format!("bqwitness {arguments:?} failed: {}", found.said())))
    }
}

/// All calls, newest first, once all that ended is in the index.
async fn settled_calls(stage: &Stage) -> Result<Vec<Call>> {
    let start = Instant::now();
    loop {
        let found = stage.auditor.bqwitness(&["--output", "json", "search", "--limit", "500"]).await?;
        if !found.success() {
            return Err(Trouble::new(format!("bqwitness search failed: {}", found.said())));
        }
        let answer: Answer = serde_json::from_str(&found.stdout).doing("the answer of bqwitness search")?;
        let open = answer.calls.iter().filter(|call| call.result.is_none()).count();
        if open == 0 && answer.calls.len() >= stage.front.arrivals().len() {
            return Ok(answer.calls);
        }
        if start.elapsed() > SETTLE_LIMIT {
            return Err(Trouble::new(format!(
                "{open} calls have no outcome after {SETTLE_LIMIT:?}: {answer:?}"
            )));
        }
    }
}

async fn no_record_no_query(
    narrator: &Narrator,
    recorder: Recorder,
    player: &Player,
    front: &Front,
) -> Result<Finished> {
    narrator.step(
        "No record, no query",
        "The recorder is stopped. A call that cannot be recorded is not made: the sidecar refuses it, in BigQuery's own\n\
         error format, so that every client shows the reason.",
    );
    recorder.stop().await?;
    let arrived = front.arrivals().len();
    let refused = act(player, Client::Query, OVERDUE).await?;
    narrator.command(&refused.agent, &format!("{} '{}'", refused.client, refused.sql));
    let refusal = refused.finished;
    narrator.output(&refusal.said());
    let waited = refusal.took >= PATIENCE;
    narrator.claim(!refusal.success() && waited, "the agent was refused, after the sidecar had tried")?;
    narrator.claim(refusal.said().contains("503"), "it was told so in BigQuery's words, with status 503")?;
    narrator.claim(front.arrivals().len() == arrived, "nothing of it reached BigQuery")?;
    Ok(refusal)
}

fn principals(narrator: &Narrator, entries: &[Logged], arrivals: &[Arrival]) -> Result<()> {
    narrator.step(
        "Two agents, two principals",
        "Neither agent had a credential of Google's. Each sidecar put its pod's own on the calls that it had recorded, and\n\
         on nothing else; the record says which.",
    );
    let mut recorded = BTreeSet::new();
    for entry in entries.iter().filter(|entry| entry.statement.kind == kind::CALL_INTENT) {
        let Subject::Workload(pod) = &entry.envelope.subject else { continue };
        let principal = entry.statement.observed.principal.clone();
        recorded.insert((pod.service_account.clone(), principal));
    }
    for (agent, principal) in &recorded {
        narrator.output(&format!("{agent:<8} {}", principal.as_deref().unwrap_or("nobody")));
    }
    let own = recorded.iter().all(|(agent, principal)| {
        principal.as_ref().is_some_and(|principal| principal.starts_with(&format!("{agent}@")))
    });
    narrator.claim(
        recorded.len() == 2 && own,
        "each agent's calls carried its own pod's principal, says the log",
    )?;
    let named: BTreeSet<_> = recorded.into_iter().map(|(_, principal)| principal).collect();
    let arrived: BTreeSet<_> = arrivals.iter().map(|arrival| arrival.principal.clone()).collect();
    narrator.claim(named == arrived, "BigQuery was called by these two, and by nobody else, says the front")
}

fn count(narrator: &Narrator, entries: &[Logged], arrivals: &[Arrival]) -> Result<()> {
    narrator.step(
        "The count",
        "The front knows nothing of the record, and the record nothing of the front. If a call had got past, they would\n\
         differ.",
    );
    let account = audit::balance(entries, arrivals)?;
    let mut requests: Vec<String> = arrivals.iter().map(Arrival::line).collect();
    requests.sort();
    requests.iter().for_each(|line| narrator.output(line));
    let (log, front) = (account.answered, arrivals.len());
    narrator.claim(
        log > 0 && log == front,
        &format!("{log} intents forwarded, says the log; {front} requests arrived, says the front"),
    )
}

async fn verify(narrator: &Narrator, auditor: &Auditor, data: &Path, key: &Path) -> Result<Finished> {
    narrator.step(
        "The log is verified",
        "Anybody with the log's public key can do this; it needs neither the recorder nor trust in it.",
    );
    let verified = verify_log(narrator, auditor, data, key).await?;
    narrator.claim(verified.code == Some(0), "the log holds (exit code 0)")?;
    let token = contains(data, PLACEHOLDER.as_bytes())?;
    narrator
        .claim(!token, "the agents' placeholders, one of which every request carried, are nowhere in it")?;
    Ok(verified)
}

async fn forge(narrator: &Narrator, auditor: &Auditor, data: &Path, key: &Path) -> Result<Finished> {
    narrator.step(
        "One byte is changed",
        "In a copy of the log, the DELETE is blamed on another pod: \"etl-0\" becomes \"etl-1\". Only one byte differs.",
    );
    let copy = data.with_file_name("forged");
    copy_folder(data, &copy)?;
    let index = log::forge(&copy, is_clean_up, "\"pod\":\"etl-0", b'1')?;
    let forged = verify_log(narrator, auditor, &copy, key).await?;
    let found = forged.code == Some(1) && forged.said().contains(&format!("entry {index}:"));
    narrator.claim(found, &format!("the change is found, in entry {index} (exit code 1)"))?;
    Ok(forged)
}

async fn verify_log(narrator: &Narrator, auditor: &Auditor, data: &Path, key: &Path) -> Result<Finished> {
    let name = data.file_name().unwrap_or_default().display();
    narrator.command("auditor", &format!("bqwitness verify-log {name} --key log.vkey"));
    let arguments = ["verify-log", &data.display().to_string(), "--key", &key.display().to_string()];
    let finished = auditor.bqwitness(&arguments).await?;
    narrator.output(&finished.said());
    Ok(finished)
}

fn is_clean_up(entry: &Logged) -> bool {
    let intent = entry.statement.body.intent.as_ref();
    intent.is_some_and(|intent| intent.statement_kind.as_deref() == Some("DELETE"))
}

/// Is `text` in any file below `folder`?
fn contains(folder: &Path, text: &[u8]) -> Result<bool> {
    let reading = || format!("reading {}", folder.display());
    for entry in std::fs::read_dir(folder).doing(reading())? {
        let path = entry.doing(reading())?.path();
        let found = if path.is_dir() {
            contains(&path, text)?
        } else {
            std::fs::read(&path).doing(reading())?.windows(text.len()).any(|window| window == text)
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    let copying = || format!("copying {}", from.display());
    std::fs::create_dir(to).doing(copying())?;
    for entry in std::fs::read_dir(from).doing(copying())? {
        let entry = entry.doing(copying())?;
        let target = to.join(entry.file_name());
        if entry.file_type().doing(copying())?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target).map(drop).doing(copying())?;
        }
    }
    Ok(())
}
