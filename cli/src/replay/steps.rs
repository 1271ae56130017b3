//! Steps: the calls of one job together (its insert, the polls, the pages of its result, an upload's requests), and each
//! call without a job by itself.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use ledger::digest::Digest;
use ledger::search::Call;
use serde::Serialize;

use super::Going;

/// What an agent did at one time: a job, or a single call.
#[derive(Debug, Serialize)]
pub(crate) struct Step {
    /// The job's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) job: Option<String>,
    /// In the order of the log; at least one.
    pub(crate) calls: Vec<Told>,
}

/// A call, and how far it had come where that is recorded.
#[derive(Debug, Serialize)]
pub(crate) struct Told {
    #[serde(flatten)]
    pub(crate) call: Call,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) progress: Option<Going>,
}

impl Step {
    /// The call that it began with.
    pub(crate) fn first(&self) -> &Call {
        &self.calls.first().expect("a step has a call").call
    }

    /// When the recorder heard of it first.
    pub(crate) fn begun(&self) -> Timestamp {
        self.first().received
    }

    /// When the last of its calls was over, as far as that is known.
    pub(crate) fn ended(&self) -> Timestamp {
        self.calls.iter().map(|told| over(&told.call)).max().expect("a step has a call")
    }
}

fn over(call: &Call) -> Timestamp {
    let took = i64::try_from(call.duration_micros.unwrap_or(0)).unwrap_or(i64::MAX);
    call.received.checked_add(SignedDuration::from_micros(took)).unwrap_or(call.received)
}

/// Groups calls, which come in the order of the log, by job and by upload. `going` says how far a call had come.
pub(super) fn steps(calls: Vec<Call>, going: &mut impl FnMut(&Call) -> Option<Going>) -> Vec<Step> {
    let mut groups = Groups::default();
    for call in calls {
        let progress = going(&call);
        groups.add(Told { call, progress });
    }
    groups.finish()
}

#[derive(Default)]
struct Groups {
    groups: Vec<Vec<Told>>,
    jobs: HashMap<String, usize>,
    uploads: HashMap<Digest, usize>,
}

impl Groups {
    fn add(&mut self, told: Told) {
        let job = told.call.job.as_ref().map(|job| job.id.clone());
        let of_job = job.as_ref().and_then(|job| self.jobs.get(job)).copied();
        let of_upload = told.call.upload.and_then(|upload| self.uploads.get(&upload)).copied();
        let place = match (of_job, of_upload) {
            (Some(one), Some(other)) if one != other => self.unite(one, other),
            (Some(place), _) | (None, Some(place)) => place,
            (None, None) => {
                self.groups.push(Vec::new());
                self.groups.len() - 1
            }
        };
        if let Some(job) = job {
            self.jobs.insert(job, place);
        }
        if let Some(upload) = told.call.upload {
            self.uploads.insert(upload, place);
        }
        self.groups[place].push(told);
    }

    /// A job and an upload turn out to be one.
    fn unite(&mut self, one: usize, other: usize) -> usize {
        let (kept, gone) = (one.min(other), one.max(other));
        let moved = std::mem::take(&mut self.groups[gone]);
        self.groups[kept].extend(moved);
        self.jobs.values_mut().chain(self.uploads.values_mut()).for_each(|place| {
            if *place == gone {
                *place = kept;
            }
        });
        kept
    }

    fn finish(self) -> Vec<Step> {
        let mut steps: Vec<_> = self.groups.into_iter().filter(|calls| !calls.is_empty()).map(step).collect();
        steps.sort_by_key(|step| step.first().index);
        steps
    }
}

fn step(mut calls: Vec<Told>) -> Step {
    calls.sort_by_key(|told| told.call.index);
    let job = calls.iter().find_map(|told| told.call.job.as_ref()).map(|job| job.id.clone());
    Step { job, calls }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::call;
    use ledger::call::JobReference;

    fn of_job(index: u64, job: &str) -> Call {
        let job = JobReference { project: None, id: job.into(), location: None };
        Call { job: Some(job), ..call(index) }
    }

    fn indexes(calls: Vec<Call>) -> Vec<Vec<u64>> {
        let steps = steps(calls, &mut |_| None);
        steps.iter().map(|step| step.calls.iter().map(|told| told.call.index).collect()).collect()
    }

    #[test]
    fn calls_of_two_jobs_that_alternate_are_two_steps() {
        let calls = vec![of_job(1, "a"), of_job(2, "b"), call(3), of_job(4, "a"), of_job(5, "b")];
        assert_eq!(indexes(calls), [vec![1, 4], vec![2, 5], vec![3]]);
    }

    #[test]
    fn an_upload_is_its_jobs_from_the_first_request_on() {
        let upload = |index| Call { upload: Some(Digest([7; 32])), ..call(index) };
        let last = Call { upload: Some(Digest([7; 32])), ..of_job(6, "load") };
        let calls = vec![upload(1), of_job(2, "other"), upload(3), of_job(4, "load"), last];
        assert_eq!(indexes(calls), [vec![1, 3, 4, 6], vec![2]]);
    }
}
