use ledger::bundle::manifest::{Contents, FORMAT, Range};
use ledger::coverage::{Gap, GapReason, Period, Pod, Recorded};
use ledger::statement::Hole;

use super::*;
use crate::commands::sessions::tests::session;

fn manifest() -> Manifest {
    let at = |text: &str| text.parse().unwrap();
    let period = Period { from: at("2026-11-22T10:00:00Z"), to: at("2026-11-22T12:00:00Z") };
    let middle = at("2026-11-22T11:00:00Z");
    let pod = Pod {
        subject: session().subject,
        connection: None,
        recorded: vec![Recorded { period: Period { to: middle, ..period }, session: session().session }],
        gaps: vec![Gap { period: Period { from: middle, ..period }, reason: GapReason::Lost, why: None }],
        missing_statements: 3,
        refused_unrecorded: 0,
    };
    let contents = Contents {
        listing: Digest([0; 32]),
        entries: 2,
        first: None,
        last: None,
        sessions: 1,
        calls: 1,
        open_calls: 0,
        blobs: 1,
        blobs_absent: 0,
        blobs_deleted: 0,
        deletions: Vec::new(),
        gaps: vec![Hole { session: session().session, from: 2, to: 4 }],
        coverage: vec![pod],
    };
    Manifest {
        format: FORMAT.into(),
        log: "example.com/<log>".into(),
        salt: None,
        created: period.to,
        program: "test".into(),
        scope: Scope::Everything(Range { from: 0, to: 9, since: None, until: None }),
        period,
        size: 9,
        contents,
        files: std::collections::BTreeMap::new(),
    }
}

fn call(sql: &str) -> Call {
    Call {
        outcome_index: Some(5),
        statement_kind: Some("SELECT".into()),
        sql: Some(sql.into()),
        rows: Some(2),
        duration_micros: Some(1_500),
        ..crate::samples::call(4)
    }
}

#[test]
fn hostile_text_is_shown_and_never_run() {
    let hostile =
        "</pre><script>alert(1)</script><img src=x onerror='alert(2)'>\" \u{202e}&amp; --\n<style>*{}";
    let mut hostile_call = call(hostile);
    hostile_call.subject.pod = "<b onclick=\"x\">".into();
    let page = page(&manifest(), &Authority::default(), &[&hostile_call]);
    for tag in ["<script", "<img", "<b onclick", "\u{202e}", "</pre><"] {
        assert!(!page.contains(tag), "{tag}");
    }
    assert_eq!(page.matches("<style>").count(), 1);
    assert!(
        page.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && page.contains("&amp;amp;"),
        "it is shown"
    );
    assert!(page.contains("default-src 'none'; style-src 'sha256-"));
    for remote in ["http://", "https://", "src=", "href=", "url(", " style="] {
        let shown = remote == "src="; // the hostile text's own, escaped
        assert!(shown || !page.contains(remote), "{remote}");
    }
}

#[test]
fn it_says_what_is_here_and_what_is_not() {
    let page = page(&manifest(), &Authority::default(), &[&call("SELECT 1")]);
    for part in [
        "example.com/&lt;log&gt;",
        "everything (no filter)",
        "under recording",
        "its sidecar fell silent",
        "3 statements of its sessions never came",
        "Named by the log as missing",
        "<pre>SELECT 1</pre>",
        "entry 4 and 5",
        "What this does not prove",
    ] {
        assert!(page.contains(part), "{part}");
    }
    // Half of the picture is a gap.
    assert!(page.contains("class=\"gap\" x=\"560\""), "{page}");
}

#[test]
fn a_page_has_its_limit_and_says_so() {
    let mut manifest = manifest();
    manifest.contents.calls = 5_000;
    assert!(
        page(&manifest, &Authority::default(), &[&call("SELECT 1")])
            .contains("4999 calls more are in the bundle")
    );
}
