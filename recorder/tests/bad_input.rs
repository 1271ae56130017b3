//! Bad input: a fixed reason each, and nothing recorded.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::collections::BTreeMap;

use bytes::Bytes;
use common::{AUDIENCE, ISSUER, Issuer, Site, Speaker, join, only, refusal};
use http::Request;
use http_body_util::Full;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use ledger::batch::Batch;
use ledger::call::Access;
use ledger::statement::{Body, kind};
use serde_json::{Value, json};

fn edit(statement: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(statement).unwrap();
    change(&mut value);
    serde_json::to_vec(&value).unwrap()
}

fn replace(statement: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(statement.to_vec()).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    text.replacen(from, to, 1).into_bytes()
}

/// Every bad batch that a session which has said `session.start` could send next.
fn bad_batches(live: &Speaker) -> Vec<(&'static str, (u16, &'static str), Batch)> {
    let beat = live.clone().heartbeat().statements.remove(0);
    let blobs = live.clone().intent("SELECT 1", "SELECT", "a.b", Access::Read);
    let with = |statement: Vec<u8>| only(statement);
    let edited = |change: fn(&mut Value)| only(edit(&beat, change));
    let id = live.session.to_string();
    let spelled = |other: &dyn Fn(&str) -> String| only(replace(&beat, &id, &other(&id)));
    let mut bytes = beat.clone();
    let at = bytes.iter().position(|byte| *byte == b'1').unwrap();
    bytes[at] = 0xff;
    let mut ahead = live.clone();
    ahead.heartbeat();
    let mut repeated = live.clone();
    let one = repeated.heartbeat();
    let mut other = Speaker::new(live.token.clone());
    let other_start = other.start(10);
    let lost =
        ledger::statement::SessionLost { session: live.session, last_seq: 0, open_intents: vec![], open: 0 };
    let lost =
        live.clone().say(kind::SESSION_LOST, Body { lost: Some(lost), ..Body::default() }, BTreeMap::new());
    vec![
        ("not JSON", (400, "malformed_statement"), with(b"{]}".to_vec())),
        ("white space", (400, "malformed_statement"), with([b" ", &beat[..]].concat())),
        ("an array", (400, "malformed_statement"), with(b"[1]".to_vec())),
        ("invalid UTF-8", (400, "malformed_statement"), with(bytes)),
        ("NUL", (400, "malformed_statement"), with(replace(&beat, "\"agents\"", "\"ag\0nts\""))),
        ("a name twice", (400, "malformed_statement"), with(replace(&beat, "{", "{\"seq\":1,"))),
        (
            "an unknown name twice",
            (400, "malformed_statement"),
            with(replace(&beat, "{", "{\"x\":1,\"x\":1,")),
        ),
        (
            "deep nesting",
            (400, "malformed_statement"),
            with(replace(&beat, "{", &format!("{{\"x\":{}{},", "[".repeat(50), "]".repeat(50)))),
        ),
        ("seq is a text", (400, "malformed_statement"), edited(|s| s["seq"] = json!("1"))),
        ("seq is negative", (400, "malformed_statement"), edited(|s| s["seq"] = json!(-1))),
        ("seq is beyond all readers", (400, "malformed_statement"), edited(|s| s["seq"] = json!(1u64 << 53))),
        (
            "no kind",
            (400, "malformed_statement"),
            edited(|s| drop(s.as_object_mut().unwrap().remove("kind"))),
        ),
        ("no prev", (400, "malformed_statement"), edited(|s| s["prev"] = Value::Null)),
        ("a bad time", (400, "malformed_statement"), edited(|s| s["time"] = json!("yesterday"))),
        (
            "a part of another kind",
            (400, "malformed_statement"),
            edited(|s| s["kind"] = json!("session.end")),
        ),
        (
            "two parts",
            (400, "malformed_statement"),
            edited(|s| s["end"] = json!({"reason": "x", "calls": 0, "refusedUnrecorded": 0})),
        ),
        (
            "no part",
            (400, "malformed_statement"),
            edited(|s| drop(s.as_object_mut().unwrap().remove("heartbeat"))),
        ),
        ("start again", (400, "malformed_statement"), {
            let mut again = live.clone();
            again.start(10)
        }),
        ("version 2", (400, "unknown_version"), edited(|s| s["v"] = json!(2))),
        ("version 0", (400, "unknown_version"), edited(|s| s["v"] = json!(0))),
        ("too large", (413, "statement_too_large"), edited(|s| s["x"] = json!("x".repeat(61_440)))),
        ("session.lost", (403, "kind_not_allowed"), only(lost)),
        ("coverage", (403, "kind_not_allowed"), edited(|s| s["kind"] = json!("coverage.pod"))),
        ("log.hole", (403, "kind_not_allowed"), edited(|s| s["kind"] = json!("log.hole"))),
        (
            "a broken chain",
            (409, "chain_broken"),
            edited(|s| s["prev"] = json!(format!("sha256:{}", "0".repeat(64)))),
        ),
        (
            "the same seq with other bytes",
            (409, "seq_conflict"),
            edited(|s| {
                s["seq"] = json!(0);
                s["prev"] = Value::Null;
            }),
        ),
        ("the same seq twice in the batch", (409, "seq_conflict"), join([one.clone(), one.clone()])),
        ("an outcome of no call", (409, "call_unknown"), live.clone().outcome(0, 1)),
        ("an outcome twice", (409, "call_unknown"), {
            let mut twice = live.clone();
            let call = twice.seq;
            join([
                twice.intent("SELECT 1", "SELECT", "a.b", Access::Read),
                twice.outcome(call, 1),
                twice.outcome(call, 2),
            ])
        }),
        ("two sessions", (400, "mixed_sessions"), join([one, other_start])),
        ("an unknown session", (409, "session_unknown"), {
            let mut unknown = Speaker::new(live.token.clone());
            unknown.start(10);
            unknown.heartbeat()
        }),
        ("a session without a start", (409, "session_unknown"), Speaker::new(live.token.clone()).heartbeat()),
        ("a session in capitals", (400, "malformed_statement"), spelled(&str::to_uppercase)),
        ("a session without hyphens", (400, "malformed_statement"), spelled(&|id| id.replace('-', ""))),
        ("a session in braces", (400, "malformed_statement"), spelled(&|id| format!("{{{id}}}"))),
        ("a session as a URN", (400, "malformed_statement"), spelled(&|id| format!("urn:uuid:{id}"))),
        (
            "a session of version 4",
            (400, "bad_session"),
            edited(|s| s["session"] = json!("9b2b6c52-4f0a-4c1e-9c0a-0d6c2c3f4a5b")),
        ),
        ("a session of 1970", (400, "bad_session"), {
            let mut old = Speaker::new(live.token.clone());
            old.session = "00000000-0001-7000-8000-000000000001".parse().unwrap();
            old.start(10)
        }),
        ("a blob missing", (400, "blob_missing"), with(blobs.statements[0].clone())),
        (
            "a blob too many",
            (400, "blob_unnamed"),
            Batch { blobs: blobs.blobs.clone(), statements: vec![beat.clone()] },
        ),
        (
            "a blob of another size",
            (400, "blob_size"),
            Batch {
                blobs: blobs.blobs.clone(),
                statements: vec![edit(&blobs.statements[0], |s| s["blobs"]["sql"]["size"] = json!(9))],
            },
        ),
        (
            "another blob than its digest",
            (400, "blob_unnamed"),
            Batch {
                blobs: vec![ledger::blob::Blob::new([1; 32], b"SELECT 2").unwrap()],
                statements: blobs.statements.clone(),
            },
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_batch_is_refused_whole() {
    let site = Site::new();
    let recorder = site.start().await;
    let client = &recorder.client;
    let mut live = site.speaker("agents", "billing");
    let token = live.token.clone();
    let (places, _) = client.record(&token, &live.start(60)).await;
    let next = places[0].index + 1;
    for (what, expected, batch) in bad_batches(&live) {
        let answer = client.post(&token, batch.encode()).await;
        let (status, reason) = refusal(&answer);
        assert_eq!((status, reason.as_str()), expected, "{what}: {:?}", answer.body());
    }
    // One bad statement among good ones: named, and none of them is recorded.
    let mut speaker = live.clone();
    let good = join([speaker.heartbeat(), speaker.heartbeat()]);
    let batch = join([good.clone(), only(b"{]}".to_vec())]);
    let answer = client.post(&token, batch.encode()).await;
    let body: Value = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!(body["error"]["statement"], 2, "{body}");
    let (places, _) = client.record(&token, &good).await;
    assert_eq!(places[0].index, next, "nothing was recorded between");
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_batch() {
    let site = Site::new();
    let recorder = site.start().await;
    let client = &recorder.client;
    let token = site.issuer.token("agents", "billing");
    let large = vec![b'S'; ledger::batch::MAX_BATCH + 1];
    let blob = [&b"B"[..], &(17u32 << 20).to_be_bytes(), &vec![0; 17 << 20]].concat();
    for (body, expected) in [
        (Vec::new(), (400, "malformed_batch")),
        (b"X".to_vec(), (400, "malformed_batch")),
        (b"S\0\0\0\x09{}".to_vec(), (400, "malformed_batch")),
        (b"S\xff\xff\xff\xff{}".to_vec(), (400, "malformed_batch")),
        (b"B\0\0\0\x01x".to_vec(), (400, "malformed_batch")),
        (large, (413, "batch_too_large")),
        (blob, (413, "blob_too_large")),
    ] {
        let length = body.len();
        let (status, reason) = refusal(&client.post(&token, body).await);
        assert_eq!((status, reason.as_str()), expected, "{length} bytes");
    }
    let mut request = client.batch_request(&token, b"S\0\0\0\x02{}".to_vec());
    request.headers_mut().insert("content-type", "application/json".parse().unwrap());
    assert_eq!(refusal(&client.send(request).await), (415, "media_type".into()));
    let mut request = client.batch_request(&token, b"S\0\0\0\x02{}".to_vec());
    request.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    assert_eq!(refusal(&client.send(request).await), (415, "media_type".into()));
    recorder.stop().await;
}

/// The claims of a good token, changed.
fn claims(change: impl FnOnce(&mut Value)) -> Value {
    let mut claims = Issuer::claims("agents", "billing");
    change(&mut claims);
    claims
}

fn unsigned(header: &Value, claims: &Value) -> String {
    use base64::Engine as _;
    let part = |value: &Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.", part(header), part(claims))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_token_is_refused() {
    let site = Site::new();
    let recorder = site.start().await;
    let client = &recorder.client;
    let now = jiff::Timestamp::now().as_second();
    let sign = |change: fn(&mut Value)| site.issuer.sign(&claims(change));
    let good = claims(|_| ());
    let key = |id: Option<&str>| Header { kid: id.map(str::to_owned), ..Header::new(Algorithm::ES256) };
    let public_key = site.issuer.jwks();
    let mut symmetric = Header::new(Algorithm::HS256);
    symmetric.kid = Some("k1".into());
    let secret = EncodingKey::from_secret(public_key.as_bytes());
    let signed = site.issuer.sign(&good);
    let (body, _) = signed.rsplit_once('.').unwrap();
    let cases: Vec<(&str, String, (u16, &str))> = vec![
        ("another issuer's key", Issuer::new().sign(&good), (401, "bad_token")),
        ("alg none", unsigned(&json!({"alg": "none", "typ": "JWT", "kid": "k1"}), &good), (401, "bad_token")),
        (
            "alg HS256 with the public key",
            jsonwebtoken::encode(&symmetric, &good, &secret).unwrap(),
            (401, "bad_token"),
        ),
        ("no signature", format!("{body}."), (401, "bad_token")),
        ("no key id", site.issuer.sign_with(&key(None), &good), (401, "bad_token")),
        ("an unknown key id", site.issuer.sign_with(&key(Some("k2")), &good), (401, "bad_token")),
        ("rubbish", "rubbish".into(), (401, "bad_token")),
        ("far too long", "a".repeat(20_000), (401, "bad_token")),
        ("another issuer", sign(|c| c["iss"] = json!("https://other")), (401, "bad_token")),
        (
            "another audience",
            sign(|c| c["aud"] = json!(["https://kubernetes.default.svc"])),
            (401, "wrong_audience"),
        ),
        ("no audience", sign(|c| drop(c.as_object_mut().unwrap().remove("aud"))), (401, "bad_token")),
        ("expired", site.issuer.sign(&claims(|c| c["exp"] = json!(now - 11))), (401, "token_expired")),
        ("no end", sign(|c| drop(c.as_object_mut().unwrap().remove("exp"))), (401, "bad_token")),
        ("not yet", site.issuer.sign(&claims(|c| c["nbf"] = json!(now + 60))), (401, "token_expired")),
        (
            "two service accounts",
            sign(|c| c["sub"] = json!("system:serviceaccount:agents:other")),
            (401, "bad_token"),
        ),
        ("a user", sign(|c| c["sub"] = json!("auditor")), (401, "bad_token")),
        (
            "no pod",
            sign(|c| drop(c["kubernetes.io"].as_object_mut().unwrap().remove("pod"))),
            (403, "no_pod"),
        ),
        ("a pod without UID", sign(|c| c["kubernetes.io"]["pod"]["uid"] = json!("")), (403, "no_pod")),
        (
            "long names",
            sign(|c| c["kubernetes.io"]["pod"]["name"] = json!("x".repeat(4000))),
            (403, "subject_too_large"),
        ),
    ];
    for (what, token, expected) in cases {
        let batch = Speaker::new(String::new()).start(10);
        let answer = client.post(&token, batch.encode()).await;
        let (status, reason) = refusal(&answer);
        assert_eq!((status, reason.as_str()), expected, "{what}");
        let text = String::from_utf8_lossy(answer.body()).into_owned();
        assert!(token.len() < 8 || !text.contains(&token), "{what}: the token is not echoed");
    }
    let request = Request::post(format!("https://{}/v1/batches", client.address))
        .body(Full::<Bytes>::default())
        .unwrap();
    assert_eq!(refusal(&client.send(request).await), (401, "no_token".into()));
    // Ten seconds of clock skew are forgiven.
    let skewed = site.issuer.sign(&claims(|c| {
        c["exp"] = json!(now - 2);
        c["nbf"] = json!(now + 5);
        assert_eq!((c["iss"].as_str(), c["aud"][0].as_str()), (Some(ISSUER), Some(AUDIENCE)));
    }));
    client.record(&skewed, &Speaker::new(String::new()).start(10)).await;
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_its_workloads_own() {
    let site = Site::new();
    let recorder = site.start().await;
    let client = &recorder.client;
    let mut live = site.speaker("agents", "billing");
    let token = live.token.clone();
    client.record(&token, &live.start(60)).await;
    let next = live.heartbeat();
    for change in [
        (|c| c["kubernetes.io"]["pod"]["uid"] = json!("another")) as fn(&mut Value),
        |c| c["kubernetes.io"]["pod"]["name"] = json!("another"),
        |c| c["kubernetes.io"]["node"]["name"] = json!("another"),
    ] {
        let foreign = site.issuer.sign(&claims(change));
        assert_eq!(refusal(&client.post(&foreign, next.encode()).await), (403, "foreign_session".into()));
    }
    let operator = site.issuer.token("system", "operator");
    assert_eq!(refusal(&client.post(&operator, next.encode()).await), (403, "foreign_session".into()));
    client.record(&token, &next).await;
    client.record(&token, &live.end()).await;
    assert_eq!(
        refusal(&client.post(&token, live.heartbeat().encode()).await),
        (409, "session_closed".into())
    );
    // An operator may not speak as a sidecar.
    let intent = Speaker::new(operator.clone()).intent("SELECT 1", "SELECT", "a.b", Access::Read);
    assert_eq!(refusal(&client.post(&operator, intent.encode()).await), (403, "kind_not_allowed".into()));
    recorder.stop().await;
}
