//! Sessions, as batches and recovery change them.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::HashMap;

use super::session::{SESSION_AGE, SESSION_AHEAD};
use super::*;
use ledger::entry::Role;

const DAY: i64 = 24 * 3600;

fn speaker() -> Speaker {
    let workload = Workload {
        cluster: "test".into(),
        namespace: "agents".into(),
        service_account: "billing".into(),
        pod: "billing-0".into(),
        pod_uid: "u".into(),
        node: None,
    };
    Speaker { workload, role: Role::Sidecar }
}

fn statement(seq: u64, meaning: Meaning) -> Submitted {
    let digest = |seq: u64| Digest::of(&seq.to_be_bytes());
    let prev = seq.checked_sub(1).map(digest);
    Submitted { bytes: Vec::new(), digest: digest(seq), seq, prev, meaning }
}

fn batch(session: Uuid, statements: Vec<Submitted>) -> Submission {
    Submission { speaker: speaker(), session, statements, blobs: HashMap::new(), elsewhere: Vec::new() }
}

fn id(now: Timestamp, age: i64) -> Uuid {
    let begun = u64::try_from(now.as_second() - age).unwrap();
    Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, begun, 0))
}

/// What recovery makes of a log with these statements.
fn known(session: Uuid, statements: &[Submitted], received: Timestamp) -> Sessions {
    let mut sessions = Sessions::default();
    for (index, statement) in (0..).zip(statements) {
        sessions.apply(session, &speaker(), statement, Place { index, received });
    }
    sessions.hear_all();
    sessions
}

fn reason(sessions: &Sessions, batch: &Submission, now: Timestamp) -> Option<Reason> {
    sessions.plan(batch, now).err().map(|refusal| refusal.reason)
}

#[test]
fn only_a_beginning_has_an_age() {
    let now = Timestamp::now();
    let sessions = Sessions::default();
    for (age, refused) in [
        (0, None),
        (SESSION_AGE, None),
        (-SESSION_AHEAD, None),
        (SESSION_AGE + 1, Some(Reason::BadSession)),
        (30 * DAY, Some(Reason::BadSession)),
        (-SESSION_AHEAD - 1, Some(Reason::BadSession)),
    ] {
        let begins = batch(id(now, age), vec![statement(0, Meaning::Start(10))]);
        assert_eq!(reason(&sessions, &begins, now), refused, "{age} s");
        let goes_on = batch(id(now, age), vec![statement(1, Meaning::Other)]);
        assert_eq!(reason(&sessions, &goes_on, now), Some(Reason::SessionUnknown), "{age} s");
    }
}

#[test]
fn an_open_session_is_never_too_old() {
    let now = Timestamp::now();
    let old = id(now, 30 * DAY);
    let said = [statement(0, Meaning::Start(10)), statement(1, Meaning::Intent)];
    let mut sessions = known(old, &said, now - SignedDuration::from_secs(29 * DAY));
    sessions.forget(now);
    let next = vec![statement(1, Meaning::Intent), statement(2, Meaning::Outcome(1))];
    assert_eq!(sessions.plan(&batch(old, next), now).unwrap(), [Step::Repeat(1), Step::Next]);
    assert_eq!(sessions.open(), 1);
}

#[test]
fn an_old_session_that_has_just_ended_is_remembered_for_repeats() {
    let now = Timestamp::now();
    let old = id(now, 30 * DAY);
    let said = || vec![statement(0, Meaning::Start(10)), statement(1, Meaning::End)];
    let mut sessions = known(old, &said(), now);
    sessions.forget(now + REPEATS_AFTER_CLOSE);
    assert_eq!(sessions.plan(&batch(old, said()), now).unwrap(), [Step::Repeat(0), Step::Repeat(1)]);
    assert_eq!(
        reason(&sessions, &batch(old, vec![statement(2, Meaning::Other)]), now),
        Some(Reason::SessionClosed)
    );
    sessions.forget(now + REPEATS_AFTER_CLOSE + SignedDuration::from_secs(1));
    assert_eq!(reason(&sessions, &batch(old, said()), now), Some(Reason::BadSession), "it is forgotten");
    assert_eq!(sessions.sessions.len(), 0);
}

#[test]
fn an_id_is_remembered_until_it_is_too_old_to_begin() {
    let now = Timestamp::now();
    let young = id(now, 0);
    let said = || vec![statement(0, Meaning::Start(10)), statement(1, Meaning::End)];
    let mut sessions = known(young, &said(), now);
    let later = now + SignedDuration::from_secs(SESSION_AGE - 1);
    sessions.forget(later);
    assert_eq!(reason(&sessions, &batch(young, said()), later), Some(Reason::SeqTooOld), "not again");
}

#[test]
fn a_workload_can_take_only_its_own_places() {
    let now = Timestamp::now();
    let mut sessions = Sessions::default();
    let said = [statement(0, Meaning::Start(10)), statement(1, Meaning::End)];
    let place = Place { index: 0, received: now };
    for _ in 0..MAX_SESSIONS_OF_WORKLOAD {
        let session = id(now, SESSION_AGE);
        said.iter().for_each(|statement| sessions.apply(session, &speaker(), statement, place));
    }
    let begins = || batch(id(now, 0), vec![statement(0, Meaning::Start(10))]);
    assert_eq!(reason(&sessions, &begins(), now), Some(Reason::TooManyOfWorkload));
    let mut moved = begins();
    moved.speaker.workload.node = Some("node-1".into());
    assert_eq!(reason(&sessions, &moved, now), Some(Reason::TooManyOfWorkload), "it is the same pod");
    let mut other = begins();
    other.speaker.workload.pod_uid = "another".into();
    assert_eq!(reason(&sessions, &other, now), None, "another pod has its own");
    sessions.forget(now + REPEATS_AFTER_CLOSE + SignedDuration::from_secs(1));
    assert_eq!(reason(&sessions, &begins(), now), None, "what is forgotten does not count");
    assert!(sessions.of_workload.is_empty());
}

/// After three heartbeats a session is lost: counted from its last word, or from the recorder's start if that came later.
#[test]
fn a_silence_is_longer_than_three_heartbeats() {
    let (wall, begun) = (Timestamp::now(), Instant::now());
    let [silent, lively] = [0, 1].map(|age| id(wall, age));
    let said = [statement(0, Meaning::Start(10)), statement(1, Meaning::Intent)];
    let mut sessions = known(silent, &said, wall);
    let place = Place { index: 9, received: wall };
    sessions.apply(lively, &speaker(), &statement(0, Meaning::Start(10)), place);
    let heard_at = |sessions: &mut Sessions, session, seconds| {
        sessions.sessions.get_mut(&session).unwrap().heard = begun + Duration::from_secs(seconds);
    };
    heard_at(&mut sessions, silent, 0);
    heard_at(&mut sessions, lively, 1);
    let lost_at = |sessions: &Sessions, seconds| sessions.silent(begun + Duration::from_secs(seconds));
    assert_eq!(lost_at(&sessions, 30), []);
    let lost = SessionLost { session: silent, last_seq: 1, open_intents: vec![1], open: 1 };
    assert_eq!(lost_at(&sessions, 31), [lost]);
    sessions.apply(silent, &speaker(), &statement(2, Meaning::Other), place);
    heard_at(&mut sessions, silent, 29);
    assert_eq!(lost_at(&sessions, 31), [], "it was heard again");
    heard_at(&mut sessions, silent, 0);
    sessions.hear_all();
    assert_eq!(sessions.silent(Instant::now() + Duration::from_secs(29)), [], "nobody was heard meanwhile");
    sessions.close(silent, wall);
    sessions.close(lively, wall);
    assert_eq!(lost_at(&sessions, 1000), [], "what is closed is not lost");
}
