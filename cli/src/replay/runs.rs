//! Runs: which steps belong together. The agent's own word comes first (a label of its jobs, or the trace of its requests); what
//! claims nothing is split where the agent was idle. None of it is evidence: it is how people read what is.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use jiff::{SignedDuration, Timestamp};
use ledger::search::Call;
use serde::Serialize;

use super::steps::Step;

/// How runs are told apart.
#[derive(Clone, Debug)]
pub(crate) struct How {
    /// The job label whose value names a run; absent: no label does.
    pub(crate) label: Option<String>,
    /// Does a trace name the run of what no label names?
    pub(crate) traces: bool,
    /// A pause of this length or longer ends a run that nobody named.
    pub(crate) idle: SignedDuration,
}

/// Who says that it is a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum By {
    /// The agent, by a label of its jobs.
    Label,
    /// The agent, by the trace of its requests.
    Trace,
    /// Nobody: it lies between two pauses.
    Idle,
}

/// Steps that belong together.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    /// As the agent claims it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    pub(crate) by: By,
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
    /// In the order in which they began.
    pub(crate) steps: Vec<Step>,
}

impl Run {
    fn new(name: Option<String>, by: By, step: Step) -> Self {
        Self { name, by, from: step.begun(), to: step.ended(), steps: vec![step] }
    }

    fn add(&mut self, step: Step) {
        self.to = self.to.max(step.ended());
        self.steps.push(step);
    }

    /// All its calls.
    pub(crate) fn calls(&self) -> u64 {
        self.steps.iter().map(|step| step.calls.len() as u64).sum()
    }
}

/// Splits steps, which come in the order in which they began, into runs.
pub(super) fn runs(steps: Vec<Step>, how: &How) -> Vec<Run> {
    let labelled = labelled_traces(&steps, how);
    let mut runs: Vec<Run> = Vec::new();
    let (mut named, mut unnamed): (HashMap<(By, String), usize>, Option<usize>) = (HashMap::new(), None);
    for step in steps {
        match name(&step, &labelled, how) {
            Some((by, name)) => match named.entry((by, name.clone())) {
                Entry::Occupied(place) => runs[*place.get()].add(step),
                Entry::Vacant(place) => {
                    place.insert(runs.len());
                    runs.push(Run::new(Some(name), by, step));
                }
            },
            None => match unnamed {
                Some(place) if step.begun().duration_since(runs[place].to) < how.idle => {
                    runs[place].add(step);
                }
                _ => {
                    unnamed = Some(runs.len());
                    runs.push(Run::new(None, By::Idle, step));
                }
            },
        }
    }
    runs
}

/// The run's name, and who gave it.
fn name(step: &Step, labelled: &HashMap<String, String>, how: &How) -> Option<(By, String)> {
    let calls = || step.calls.iter().map(|told| &told.call);
    let label = calls().find_map(|call| label(call, how));
    let by_trace = || calls().find_map(|call| labelled.get(call.trace.as_ref()?).cloned());
    if let Some(name) = label.or_else(by_trace) {
        return Some((By::Label, name));
    }
    let trace = calls().find_map(|call| call.trace.clone()).filter(|_| how.traces);
    trace.map(|trace| (By::Trace, trace))
}

fn label(call: &Call, how: &How) -> Option<String> {
    call.labels.get(how.label.as_ref()?).cloned()
}

/// The run that each trace belongs to, as far as a label in it says. A trace with several is of none.
fn labelled_traces(steps: &[Step], how: &How) -> HashMap<String, String> {
    let mut names: HashMap<String, Option<String>> = HashMap::new();
    for call in steps.iter().flat_map(|step| &step.calls).map(|told| &told.call) {
        let (Some(trace), Some(name)) = (&call.trace, label(call, how)) else { continue };
        match names.entry(trace.clone()) {
            Entry::Vacant(place) => {
                place.insert(Some(name));
            }
            Entry::Occupied(mut place) if *place.get() != Some(name) => {
                place.insert(None);
            }
            Entry::Occupied(_) => {}
        }
    }
    names.into_iter().filter_map(|(trace, name)| Some((trace, name?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::steps::steps;
    use crate::samples::call;
    use ledger::call::JobReference;

    const HOUR: i64 = 3600;

    fn how() -> How {
        How { label: Some("bqwitness-run".into()), traces: false, idle: SignedDuration::from_secs(15 * 60) }
    }

    fn labelled(index: u64, job: &str, run: Option<&str>) -> Call {
        let job = JobReference { project: None, id: job.into(), location: None };
        let labels = run.map(|run| ("bqwitness-run".to_owned(), run.to_owned())).into_iter().collect();
        Call { job: Some(job), labels, ..call(index) }
    }

    fn later(call: Call, seconds: i64) -> Call {
        let received = call.received.checked_add(SignedDuration::from_secs(seconds)).unwrap();
        Call { received, ..call }
    }

    fn told(calls: Vec<Call>, how: &How) -> Vec<(Option<String>, Vec<u64>)> {
        let index = |step: &Step| step.calls.iter().map(|told| told.call.index).collect::<Vec<_>>();
        let runs = runs(steps(calls, &mut |_| None), how);
        runs.into_iter().map(|run| (run.name, run.steps.iter().flat_map(index).collect())).collect()
    }

    #[test]
    fn two_runs_that_alternate_are_kept_apart() {
        let calls = vec![
            labelled(1, "a", Some("morning")),
            labelled(2, "b", Some("evening")),
            labelled(3, "a", None), // a poll has no label: its job has
            labelled(4, "c", Some("morning")),
            labelled(5, "b", None),
        ];
        let expected = [(Some("morning".into()), vec![1, 3, 4]), (Some("evening".into()), vec![2, 5])];
        assert_eq!(told(calls, &how()), expected);
    }

    #[test]
    fn what_claims_nothing_is_split_by_a_pause() {
        let calls = vec![call(1), later(call(2), 60), later(call(3), HOUR), later(call(4), HOUR + 1)];
        assert_eq!(told(calls, &how()), [(None, vec![1, 2]), (None, vec![3, 4])]);
        // A call that takes long is no pause.
        let long = Call { duration_micros: Some(3_000_000_000), ..call(1) };
        assert_eq!(told(vec![long, later(call(2), HOUR)], &how()), [(None, vec![1, 2])]);
    }

    #[test]
    fn a_trace_brings_calls_without_a_job_to_their_run() {
        let traced = |call: Call, trace: &str| Call { trace: Some(trace.into()), ..call };
        let calls = vec![
            traced(labelled(1, "a", Some("nightly")), "t1"),
            traced(call(2), "t1"),
            traced(call(3), "t2"),
        ];
        assert_eq!(told(calls.clone(), &how()), [(Some("nightly".into()), vec![1, 2]), (None, vec![3])]);
        let traces = How { traces: true, ..how() };
        assert_eq!(
            told(calls.clone(), &traces),
            [(Some("nightly".into()), vec![1, 2]), (Some("t2".into()), vec![3])]
        );
        // A trace that two runs claim says nothing.
        let both = vec![
            traced(labelled(1, "a", Some("x")), "t"),
            traced(labelled(2, "b", Some("y")), "t"),
            traced(call(3), "t"),
        ];
        assert_eq!(told(both, &how())[2], (None, vec![3]));
        let idle = How { label: None, ..how() };
        assert_eq!(told(calls, &idle), [(None, vec![1, 2, 3])]);
    }
}
