//! What joins a request with its job when the request does not name it: the id of a resumable upload, and the anonymous
//! table in which a result lies. Known from earlier answers, in memory alone: a sidecar that restarts joins no more.

use std::time::Duration;

use http::{HeaderMap, header::LOCATION};
use ledger::call::{Access, Intent, JobReference, Joined, Reported, TableUse};
use ledger::digest::Digest;
use moka::sync::Cache;
use rustls::crypto::{GetRandomFailed, SecureRandom};

use crate::bigquery::upload::{self, UploadId};
use crate::bigquery::{Recognised, Upload};

/// Uploads and results that are remembered; above it the least used are forgotten, and their later requests not joined.
const REMEMBERED: u64 = 4096;

/// How long an upload's id is good for: Google ends it after a week.
const UPLOAD_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long BigQuery keeps an anonymous table.
const RESULT_AGE: Duration = Duration::from_secs(24 * 3600);

/// Longest list of tables that is remembered of an upload's job. A load writes one.
const MAX_TABLES: usize = 8;

/// What was learned from earlier calls.
#[derive(Debug)]
pub struct Joins {
    /// Of this run alone: an upload's id can't be guessed back from its digest, nor tried.
    salt: [u8; 32],
    uploads: Cache<Digest, Begun>,
    results: Cache<(Option<String>, String, String), JobReference>,
}

/// The job that began an upload, as its intent has it.
#[derive(Clone, Debug)]
pub struct Begun {
    job: Option<JobReference>,
    kind: Option<String>,
    tables: Vec<TableUse>,
}

impl Begun {
    /// What later requests of an upload are to be joined with, if this intent is about to begin one.
    #[must_use]
    pub fn of(call: &Recognised, intent: &Intent) -> Option<Self> {
        (call.upload == Some(Upload::Begin)).then(|| Self {
            job: intent.job.clone(),
            kind: intent.statement_kind.clone(),
            tables: intent.tables.iter().take(MAX_TABLES).cloned().collect(),
        })
    }
}

impl Joins {
    /// Knows nothing yet.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn new(random: &dyn SecureRandom) -> Result<Self, GetRandomFailed> {
        let mut salt = [0; 32];
        random.fill(&mut salt)?;
        let uploads = Cache::builder().max_capacity(REMEMBERED).time_to_live(UPLOAD_AGE).build();
        let results = Cache::builder().max_capacity(REMEMBERED).time_to_live(RESULT_AGE).build();
        Ok(Self { salt, uploads, results })
    }

    /// Says in the intent what is known of its job.
    pub fn join(&self, call: &Recognised, intent: &mut Intent) {
        if let Some(Upload::Continue(id)) = &call.upload {
            let upload = self.name(id);
            intent.upload = Some(upload);
            if let Some(begun) = self.uploads.get(&upload) {
                intent.joined = begun.job.is_some().then_some(Joined::Upload);
                (intent.job, intent.statement_kind, intent.tables) = (begun.job, begun.kind, begun.tables);
            }
        } else if call.method == "tabledata.list"
            && let Some(job) =
                intent.tables.first().and_then(result_key).and_then(|key| self.results.get(&key))
        {
            (intent.job, intent.joined) = (Some(job), Some(Joined::Table));
        }
    }

    /// Remembers the upload that an answer with these headers begins; its name in the record.
    pub fn begins(&self, begun: Begun, headers: &HeaderMap) -> Option<Digest> {
        let location = headers.get(LOCATION)?.to_str().ok()?;
        let upload = self.name(&upload::id_of_location(location)?);
        self.uploads.insert(upload, begun);
        Some(upload)
    }

    /// Remembers in which anonymous table a job's result lies.
    pub fn reports(&self, reported: &Reported) {
        let Some(job) = &reported.job else { return };
        let written = reported.tables.iter().filter(|table| table.access == Access::Write);
        for key in written.filter_map(result_key) {
            self.results.insert(key, job.clone());
        }
    }

    fn name(&self, id: &UploadId) -> Digest {
        Digest::of(&[&self.salt, id.as_str().as_bytes()].concat())
    }
}

/// Tables that others may read too are no job's own.
fn result_key(table: &TableUse) -> Option<(Option<String>, String, String)> {
    let dataset = table.dataset.as_ref().filter(|dataset| dataset.starts_with('_'))?;
    Some((table.project.clone(), dataset.clone(), table.table.clone()))
}
