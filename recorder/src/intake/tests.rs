//! Shares, room and pace, by a clock that waits for nobody.

#![allow(clippy::unwrap_used, reason = "test code")]

use http_body_util::channel::Channel;

use super::*;

fn workload(pod: &str) -> Workload {
    Workload {
        cluster: "test".into(),
        namespace: "agents".into(),
        service_account: "billing".into(),
        pod: pod.into(),
        pod_uid: format!("uid-of-{pod}"),
        node: None,
    }
}

/// What came of a body that brings one piece of `size` bytes in each second, until it is ended.
async fn brought(
    intake: &Intake,
    pod: &str,
    size: usize,
    pieces: usize,
) -> (Result<usize, Reason>, Duration) {
    let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(1);
    let sending = tokio::spawn(async move {
        for _ in 0..pieces {
            if sender.send_data(vec![0; size].into()).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let begun = Instant::now();
    let read = intake.read(&workload(pod), MAX_BATCH, &mut Body::new(body)).await;
    let took = begun.elapsed();
    sending.abort();
    (read.map(|(_, bytes)| bytes.len()).map_err(|refusal| refusal.reason), took)
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_too_slow_is_ended() {
    let intake = Intake::default();
    let (ended, took) = brought(&intake, "a", 1, 60).await;
    assert_eq!(ended, Err(Reason::BodyTimeout), "a byte each second");
    assert!(took >= BODY_GRACE && took < BODY_GRACE + Duration::from_secs(1), "{took:?}");
    let (ended, took) = brought(&intake, "a", LEAST_RATE, 60).await;
    assert_eq!((ended, took), (Err(Reason::BodyTimeout), BODY_TIMEOUT), "fast enough, and without an end");
    let (whole, _) = brought(&intake, "a", LEAST_RATE, 20).await;
    assert_eq!(whole, Ok(20 * LEAST_RATE));
    assert_eq!(intake.room.available_permits(), ROOM_KIB as usize, "all of it is given back");
}

#[tokio::test(start_paused = true)]
async fn a_workload_waits_behind_itself_and_nobody_else() {
    let intake = Arc::new(Intake::default());
    let first = intake.take_share(&workload("a"), MAX_BATCH).await.unwrap();
    let begun = Instant::now();
    let mut elsewhere = workload("a");
    elsewhere.node = Some("node-1".into());
    let refused = intake.read(&elsewhere, 1, &mut Body::from("S")).await.unwrap_err();
    assert_eq!((refused.reason, begun.elapsed()), (Reason::WorkloadBusy, SHARE_PATIENCE));
    let begun = Instant::now();
    let (held, bytes) = intake.read(&workload("b"), 1, &mut Body::from("S")).await.unwrap();
    assert_eq!((&bytes[..], begun.elapsed()), (&b"S"[..], Duration::ZERO));
    drop((first, held));
    intake.read(&workload("a"), 1, &mut Body::from("S")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn small_bodies_count_too() {
    let intake = Intake::default();
    let mut held = Vec::new();
    for _ in 0..SHARE_KIB / LEAST_SHARE_KIB {
        held.push(intake.take_share(&workload("a"), 1).await.unwrap());
    }
    let refused = intake.take_share(&workload("a"), 1).await.unwrap_err();
    assert_eq!(refused.reason, Reason::WorkloadBusy);
    assert!(held.len() <= crate::sequencer::QUEUE / 2, "one workload can't fill the sequencer's queue");
}

#[tokio::test(start_paused = true)]
async fn the_room_of_all_is_taken_by_what_has_come() {
    let intake = Intake::default();
    let _all_but_two = intake.take_room(ROOM_KIB as usize - 2).await.unwrap();
    intake.read(&workload("a"), MAX_BATCH, &mut Body::from(vec![0; 2048])).await.unwrap();
    let refused = intake.read(&workload("a"), MAX_BATCH, &mut Body::from(vec![0; 2049])).await.unwrap_err();
    assert_eq!(refused.reason, Reason::Busy);
    let refused = intake.read(&workload("a"), 1, &mut Body::from(vec![0; MAX_BATCH + 1])).await.unwrap_err();
    assert_eq!(refused.reason, Reason::BatchTooLarge);
}

#[tokio::test]
async fn shares_that_nobody_holds_are_forgotten() {
    let intake = Intake::default();
    for pod in 0..3 * SWEEP_AFTER {
        drop(intake.take_share(&workload(&pod.to_string()), 1).await.unwrap());
    }
    assert!(intake.shares.lock().unwrap().of.len() <= SWEEP_AFTER);
}
