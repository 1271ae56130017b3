//! What clients print, without what differs from run to run: ids of jobs, times, entity tags.

use serde_json::Value;

/// Fields of BigQuery's answers that differ from run to run.
const PASSING: [&str; 11] = [
    "etag",
    "jobId",
    "selfLink",
    "creationTime",
    "lastModifiedTime",
    "startTime",
    "endTime",
    "finalExecutionDurationMs",
    "totalSlotMs",
    "location",
    "user_email",
];

/// The lines of `text`; `dataset`, a client's own name, becomes `DATASET`.
#[must_use]
pub fn plain(text: &str, dataset: &str) -> Vec<String> {
    text.replace(dataset, "DATASET").lines().map(line).collect()
}

fn line(line: &str) -> String {
    // bq's shell has a prompt.
    let line = line.trim_start_matches(|first: char| first != '{' && first != '[' && line.contains("> "));
    match serde_json::from_str::<Value>(line) {
        Ok(mut value) => {
            forget(&mut value);
            words(&value.to_string())
        }
        Err(_) => words(line),
    }
}

fn forget(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !PASSING.contains(&name.as_str()));
            fields.values_mut().for_each(forget);
        }
        Value::Array(values) => values.iter_mut().for_each(forget),
        _ => {}
    }
}

/// Words that are ids become `ID`, and long numbers `NUMBER`.
fn words(line: &str) -> String {
    let (mut plain, mut word) = (String::new(), String::new());
    for character in line.chars().chain(['\n']) {
        if character.is_ascii_alphanumeric() || "_-".contains(character) {
            word.push(character);
        } else {
            plain.push_str(&meaning(&word));
            plain.push(character);
            word.clear();
        }
    }
    plain.truncate(plain.trim_end().len());
    plain
}

fn meaning(word: &str) -> String {
    let is_uuid = word.len() == 36 && word.bytes().filter(|byte| *byte == b'-').count() == 4;
    let is_job = ["bqjob_", "job_", "script_job_", "bqemu_"].iter().any(|start| word.starts_with(start));
    if is_uuid || is_job {
        "ID".into()
    } else if word.len() >= 10 && word.bytes().all(|byte| byte.is_ascii_digit()) {
        "NUMBER".into()
    } else {
        word.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_left_out_and_the_rest_stays() {
        let line = r#"p> {"etag": "x", "rows": [{"id": 1, "n": "1234567890123"}]} "#;
        assert_eq!(plain(line, "mine"), [r#"{"rows":[{"id":1,"n":"NUMBER"}]}"#]);
        let uuid = "0199a6c5-7c3e-7c1e-9a52-2f3a51d1a9c0";
        let text = format!("bad SQL in mine_a, job {uuid} (bqjob_r1_2), 42");
        assert_eq!(plain(&text, "mine"), ["bad SQL in DATASET_a, job ID (ID), 42"]);
    }
}
