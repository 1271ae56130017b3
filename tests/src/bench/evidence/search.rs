//! The index of a long log: how fast it is built again, and how long the first page of each question takes, with what it shows
//! read from the log. HTTP is not in it.

use std::path::Path;
use std::time::Instant;

use bqwitness_recorder::authz::scope::Scope;
use bqwitness_recorder::index::{Indexer, Searcher};
use jiff::Timestamp;
use ledger::search::{Query, ResultFilter};
use tokio::sync::watch;

use super::figure;
use super::log::{PODS, Written, agent, job, metrics, open, table};
use crate::bench::figure::{Figure, Reach};
use crate::bench::spread::Spread;
use crate::programs::ORIGIN;
use crate::trouble::{Doing as _, Result, Trouble};

/// How often each question is asked, each time about something else.
const TIMES: u64 = 100;

/// The first page of each question but that for words, in milliseconds.
const FIRST_PAGE: Reach = Reach::AtMost(100.0);

/// Builds the index of the whole log; says how many entries a second that does.
pub(super) fn index(data: &Path, written: &Written) -> Result<Figure> {
    let opened = open(data, ORIGIN)?;
    let indexer = Indexer::open(data, &opened.signer.first_vkey(), opened.reader, metrics()?);
    let mut indexer = indexer.doing("making an index")?;
    let begun = Instant::now();
    indexer.catch_up(written.size).doing("building the index")?;
    Ok(figure("index built again", written.size as f64 / begun.elapsed().as_secs_f64(), "/s"))
}

/// A question's names in the figures, and what it asks the nth time.
type Question = ([&'static str; 2], fn(&Written, u64) -> Query);

const QUESTIONS: [Question; 16] = [
    (["search, no filter, p50", "search, no filter, p99"], |_, _| Query::default()),
    (["search by namespace, p50", "search by namespace, p99"], |_, n| Query {
        agent: Some(format!("{}/", agent(n % PODS).0)),
        ..Query::default()
    }),
    (["search by agent, p50", "search by agent, p99"], |_, n| {
        let (namespace, account) = agent(n % PODS);
        Query { agent: Some(format!("{namespace}/{account}")), ..Query::default() }
    }),
    (["search by pod, p50", "search by pod, p99"], |_, n| Query {
        pod: Some(format!("pod-{}", n % PODS)),
        ..Query::default()
    }),
    (["search by connection, p50", "search by connection, p99"], |_, n| Query {
        connection: Some(format!("{}/warehouse-{}", agent(n % PODS).0, n % PODS % 3)),
        ..Query::default()
    }),
    (["search by session, p50", "search by session, p99"], |written, n| Query {
        session: usize::try_from(n % PODS).ok().map(|place| written.sessions[place]),
        ..Query::default()
    }),
    (["search since, p50", "search since, p99"], |written, n| Query {
        since: Some(moment(written, n)),
        ..Query::default()
    }),
    (["search until, p50", "search until, p99"], |written, n| Query {
        until: Some(moment(written, n)),
        ..Query::default()
    }),
    (["search by table, p50", "search by table, p99"], |_, n| {
        let (dataset, table) = table(PODS + n);
        Query { table: Some(format!("{dataset}.{table}")), ..Query::default() }
    }),
    (["search by method, p50", "search by method, p99"], |_, _| Query {
        method: Some("jobs.insert".into()),
        ..Query::default()
    }),
    (["search by kind, p50", "search by kind, p99"], |_, _| Query {
        kind: Some("DELETE".into()),
        ..Query::default()
    }),
    (["search by job, p50", "search by job, p99"], |written, n| Query {
        job: Some(job(PODS + n * (written.size / 2 - PODS).max(1) / TIMES)),
        ..Query::default()
    }),
    (["search by result failed, p50", "search by result failed, p99"], |_, _| Query {
        result: Some(ResultFilter::Failed),
        ..Query::default()
    }),
    (["search by result open, p50", "search by result open, p99"], |_, _| Query {
        result: Some(ResultFilter::Open),
        ..Query::default()
    }),
    (["search refused, p50", "search refused, p99"], |_, _| Query {
        refused: Some(true),
        ..Query::default()
    }),
    (["search by words, p50", "search by words, p99"], |_, n| Query {
        words: Some(format!("region_{}", n % 1_009)),
        ..Query::default()
    }),
];

/// A moment within the log's time.
fn moment(written: &Written, n: u64) -> Timestamp {
    let (from, to) = (written.period.0.as_microsecond(), written.period.1.as_microsecond());
    let part = i64::try_from(n * 997 % TIMES).unwrap_or(0) * (to - from) / i64::try_from(TIMES).unwrap_or(1);
    Timestamp::from_microsecond(from + part).unwrap_or(written.period.0)
}

/// Asks all of it.
pub(super) async fn figures(data: &Path, written: &Written) -> Result<Vec<Figure>> {
    let opened = open(data, ORIGIN)?;
    let indexer = Indexer::open(data, &opened.signer.first_vkey(), opened.reader.clone(), metrics()?);
    let progress = indexer.doing("opening the index")?.progress();
    let searcher = Searcher::new(data.into(), opened.reader, progress, watch::channel(false).1);
    let mut figures = Vec::new();
    for ([p50, p99], question) in QUESTIONS {
        let (mut times, mut found) = (Vec::new(), 0);
        for n in 0..TIMES {
            let begun = Instant::now();
            let answer = searcher.search(question(written, n), Scope::Everything).await.doing(p50)?;
            times.push(begun.elapsed());
            found += answer.calls.len();
        }
        if found == 0 {
            return Err(Trouble::new(format!("{p50}: nothing was found, so nothing was measured")));
        }
        let times = Spread::of(times);
        figures.push(figure(p50, times.millis(0.5), "ms"));
        let slowest = figure(p99, times.millis(0.99), "ms");
        // Words are free text: how much they find decides.
        figures.push(if p99.contains("words") { slowest } else { slowest.reach(FIRST_PAGE) });
    }
    Ok(figures)
}
