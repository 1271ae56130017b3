//! A batch's whole way: in over TLS, receipt, log, search, restart.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::time::{Duration, Instant};

use common::{Site, join};
use ledger::call::{Access, CallResult};
use ledger::entry::{Entry, Role, Subject};
use ledger::statement::{Statement, kind};
use ledger::tree::leaf_hash;

fn kinds(entries: &[Vec<u8>]) -> Vec<String> {
    let kind = |leaf: &Vec<u8>| Statement::parse(Entry::parse(leaf).unwrap().statement).unwrap().kind;
    entries.iter().map(kind).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_found_and_proved() {
    let site = Site::new();
    let recorder = site.start().await;
    let client = &recorder.client;
    let mut billing = site.speaker("agents", "billing");
    let token = billing.token.clone();
    client.record(&token, &billing.start(60)).await;
    let sql = "SELECT account_id, status FROM billing.invoices WHERE status = \"overdue\"";
    let call = billing.seq;
    let intent = billing.intent(sql, "SELECT", "billing.invoices", Access::Read);
    let (places, _) = client.record(&token, &intent).await;
    client.record(&token, &billing.outcome(call, 17)).await;
    let mut imports = site.speaker("agents", "imports");
    let batch = join([
        imports.start(60),
        imports.intent(
            "DELETE FROM staging.imports WHERE batch_id = 42",
            "DELETE",
            "staging.imports",
            Access::Write,
        ),
    ]);
    let (last, _) = client.record(&imports.token.clone(), &batch).await;

    // The log has what the receipts say, under the subject that the token proves.
    let log = client.log_of(last[1].index + 1).await;
    let leaf = &log[usize::try_from(places[0].index).unwrap()];
    assert_eq!(leaf_hash(leaf), places[0].leaf_hash);
    let entry = Entry::parse(leaf).unwrap();
    assert_eq!((entry.statement, entry.envelope.role), (&intent.statements[0][..], Role::Sidecar));
    let Subject::Workload(workload) = entry.envelope.subject else { panic!("a workload") };
    assert_eq!(
        (workload.namespace.as_str(), workload.service_account.as_str(), workload.pod_uid.as_str()),
        ("agents", "billing", "uid-of-billing-0")
    );
    assert_eq!(kinds(&log)[..4], ["log.start", kind::SESSION_START, kind::CALL_INTENT, kind::CALL_OUTCOME]);
    assert_eq!(client.get(&format!("/v1/entries/{}", places[0].index)).await.body()[..], leaf[..]);

    // The search joins intent and outcome.
    let wait = last[1].index + 1;
    let all = client.search(&format!("wait={wait}")).await;
    assert!(all.size >= wait);
    let found: Vec<_> = all.calls.iter().map(|call| call.subject.service_account.as_str()).collect();
    assert_eq!(found, ["imports", "billing"], "newest first");
    for query in [
        "agent=agents/billing",
        "table=billing",
        "table=acme.billing.invoices",
        "words=OVERDUE%20account_id",
        "kind=SELECT",
        "result=answered",
    ] {
        let answer = client.search(query).await;
        assert_eq!(answer.calls.len(), 1, "{query}");
        let call = &answer.calls[0];
        assert_eq!(
            (call.index, call.sql.as_deref(), call.total_rows),
            (places[0].index, Some(sql), Some(17)),
            "{query}"
        );
        assert_eq!((call.result, call.forwarded), (Some(CallResult::Answered), Some(true)), "{query}");
    }
    for query in [
        "agent=agents/nobody",
        "table=invoices",
        "words=overdu",
        "refused=true",
        "until=2020-01-01T00:00:00Z",
    ] {
        assert_eq!(client.search(query).await.calls.len(), 0, "{query}");
    }
    assert_eq!(client.search("result=open").await.calls[0].statement_kind.as_deref(), Some("DELETE"));

    // The SQL is a blob whose name is its SHA-256.
    let digest = intent.blobs[0].digest();
    assert_eq!(
        client.get(&format!("/v1/blobs/{}", digest.hex())).await.body()[..],
        *intent.blobs[0].as_bytes()
    );
    recorder.stop().await;
}

/// Nobody has to come after it: what was acknowledged is covered by a checkpoint a second later.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_follows_within_a_second() {
    let site = Site::new();
    let recorder = site.start().await;
    let mut speaker = site.speaker("agents", "billing");
    let token = speaker.token.clone();
    let client = &recorder.client;
    let (mut place, _) = client.record(&token, &speaker.start(60)).await;
    let mut quickest = Duration::MAX;
    // A machine that is busy with other things may be late, but not every time.
    for _ in 0..10 {
        client.log_size_of(place[0].index + 1).await; // a publication has just begun: the next one is an interval away
        place = client.record(&token, &speaker.heartbeat()).await.0;
        let acknowledged = Instant::now();
        client.log_size_of(place[0].index + 1).await;
        quickest = quickest.min(acknowledged.elapsed());
    }
    assert!(quickest < Duration::from_secs(1), "{quickest:?}");
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_continues_log_and_sessions() {
    let site = Site::new();
    let mut speaker = site.speaker("agents", "billing");
    let token = speaker.token.clone();
    let recorder = site.start().await;
    let start = speaker.start(60);
    let (first, _) = recorder.client.record(&token, &start).await;
    let call = speaker.seq;
    let intent = speaker.intent("SELECT 1", "SELECT", "a.b", Access::Read);
    let (second, _) = recorder.client.record(&token, &intent).await;
    recorder.stop().await;

    let recorder = site.start().await;
    let client = &recorder.client;
    let (again, _) = client.record(&token, &join([start, intent])).await;
    assert_eq!(again, [first[0], second[0]], "a repeated delivery gets its first receipts");
    let (third, _) = client.record(&token, &speaker.outcome(call, 1)).await;
    let log = client.log_of(third[0].index + 1).await;
    assert_eq!(
        kinds(&log),
        ["log.start", "session.start", "call.intent", "log.stop", "log.start", "call.outcome"]
    );
    let received: Vec<_> = log.iter().map(|leaf| Entry::parse(leaf).unwrap().envelope.received).collect();
    assert!(received.is_sorted(), "{received:?}");
    let found = client.search(&format!("wait={}", third[0].index + 1)).await;
    assert_eq!(found.calls[0].outcome_index, Some(third[0].index), "the index goes on where it was");
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_public_half_is_public_and_the_rest_is_not() {
    let site = Site::new();
    let recorder = site.start().await;
    let client = &recorder.client;
    client.log_of(1).await;
    let status = async |path: &str, token: Option<&str>| client.get_as(path, token).await.status().as_u16();
    let nobody = site.issuer.token("agents", "billing");
    assert_eq!(status("/log/checkpoint", None).await, 200);
    assert_eq!(status("/log/tile/0/000.p/1", None).await, 200);
    for private in ["/log/tile/entries/000.p/1", "/v1/entries/0", "/v1/search", "/v1/blobs/00"] {
        assert_eq!(status(private, None).await, 401, "{private}");
        assert_eq!(status(private, Some(&nobody)).await, 403, "{private}");
    }
    assert_eq!(client.get("/log/tile/entries/000.p/1").await.status(), 200);
    for nothing in [
        "/log/tile/0/000",
        "/log/tile/0/000.p/2",
        "/log/tile/0/../../log.key",
        "/log/tile/0/%2e%2e/%2e%2e/log.key",
        "/log/tile/1/000.p/1",
        "/log/../log.key",
        "/v1/entries/1000",
        "/v1/entries/-1",
        "/v1/blobs/zz",
        "/nothing",
    ] {
        assert_eq!(client.get(nothing).await.status(), 404, "{nothing}");
    }
    assert_eq!(client.get("/v1/batches").await.status(), 405);
    assert_eq!(client.get("/v1/search?agentt=x").await.status(), 400);
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_directory_has_one_recorder() {
    let site = Site::new();
    let recorder = site.start().await;
    let error = site.try_start().await.err().expect("the directory is taken");
    assert_eq!(error.category(), "locked", "{error}");
    recorder.stop().await;
    site.start().await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_gone_or_damaged_is_built_again() {
    let site = Site::new();
    let mut speaker = site.speaker("agents", "billing");
    let recorder = site.start().await;
    recorder.client.record(&speaker.token.clone(), &speaker.start(60)).await;
    let intent = speaker.intent("SELECT 1", "SELECT", "a.b", Access::Read);
    let (places, _) = recorder.client.record(&speaker.token.clone(), &intent).await;
    recorder.stop().await;
    let index = site.data().join("index.sqlite");
    for damage in [None, Some(&b"not a database"[..])] {
        std::fs::remove_file(&index).unwrap();
        if let Some(bytes) = damage {
            std::fs::write(&index, bytes).unwrap();
        }
        let recorder = site.start().await;
        let answer = recorder.client.search(&format!("words=select&wait={}", places[0].index + 1)).await;
        assert_eq!(answer.calls.len(), 1);
        recorder.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_go_back_and_a_tail_goes_forth() {
    let site = Site::new();
    let recorder = site.start().await;
    let client = &recorder.client;
    let mut speaker = site.speaker("agents", "billing");
    let token = speaker.token.clone();
    client.record(&token, &speaker.start(60)).await;
    let mut indexes = Vec::new();
    for number in 0..5 {
        let table = if number % 2 == 0 { "even.t" } else { "odd.t" };
        let intent = speaker.intent(&format!("SELECT {number} /* shared */"), "SELECT", table, Access::Read);
        indexes.push(client.record(&token, &intent).await.0[0].index);
    }
    let size = indexes[4] + 1;
    client.search(&format!("wait={size}")).await;
    let found =
        |answer: &ledger::search::Answer| answer.calls.iter().map(|call| call.index).collect::<Vec<_>>();
    // The same pages, whatever leads the search.
    for lead in ["", "&words=shared", "&agent=agents/", "&method=jobs.query"] {
        let (mut pages, mut query) = (Vec::new(), format!("limit=2{lead}"));
        loop {
            let answer = client.search(&query).await;
            pages.push(found(&answer));
            let Some(next) = answer.next else { break };
            query = format!("limit=2&before={next}{lead}");
        }
        let newest_first = [vec![indexes[4], indexes[3]], vec![indexes[2], indexes[1]], vec![indexes[0]]];
        assert_eq!(pages, newest_first, "{lead}");
    }
    assert_eq!(found(&client.search("table=even").await), [indexes[4], indexes[2], indexes[0]]);
    assert_eq!(found(&client.search("table=odd.t&words=1").await), [indexes[1]]);
    let forth = client.search(&format!("from={}&limit=2", indexes[1])).await;
    assert_eq!((found(&forth), forth.next), (vec![indexes[1], indexes[2]], Some(indexes[2] + 1)));
    let rest = client.search(&format!("from={}", forth.next.unwrap())).await;
    assert_eq!((found(&rest), rest.next), (vec![indexes[3], indexes[4]], None));
    // Times of receipt are bounds too.
    let third = client.search(&format!("from={}&limit=1", indexes[2])).await.calls[0].received;
    assert_eq!(found(&client.search(&format!("since={third}")).await), [indexes[4], indexes[3], indexes[2]]);
    assert_eq!(found(&client.search(&format!("until={third}")).await), [indexes[1], indexes[0]]);
    for bad in [
        "before=1&from=1",
        "agent=billing",
        "words=%3D%3D",
        "words=a%00b",
        "words=%00",
        "result=maybe",
        "since=yesterday",
        "limit=x",
    ] {
        let answer = client.get(&format!("/v1/search?{bad}")).await;
        assert_eq!(common::refusal(&answer), (400, "bad_query".into()), "{bad}");
    }
    // Whatever else is in a word, it is looked for.
    let many = vec!["a"; 2000].join("+");
    for odd in [
        "words=a%22b",
        "words=a%22",
        "words=a%01b",
        "words=a*+NEAR(b",
        "words=a%5Cb",
        "words=a%EF%BF%BDb",
        "agent=a%00/b",
        "table=a%00b",
        "pod=%00",
        &format!("words={many}"),
    ] {
        let answer = client.get(&format!("/v1/search?{odd}")).await;
        assert_eq!(answer.status(), 200, "{odd}: {:?}", answer.body());
    }
    recorder.stop().await;
}

/// A call that names more tables than its entry holds can't hide one of them among the rest.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_with_unlisted_tables_is_found_under_every_name() {
    let site = Site::new();
    let recorder = site.start().await;
    let client = &recorder.client;
    let mut speaker = site.speaker("agents", "billing");
    let token = speaker.token.clone();
    client.record(&token, &speaker.start(60)).await;
    let many = ledger::call::Intent {
        method: "jobs.query".into(),
        tables_truncated: true,
        ..ledger::call::Intent::default()
    };
    let many = ledger::statement::Body { intent: Some(many), ..ledger::statement::Body::default() };
    let many = speaker.say("call.intent", many, std::collections::BTreeMap::new());
    let many = client.record(&token, &common::only(many)).await.0[0].index;
    let plain = speaker.intent("SELECT 1", "SELECT", "crm.customers", Access::Read);
    let plain = client.record(&token, &plain).await.0[0].index;
    client.search(&format!("wait={}", plain + 1)).await;
    let found = client.search("table=crm.customers").await;
    let found: Vec<_> = found.calls.iter().map(|call| (call.index, call.tables_truncated)).collect();
    assert_eq!(found, [(plain, false), (many, true)]);
    let first = client.search("table=crm&limit=1").await;
    assert_eq!((first.calls[0].index, first.next), (plain, Some(plain)));
    let second = client.search(&format!("table=crm&limit=1&before={plain}")).await;
    assert_eq!((second.calls[0].index, second.next), (many, None));
    assert_eq!(client.search("table=other.t").await.calls.len(), 1);
    recorder.stop().await;
}

/// What a script does is found by what each of its statements does; one of more statements than its entry lists may do anything, and so
/// may one with a statement that nobody knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_script_is_found_by_the_kind_of_each_of_its_statements() {
    let site = Site::new();
    let recorder = site.start().await;
    let client = &recorder.client;
    let mut speaker = site.speaker("agents", "billing");
    let token = speaker.token.clone();
    client.record(&token, &speaker.start(60)).await;
    let mut places = Vec::new();
    for (kinds, more) in [
        (&["DELETE", "SELECT", "DELETE"][..], false),
        (&["SELECT"], true),
        (&["MERGE"], false),
        (&[""], false),
    ] {
        let use_of = |kind: &&str| ledger::call::StatementUse {
            kind: Some(String::from(*kind)).filter(|kind| !kind.is_empty()),
            ..Default::default()
        };
        let script = ledger::call::Intent {
            method: "jobs.query".into(),
            statement_kind: Some("SCRIPT".into()),
            statements: kinds.iter().map(use_of).collect(),
            statements_truncated: more,
            ..ledger::call::Intent::default()
        };
        let body = ledger::statement::Body { intent: Some(script), ..ledger::statement::Body::default() };
        let said = speaker.say("call.intent", body, std::collections::BTreeMap::new());
        places.push(client.record(&token, &common::only(said)).await.0[0].index);
    }
    let plain =
        speaker.intent("DELETE FROM crm.customers WHERE TRUE", "DELETE", "crm.customers", Access::Write);
    places.push(client.record(&token, &plain).await.0[0].index);
    client.search(&format!("wait={}", places[4] + 1)).await;

    let found = async |query: &str| -> Vec<u64> {
        client.search(query).await.calls.iter().map(|call| call.index).collect()
    };
    let [twice, unlisted, merge, unknown, plain] = places[..] else { panic!("{places:?}") };
    assert_eq!(found("kind=DELETE").await, [plain, unknown, unlisted, twice], "newest first, each once");
    assert_eq!(found("kind=MERGE").await, [unknown, merge, unlisted]);
    assert_eq!(found("kind=SCRIPT").await, [unknown, merge, unlisted, twice]);
    assert_eq!(found("kind=DELETE&table=crm").await, [plain]);
    assert_eq!(found("kind=DELETE&words=customers").await, [plain]);
    assert_eq!(found("kind=DELETE&pod=billing-0").await, [plain, unknown, unlisted, twice]);
    assert_eq!(found("kind=SELECT&table=crm").await, Vec::<u64>::new());
    let first = client.search("kind=DELETE&limit=2").await;
    assert_eq!(first.next, Some(unknown));
    assert_eq!(found(&format!("kind=DELETE&limit=2&before={unknown}")).await, [unlisted, twice]);
    assert_eq!(found(&format!("kind=DELETE&limit=2&from={unlisted}")).await, [unlisted, unknown]);
    recorder.stop().await;
}

/// Partial tiles make way for the full one, also when the recorder stopped right after it was filled.
#[tokio::test(flavor = "multi_thread")]
async fn partial_tiles_that_were_outgrown_are_removed_at_the_next_start() {
    let site = Site::new();
    let recorder = site.start().await;
    let mut speaker = site.speaker("agents", "billing");
    let token = speaker.token.clone();
    recorder.client.record(&token, &speaker.start(60)).await;
    recorder.stop().await;
    let partials = site.data().join("log/tile/entries/000.p");
    assert!(partials.exists());
    let recorder = site.start().await;
    let many = join((0..300).map(|_| speaker.heartbeat()));
    recorder.client.record(&token, &many).await;
    recorder.stop().await;
    site.start().await.stop().await;
    assert!(site.data().join("log/tile/entries/000").exists());
    assert!(!partials.exists());
    assert!(!site.data().join("log/tile/0/000.p").exists());
    assert!(site.data().join("log/tile/entries/001.p").exists());
}
