//! What sessions and operators' words make of a pod's times.

use super::*;
use crate::operator::{CoverageState, PodCoverage};

fn at(minute: i64) -> Timestamp {
    Timestamp::from_second(minute * 60).expect("in range")
}

fn span(from: i64, heard: i64, state: SessionState) -> Span {
    let crate::entry::Subject::Workload(subject) = crate::entry::tests::envelope().subject else {
        panic!("a workload")
    };
    Span {
        session: Uuid::from_u128(u128::try_from(from).expect("positive")),
        subject,
        connection: None,
        from: at(from),
        heard: at(heard),
        state,
        missing: 0,
        refused_unrecorded: 0,
    }
}

type Minutes = (i64, i64);

fn heard(spans: Vec<Span>) -> (Vec<Minutes>, Vec<(i64, i64, GapReason)>) {
    let pods = pods(spans, &[], Period { from: at(0), to: at(600) });
    let minutes = |period: Period| (period.from.as_second() / 60, period.to.as_second() / 60);
    let gap = |gap: &Gap| {
        let (from, to) = minutes(gap.period);
        (from, to, gap.reason)
    };
    (pods[0].recorded.iter().map(|r| minutes(r.period)).collect(), pods[0].gaps.iter().map(gap).collect())
}

#[test]
fn every_gap_has_its_reason() {
    let spans = vec![
        span(200, 300, SessionState::Lost),
        span(60, 100, SessionState::Ended),
        span(400, 500, SessionState::Open),
    ];
    let (recorded, gaps) = heard(spans);
    assert_eq!(recorded, [(60, 100), (200, 300), (400, 500)]);
    let reasons = [
        (0, 60, GapReason::NotBegun),
        (100, 200, GapReason::Ended),
        (300, 400, GapReason::Lost),
        (500, 600, GapReason::Silent),
    ];
    assert_eq!(gaps, reasons);
}

#[test]
fn a_session_that_goes_on_covers_to_the_end() {
    assert_eq!(heard(vec![span(0, 590, SessionState::Open)]), (vec![(0, 600)], vec![]));
}

#[test]
fn sessions_that_overlap_leave_no_gap() {
    let (_, gaps) = heard(vec![span(0, 300, SessionState::Ended), span(100, 595, SessionState::Open)]);
    assert_eq!(gaps, []);
    let (_, gaps) = heard(vec![span(0, 300, SessionState::Lost), span(100, 200, SessionState::Ended)]);
    assert_eq!(gaps, [(300, 600, GapReason::Lost)], "the one that lasted longest says why");
}

/// What an operator said of the pod of [`span`], which was created at minute 10.
fn told(minute: i64, state: CoverageState, reason: Option<&str>) -> Told {
    let Workload { cluster, namespace, service_account, pod, pod_uid, .. } =
        span(0, 0, SessionState::Open).subject;
    let said = PodCoverage {
        namespace,
        pod,
        pod_uid,
        service_account,
        created: at(10),
        since: at(minute),
        state,
        reason: reason.map(str::to_owned),
    };
    Told { cluster, received: at(minute), connection: None, said }
}

fn gaps(spans: Vec<Span>, told: &[Told]) -> Vec<(i64, i64, String)> {
    let minutes = |time: Timestamp| time.as_second() / 60;
    let pods = pods(spans, told, Period { from: at(0), to: at(600) });
    let gaps = pods.iter().flat_map(|pod| &pod.gaps);
    gaps.map(|gap| (minutes(gap.period.from), minutes(gap.period.to), gap.describe())).collect()
}

#[test]
fn a_pod_without_a_session_is_uncovered_as_long_as_the_operator_says_so() {
    let before = told(11, CoverageState::Uncovered, Some("no_sidecar"));
    let gone = told(300, CoverageState::Ended, None);
    assert_eq!(
        gaps(vec![], &[gone.clone(), before.clone()]),
        [(10, 300, "uncovered: no_sidecar".to_owned())]
    );
    assert_eq!(gaps(vec![], &[before]), [(10, 600, "uncovered: no_sidecar".to_owned())]);
    let held_back = [told(11, CoverageState::Covered, None), gone];
    assert_eq!(gaps(vec![], &held_back), [], "its agent never ran");
    assert_eq!(pods(vec![], &held_back, Period { from: at(0), to: at(600) }), [], "nothing to say of it");
}

#[test]
fn a_pod_is_not_missed_before_it_was_created_nor_after_its_end() {
    let session = || vec![span(12, 500, SessionState::Ended)];
    assert_eq!(gaps(session(), &[]).len(), 2, "as far as sessions alone can tell");
    let seen = [told(11, CoverageState::Covered, None), told(499, CoverageState::Ended, None)];
    assert_eq!(gaps(session(), &seen), []);
}

#[test]
fn a_gap_of_the_sessions_keeps_its_reason_where_the_operator_saw_nothing() {
    let session = vec![span(12, 100, SessionState::Lost), span(400, 599, SessionState::Open)];
    let seen = [
        told(11, CoverageState::Covered, None),
        told(150, CoverageState::Uncovered, Some("sidecar_stopped")),
        told(200, CoverageState::Uncovered, Some("sidecar_not_ready")),
        told(300, CoverageState::Covered, None),
    ];
    let silent = "its sidecar fell silent".to_owned();
    let expected = [
        (100, 150, silent.clone()),
        (150, 200, "uncovered: sidecar_stopped".into()),
        (200, 300, "uncovered: sidecar_not_ready".into()),
        (300, 400, silent),
    ];
    assert_eq!(gaps(session, &seen), expected);
}

#[test]
fn an_operator_that_came_late_says_nothing_of_the_time_before() {
    let late = [told(90, CoverageState::Covered, None)];
    assert_eq!(
        gaps(vec![span(120, 599, SessionState::Open)], &late),
        [(10, 90, GapReason::NotBegun.describe().to_owned())]
    );
}

#[test]
fn an_outage_of_the_recorder_makes_nothing_later() {
    let mut delayed = told(50, CoverageState::Uncovered, Some("no_sidecar"));
    delayed.received = at(200);
    assert_eq!(
        gaps(vec![], &[told(11, CoverageState::Covered, None), delayed]),
        [(50, 600, "uncovered: no_sidecar".to_owned())]
    );
}
