//! Calls of many requests and of many hours: uploads that are joined with their job, and progress.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use bqwitness_recorder::store::files::LocalFiles;
use common::{Site, Speaker, only, refusal, verify};
use ledger::batch::Batch;
use ledger::call::{BodySoFar, CallResult, Intent, JobReference, Outcome, Progress, Reported};
use ledger::digest::Digest;
use ledger::statement::{Body, kind};

fn intent(speaker: &mut Speaker, job: Option<&str>, upload: Option<&str>) -> Batch {
    let intent = Intent {
        method: "jobs.insert".into(),
        job: job.map(|id| JobReference { id: id.into(), ..JobReference::default() }),
        upload: upload.map(|id| Digest::of(id.as_bytes())),
        ..Intent::default()
    };
    only(speaker.say(kind::CALL_INTENT, Body { intent: Some(intent), ..Body::default() }, BTreeMap::new()))
}

fn outcome(speaker: &mut Speaker, call: u64, job: Option<&str>, upload: Option<&str>) -> Batch {
    let job = job.map(|id| JobReference { id: id.into(), ..JobReference::default() });
    let outcome = Outcome {
        call,
        result: CallResult::Answered,
        forwarded: true,
        status: Some(200),
        reported: job.map(|job| Reported { job: Some(job), ..Reported::default() }),
        upload: upload.map(|id| Digest::of(id.as_bytes())),
        ..Outcome::default()
    };
    only(speaker.say(kind::CALL_OUTCOME, Body { outcome: Some(outcome), ..Body::default() }, BTreeMap::new()))
}

fn progress(speaker: &mut Speaker, call: u64, sent: u64, answered: u64) -> Batch {
    let body = |bytes| BodySoFar { wire_bytes: bytes, content_bytes: bytes, digest: None };
    let progress =
        Progress { call, sent: Some(body(sent)), answer: Some(body(answered)), duration_micros: 1 };
    let body = Body { progress: Some(progress), ..Body::default() };
    only(speaker.say(kind::CALL_PROGRESS, body, BTreeMap::new()))
}

/// An upload's first request has no id of the upload, its middle ones have no job, and its last one is answered with the job.
#[tokio::test(flavor = "multi_thread")]
async fn all_requests_of_an_upload_are_found_by_its_job() {
    let site = Site::new();
    let recorder = site.start().await;
    let client = &recorder.client;
    let mut speaker = site.speaker("agents", "billing");
    let token = speaker.token.clone();
    client.record(&token, &speaker.start(60)).await;
    let mut last = 0;
    for (asked, answered) in [
        ((None, None), (None, Some("upload-1"))),
        ((None, Some("upload-1")), (None, None)),
        ((None, Some("upload-1")), (Some("job-1"), None)),
        ((None, Some("upload-2")), (Some("job-2"), None)),
        ((Some("job-1"), None), (Some("job-1"), None)),
    ] {
        let call = speaker.seq;
        client.record(&token, &intent(&mut speaker, asked.0, asked.1)).await;
        last = client.record(&token, &outcome(&mut speaker, call, answered.0, answered.1)).await.0[0].index;
    }
    client.search(&format!("wait={}", last + 1)).await;
    let found = async |job: &str| {
        let answer = client.search(&format!("job={job}")).await;
        answer.calls.iter().map(|call| call.seq).collect::<Vec<_>>()
    };
    assert_eq!(found("job-1").await, [9, 5, 3, 1]);
    assert_eq!(found("job-2").await, [7]);
    assert!(found("job-3").await.is_empty());
    let middle = &client.search("job=job-1").await.calls[2];
    assert_eq!(middle.upload, Some(Digest::of(b"upload-1")));
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_belongs_to_an_open_call() {
    let site = Site::new();
    let recorder = site.start().await;
    let client = &recorder.client;
    let mut speaker = site.speaker("agents", "billing");
    let token = speaker.token.clone();
    client.record(&token, &speaker.start(60)).await;
    let call = speaker.seq;
    client.record(&token, &intent(&mut speaker, None, None)).await;
    client.record(&token, &progress(&mut speaker, call, 10, 0)).await;
    let last = client.record(&token, &progress(&mut speaker, call, 20, 7)).await.0[0].index;

    let shown = client.search(&format!("wait={}", last + 1)).await.calls.remove(0);
    assert_eq!((shown.result, shown.progress_index), (None, Some(last)));
    assert_eq!((shown.sent_bytes, shown.answer_bytes), (Some(20), Some(7)));

    client.record(&token, &outcome(&mut speaker, call, None, None)).await;
    for (what, call) in [("has ended", call), ("never was", 99)] {
        let mut stray = speaker.clone();
        let refused = client.post(&token, progress(&mut stray, call, 1, 1).encode()).await;
        assert_eq!(refusal(&refused), (409, "call_unknown".into()), "progress of a call that {what}");
    }
    client.record(&token, &speaker.end()).await;
    recorder.stop().await;
    verify(Arc::new(LocalFiles::open(&site.data()).unwrap()), &Vec::new());
}
