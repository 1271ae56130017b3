//! Jobs that take their time. Emulators are done at once; BigQuery answers that the job is running, and is asked again.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::Arrival;

/// Which jobs still run, as far as clients are told.
#[derive(Debug, Default)]
pub(super) struct Running {
    /// For new jobs.
    answers: u32,
    /// In how many more answers each job runs.
    left: HashMap<String, u32>,
}

impl Running {
    pub(super) fn keep(&mut self, answers: u32) {
        self.answers = answers;
    }

    /// Is this an answer that may have to be rewritten?
    pub(super) fn concerns(&self, arrival: &Arrival) -> bool {
        let about_jobs = ["jobs.query", "jobs.insert", "jobs.get", "jobs.getQueryResults"];
        (self.answers > 0 || !self.left.is_empty()) && about_jobs.contains(&arrival.method().as_str())
    }

    /// The answer as it is while the job runs; `None` where it is to stay.
    pub(super) fn rewrite(&mut self, arrival: &Arrival, answer: &Value) -> Option<Value> {
        let job = answer.pointer("/jobReference/jobId")?.as_str()?;
        let begins = arrival.verb != "GET";
        if answer.pointer("/configuration/dryRun") == Some(&Value::Bool(true)) {
            return None;
        }
        if begins && self.answers > 0 {
            self.left.insert(job.into(), self.answers);
        } else {
            let left = self.left.get_mut(job)?;
            *left = left.checked_sub(1)?;
        }
        Some(still_running(answer))
    }
}

fn still_running(answer: &Value) -> Value {
    let mut answer = answer.clone();
    let Some(fields) = answer.as_object_mut() else { return answer };
    if fields.contains_key("jobComplete") {
        fields.retain(|name, _| ["kind", "jobReference"].contains(&name.as_str()));
        fields.insert("jobComplete".into(), json!(false));
    } else {
        fields.insert("status".into(), json!({ "state": "RUNNING" }));
        if let Some(statistics) = fields.get_mut("statistics").and_then(Value::as_object_mut) {
            statistics.retain(|name, _| ["creationTime", "startTime"].contains(&name.as_str()));
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn arrival(verb: &str, path: &str) -> Arrival {
        let path = format!("/bigquery/v2/projects/p/{path}");
        let (verb, host) = (verb.into(), String::new());
        Arrival { verb, host, path, authorization: None, user_agent: None, principal: None }
    }

    #[test]
    fn a_job_runs_for_as_many_answers_as_it_is_told_to() {
        let mut running = Running::default();
        assert!(!running.concerns(&arrival("POST", "queries")));
        running.keep(1);
        let reference = json!({ "jobId": "a" });
        let done = json!({ "jobReference": reference, "jobComplete": true, "rows": [] });
        let first = running.rewrite(&arrival("POST", "queries"), &done).unwrap();
        assert_eq!(first, json!({ "jobReference": reference, "jobComplete": false }));
        let job = json!({ "jobReference": reference, "status": { "state": "DONE" }, "statistics": { "endTime": "1" } });
        let second = running.rewrite(&arrival("GET", "jobs/a"), &job).unwrap();
        assert_eq!(second["status"], json!({ "state": "RUNNING" }));
        assert_eq!(second["statistics"], json!({}));
        assert_eq!(running.rewrite(&arrival("GET", "queries/a"), &done), None);
        assert_eq!(
            running.rewrite(&arrival("GET", "queries/b"), &json!({ "jobReference": { "jobId": "b" } })),
            None
        );
    }
}
