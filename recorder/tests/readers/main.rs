//! Who reads what: two namespaces, readers of one of them, of all, and of none; with a stand-in for the API server that says who
//! they are and what they may. And every read is an entry.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

#[path = "../common/mod.rs"]
mod common;
mod operators;
mod stand;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bqwitness_recorder::store::files::LocalFiles;
use common::{AUDIENCE, Client, ISSUER, Issuer, Site, Speaker, join, refusal, verify};
use ledger::call::Access;
use ledger::entry::Entry;
use ledger::search::sessions::SessionAnswer;
use ledger::search::{Answer, access};
use ledger::statement::Statement;
use serde_json::{Value, json};
use stand::{ALL, ApiServer, Asks, start};

/// A session with a call, a hole after it, and what it says.
async fn session(client: &Client, token: String, sql: &str) -> (Speaker, Vec<u64>) {
    let mut speaker = Speaker::new(token);
    let first = join([speaker.start(300), speaker.intent(sql, "SELECT", "shared.invoices", Access::Read)]);
    let (mut places, _) = client.record(&speaker.token.clone(), &first).await;
    let _never = speaker.heartbeat();
    places.extend(client.record(&speaker.token.clone(), &speaker.heartbeat()).await.0);
    (speaker, places.into_iter().map(|place| place.index).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespaces_reader_finds_its_own_and_nothing_else() {
    let site = Site::new();
    let server = Arc::new(ApiServer::default());
    let recorder = start(&site, &server).await;
    let client = &recorder.client;
    let (agents, mine) = session(client, site.issuer.token("agents", "billing"), "SELECT 'apple'").await;
    let (sales, theirs) = session(client, site.issuer.token("sales", "billing"), "SELECT 'pear'").await;
    let eu = std::fs::read_to_string(site.path("eu.token")).unwrap();
    let (_, abroad) = session(client, eu, "SELECT 'plum'").await;
    let size = client.log_of(abroad[2] + 1).await.len();
    client.search(&format!("wait={size}")).await;

    let account = |name: &str| format!("system:serviceaccount:audit:{name}");
    server.grant(&account("agents-auditor"), ALL, "agents");
    server.grant("sales-auditors", ALL, "sales");
    server.grant(&account("both"), ALL, "agents");
    server.grant(&account("both"), &ALL[..3], "sales");
    server.grant(&account("everybodys"), ALL, "");
    let asks = |token: String| Asks { client, token };
    let [one, both, all, nobody] =
        ["agents-auditor", "both", "everybodys", "nobody"].map(|name| asks(site.issuer.token("audit", name)));
    let user = asks("users-own".into());

    // Searches, sessions, and what follows the log.
    for (reader, found) in [
        (&one, vec!["SELECT 'apple'"]),
        (&user, vec!["SELECT 'pear'"]),
        (&both, vec!["SELECT 'pear'", "SELECT 'apple'"]),
        (&all, vec!["SELECT 'plum'", "SELECT 'pear'", "SELECT 'apple'"]),
    ] {
        assert_eq!(reader.search("").await, found);
        let oldest_first: Vec<_> = found.iter().rev().copied().collect();
        assert_eq!(reader.search("from=0&wait=1").await, oldest_first);
        assert_eq!(reader.search("table=shared.invoices").await, found);
        assert_eq!(reader.search("words=select").await, found);
        let sessions: SessionAnswer = reader.json("/v1/sessions").await;
        assert_eq!(sessions.sessions.len(), found.len());
        // A page is as long as it can be: what is not the reader's leaves no gap, and no sign.
        let page: Answer = reader.json("/v1/search?limit=1").await;
        assert_eq!((page.calls.len(), page.next.is_some()), (1, found.len() > 1));
    }
    for nothing in [
        "words=pear",
        "pod=billing-0&words=plum",
        &format!("session={}", sales.session),
        "agent=sales/",
        "agent=sales/billing",
    ] {
        assert_eq!(one.search(nothing).await, Vec::<String>::new(), "{nothing}");
    }
    let asked: SessionAnswer = one.json(&format!("/v1/sessions?session={}", sales.session)).await;
    assert_eq!(asked.sessions, []);
    assert_eq!(both.search("namespace=sales").await, ["SELECT 'pear'"]);
    assert_eq!(all.search("namespace=sales").await, ["SELECT 'pear'"]);

    // Entries: its own, and what the recorder says of its session, the hole.
    let (hole_of_mine, hole_of_theirs) = (mine[2] - 1, theirs[2] - 1);
    let own: HashSet<u64> = mine.iter().copied().chain([hole_of_mine]).collect();
    let said: HashSet<u64> = one.places().await.into_iter().collect();
    assert!(own.is_subset(&said), "{own:?} {said:?}");
    for index in own {
        assert_eq!(one.get(&format!("/v1/entries/{index}")).await.status(), 200, "{index}");
    }
    for index in theirs.iter().chain(&abroad).chain(&[hole_of_theirs, 0, 1_000_000]) {
        assert_eq!(one.refused(&format!("/v1/entries/{index}")).await, (404, "not_found".into()), "{index}");
        assert!(!said.contains(index), "{index}");
    }
    // What is more than its own are its own reads.
    for index in &said {
        let leaf = all.get(&format!("/v1/entries/{index}")).await.into_body();
        let text = String::from_utf8_lossy(&leaf);
        let own = text.contains(r#""namespace":"agents""#) || text.contains(&agents.session.to_string());
        assert!(own || text.contains(r#""reader":"audit/agents-auditor""#), "{text}");
        assert!(!text.contains("\"eu\"") && !text.contains("sales"), "{text}");
    }

    // Blobs, beside an entry that names them.
    let named = |index: u64| {
        let all = &all;
        async move {
            let leaf = all.get(&format!("/v1/entries/{index}")).await.into_body();
            let statement = Statement::parse(Entry::parse(&leaf).unwrap().statement).unwrap();
            statement.blobs["sql"].digest.hex()
        }
    };
    let (my_sql, their_sql) = (named(mine[1]).await, named(theirs[1]).await);
    let blob = one.get(&format!("/v1/entries/{}/blobs/{my_sql}", mine[1])).await;
    assert!(blob.body().ends_with(b"SELECT 'apple'"));
    for foreign in [
        format!("/v1/entries/{}/blobs/{their_sql}", theirs[1]),
        format!("/v1/entries/{}/blobs/{their_sql}", mine[1]),
        format!("/v1/entries/{}/blobs/{my_sql}", mine[0]),
    ] {
        assert_eq!(one.refused(&foreign).await, (404, "not_found".into()), "{foreign}");
    }
    for path in [format!("/v1/blobs/{my_sql}"), "/log/tile/entries/000.p/1".into()] {
        assert_eq!(one.refused(&path).await, (403, "not_a_reader".into()), "{path}");
        assert_ne!(all.refused(&path).await.0, 403, "{path}");
    }

    // Who may nothing, or asks for what it may not, is told what to ask for.
    for (reader, path) in [
        (&nobody, "/v1/search"),
        (&nobody, "/v1/search?from=0&wait=1"),
        (&nobody, "/v1/sessions"),
        (&nobody, "/v1/entries/1"),
        (&nobody, "/v1/entries?tile=0"),
        (&nobody, "/v1/search?namespace=agents"),
        (&one, "/v1/search?namespace=sales"),
        (&one, "/v1/sessions?namespace=sales"),
    ] {
        assert_eq!(reader.refused(path).await, (403, "not_a_reader".into()), "{path}");
    }
    let refused = one.get("/v1/search?namespace=sales").await;
    let text = String::from_utf8_lossy(refused.body()).into_owned();
    let command = "kubectl create rolebinding bqwitness-reader -n sales --clusterrole=bqwitness-reader --serviceaccount=audit:agents-auditor";
    assert!(text.contains(command), "{text}");
    assert_eq!(one.refused("/v1/search?namespace=$(reboot)").await, (400, "bad_query".into()));
    assert_eq!(asks("mallorys".into()).refused("/v1/search").await, (401, "bad_token".into()));
    let writes = client.post("users-own", Speaker::new(String::new()).start(10).encode()).await;
    assert_eq!(refusal(&writes), (401, "bad_token".into()), "a user's token is for reading");

    exports(&one, &both, &nobody).await;
    let access: access::Access = one.json("/v1/access").await;
    assert_eq!((access.reader.as_str(), access.everything), ("audit/agents-auditor", false));
    assert_eq!(access.clusters[0].namespaces.as_deref(), Some(&["agents".to_owned()][..]));
    let access: access::Access = user.json("/v1/access").await;
    assert_eq!(access.reader, "user:auditor@example.com");
    assert!(all.json::<access::Access>("/v1/access").await.everything);
    let access: access::Access = nobody.json("/v1/access").await;
    assert_eq!(access.clusters[0].namespaces.as_deref(), Some(&[][..]));

    remembered(&server, &one, &asks(site.issuer.token("audit", "late"))).await;
    recorder.stop().await;
}

/// To export is a right of its own, and must be there for all that is read for it.
async fn exports(one: &Asks<'_>, both: &Asks<'_>, nobody: &Asks<'_>) {
    let answer = one.export(None).await;
    assert_eq!(answer.status(), 200, "{:?}", answer.body());
    let index = serde_json::from_slice::<Value>(answer.body()).unwrap()["index"].as_u64().unwrap();
    let path = format!("/v1/entries/{index}");
    assert_eq!(one.get(&path).await.status(), 200, "the reader has the entry of its own export");
    assert_eq!(both.refused(&path).await, (404, "not_found".into()), "and nobody else has");
    let refused = both.export(None).await;
    assert_eq!(refusal(&refused), (403, "not_a_reader".into()));
    let text = String::from_utf8_lossy(refused.body()).into_owned();
    assert!(text.contains("what is in sales:") && text.contains("-n sales"), "{text}");
    assert_eq!(both.export(Some("agents")).await.status(), 200);
    assert_eq!(refusal(&both.export(Some("sales")).await).0, 403);
    assert_eq!(refusal(&nobody.export(None).await).0, 403);
}

/// A good answer is remembered; while there is none, nobody new is believed.
async fn remembered(server: &ApiServer, known: &Asks<'_>, new: &Asks<'_>) {
    known.search("namespace=agents").await;
    let asked = server.asked.load(Ordering::SeqCst);
    for _ in 0..10 {
        known.search("namespace=agents").await;
    }
    let more = server.asked.load(Ordering::SeqCst) - asked;
    assert!(more <= 2, "{more} questions for ten searches");
    server.away.store(true, Ordering::SeqCst);
    assert_eq!(new.refused("/v1/search").await, (503, "access_unavailable".into()));
}

/// People whom no cluster knows: an issuer says who they are, and the settings what they may read.
#[tokio::test(flavor = "multi_thread")]
async fn an_issuers_users_read_what_they_are_granted() {
    let site = Site::new();
    let login = Issuer::with_key_id("login");
    std::fs::write(site.path("login.json"), login.jwks()).unwrap();
    let file = json!({
        "issuers": [
            {"name": "acme", "issuer": "https://login.acme.example", "audience": "bqwitness",
             "jwks": site.path("login.json"), "userClaim": "email"},
            {"name": "away", "issuer": "https://away.example", "audience": "bqwitness", "jwks": "https://127.0.0.1:9/keys"},
        ],
        "grants": [
            {"of": "acme", "groups": ["agents-auditors"], "cluster": "test", "namespaces": ["agents"]},
            {"of": "acme", "users": ["root@acme.example"], "everything": true, "exports": true},
        ],
    });
    std::fs::write(site.path("readers.json"), file.to_string()).unwrap();
    let mut config = site.config();
    // An issuer whose keys can't be had keeps nobody from being recorded.
    (config.issuers, config.grants) =
        bqwitness_recorder::readers_file::read(&site.path("readers.json")).unwrap();
    let recorder = site.run(config).await;
    let client = &recorder.client;
    session(client, site.issuer.token("agents", "billing"), "SELECT 'apple'").await;
    let (_, last) = session(client, site.issuer.token("sales", "billing"), "SELECT 'pear'").await;
    client.search(&format!("wait={}", last[2] + 1)).await;

    let now = jiff::Timestamp::now().as_second();
    let token = |more: Value| {
        let mut claims = json!({
            "iss": "https://login.acme.example", "aud": "bqwitness", "exp": now + 600, "sub": "7",
            "email": "user@acme.example", "groups": ["agents-auditors"],
        });
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        login.sign(&claims)
    };
    let asks = |more: Value| Asks { client, token: token(more) };
    let user = asks(json!({}));
    assert_eq!(user.search("").await, ["SELECT 'apple'"]);
    assert_eq!(user.refused("/v1/search?namespace=sales").await, (403, "not_a_reader".into()));
    assert_eq!(refusal(&user.export(None).await), (403, "not_a_reader".into()));
    let access: access::Access = user.json("/v1/access").await;
    assert_eq!((access.reader.as_str(), access.cluster.as_str()), ("user:user@acme.example", "acme"));
    let root = asks(json!({"email": "root@acme.example"}));
    assert_eq!(root.search("").await, ["SELECT 'pear'", "SELECT 'apple'"]);
    assert_eq!(root.export(None).await.status(), 200);
    for (bad, refused) in [
        (json!({"groups": []}), (403, "not_a_reader".to_owned())),
        (json!({"aud": AUDIENCE}), (401, "wrong_audience".into())),
        (json!({"exp": now - 600}), (401, "token_expired".into())),
        (json!({"email": "system:serviceaccount:audit:auditor"}), (401, "bad_token".into())),
        (json!({"email": "root@acme.example", "email_verified": false}), (401, "bad_token".into())),
        (json!({"iss": ISSUER, "aud": AUDIENCE}), (401, "bad_token".into())),
        (json!({"iss": "https://away.example"}), (401, "bad_token".into())),
    ] {
        assert_eq!(asks(bad.clone()).refused("/v1/search").await, refused, "{bad}");
    }
    let writes = client.post(&token(json!({})), Speaker::new(String::new()).start(10).encode()).await;
    assert_eq!(refusal(&writes), (403, "no_pod".into()), "who reads does not write");
    recorder.stop().await;
}

/// The reads of a log, as their entries say them: kind, reader, filter, found, requests, and whether it is the last word.
fn reads(log: &[Vec<u8>]) -> Vec<(String, String, String, u64, u64, Option<u64>)> {
    let statements = log.iter().map(|leaf| Statement::parse(Entry::parse(leaf).unwrap().statement).unwrap());
    let reads = statements.filter_map(|statement| {
        let body = statement.body;
        let read = [body.search, body.follow, body.sessions, body.entries].into_iter().flatten().next()?;
        assert_eq!(read.cluster, "test");
        Some((statement.kind, read.reader, read.filter, read.found, read.requests, read.began))
    });
    reads.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_read_is_an_entry() {
    let site = Site::new();
    let recorder = site.start().await;
    let client = &recorder.client;
    let (_, places) = session(client, site.issuer.token("agents", "billing"), "SELECT 'apple'").await;
    let (_, last) = session(client, site.issuer.token("agents", "etl"), "SELECT 'pear'").await;
    // Nothing that makes the log grow may be asked before all of it can be searched.
    let until = last[2] + 1;
    client.search(&format!("wait={until}&words=apple")).await;
    let page = client.search("kind=SELECT&limit=1").await;
    client.search(&format!("kind=SELECT&limit=1&before={}", page.next.unwrap())).await;
    for from in [0, places[1] + 1, 100] {
        client.search(&format!("agent=agents/&from={from}&wait=1")).await;
    }
    client.get("/v1/sessions?open=true").await;
    for path in ["/v1/entries/1", "/v1/entries/2", "/v1/entries/4", "/v1/entries/2"] {
        assert_eq!(client.get(path).await.status(), 200);
    }
    assert_eq!(client.get("/v1/entries/1000000").await.status(), 404);
    assert_eq!(client.get("/v1/access").await.status(), 200);
    recorder.stop().await;

    let recorder = site.start().await;
    let log = recorder.client.log_of(1).await;
    let said = reads(&log);
    let auditor = "audit/auditor".to_owned();
    let read = |kind: &str, filter: &str, found, requests, last: bool| {
        let found = said.iter().filter(|read| {
            read.0 == kind
                && read.2 == filter
                && (read.3, read.4) == (found, requests)
                && read.5.is_some() == last
        });
        assert_eq!(found.count(), 1, "{kind} {filter} {said:#?}");
    };
    assert!(said.iter().all(|read| read.1 == auditor), "{said:?}");
    read("read.search", "words=*", 1, 1, false); // what was looked for may be somebody's name
    read("read.search", "kind=SELECT", 1, 1, false);
    read("read.search", "kind=SELECT", 2, 2, true);
    read("read.follow", "agent=agents%2F", 2, 1, false);
    read("read.follow", "agent=agents%2F", 3, 3, true);
    read("read.sessions", "open=true", 2, 1, false);
    read("read.entries", "entries=1", 1, 1, false);
    read("read.entries", "entries=1-2,4", 4, 4, true);
    assert_eq!(said.len(), 8, "{said:#?}");
    // The last word names its first.
    for (.., began) in said.iter().filter(|read| read.5.is_some()) {
        let first = &reads(&[log[usize::try_from(began.unwrap()).unwrap()].clone()])[0];
        assert!(said.iter().any(|other| other.5 == *began && (&other.0, &other.1) == (&first.0, &first.1)));
    }
    recorder.stop().await;
}

/// Nobody fills the log by reading, and a read that can't be an entry has no answer.
#[tokio::test(flavor = "multi_thread")]
async fn reads_have_a_rate() {
    use bqwitness_recorder::reads::BEGUN_A_MINUTE;
    let site = Site::new();
    let recorder = site.start().await;
    let client = Arc::new(recorder.client.clone());
    let mut asking = tokio::task::JoinSet::new();
    for part in 0..8 {
        let client = client.clone();
        asking.spawn(async move {
            let mut refused = 0;
            for number in 0..BEGUN_A_MINUTE / 8 + 2 {
                let answer = client.get(&format!("/v1/search?pod=p-{part}-{number}")).await;
                match refusal(&answer) {
                    (200, _) => {}
                    (429, reason) if reason == "too_many_reads" => refused += 1,
                    other => panic!("{other:?}"),
                }
            }
            refused
        });
    }
    let refused: u32 = asking.join_all().await.into_iter().sum();
    assert_eq!(refused, 16);
    let long = format!("/v1/search?words={}", "x".repeat(9000));
    assert_eq!(
        refusal(&client.get(&long).await),
        (400, "bad_query".into()),
        "what can't be said is not answered"
    );
    // What goes on is no new read.
    assert_eq!(client.get("/v1/search?pod=p-0-0&limit=7").await.status(), 200);
    recorder.stop().await;
    let size = verify(Arc::new(LocalFiles::open(&site.data()).unwrap()), &Vec::new());
    let said = u64::from(BEGUN_A_MINUTE) + 1; // and the last word of the one that went on
    assert_eq!(size, said + 2, "what was refused is not in the log");
}
