//! The webhook's certificate and CA are renewed while pods are created: nobody notices.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bqwitness_operator::certificate::issue::{self, Held};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::stand::{PATIENCE, Stand, pod};

/// How long certificates live, and begin before they are made: as the operator makes them. A third is left when they are renewed.
const CA_DAYS: i64 = 365;
const LEAF_DAYS: i64 = 30;
const BACKDATE: SignedDuration = SignedDuration::from_hours(1);

/// The longest that pods are created before the CA is due.
const DUE: Duration = Duration::from_secs(180);

const SECRET: &[&str] = &["-n", "bqwitness", "get", "secret", "bqwitness-operator-tls"];

/// When a certificate that lives so long was made, if it is to be renewed at `due`.
fn made(days: i64, due: Timestamp) -> Timestamp {
    let life = SignedDuration::from_hours(days * 24);
    due - life + (life + BACKDATE) / 3
}

/// What the Secret would hold by now, if the CA is to be renewed in `ca` seconds and the leaf in `leaf`.
fn held(name: &str, ca: i64, leaf: i64) -> Held {
    let (names, now) = ([name.to_owned()], Timestamp::now());
    let in_seconds = |seconds| now + SignedDuration::from_secs(seconds);
    let first = issue::renew(&Held::new(), &names, made(CA_DAYS, in_seconds(ca))).unwrap().unwrap();
    issue::renew(&first, &names, made(LEAF_DAYS, in_seconds(leaf))).unwrap().expect("its leaf had ended")
}

fn secret(held: &Held) -> Value {
    let data: serde_json::Map<_, _> =
        held.iter().map(|(key, value)| (key.clone(), STANDARD.encode(value).into())).collect();
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "data": data,
        "metadata": {"namespace": "bqwitness", "name": "bqwitness-operator-tls"},
    })
}

fn part(secret: &Value, key: &str) -> String {
    String::from_utf8(STANDARD.decode(secret["data"][key].as_str().unwrap()).unwrap()).unwrap()
}

#[tokio::test]
async fn no_pod_fails_while_certificate_and_ca_are_renewed() {
    let Some(mut stand) = Stand::prepare().await else { return };
    stand.kubectl.apply("{apiVersion: v1, kind: Namespace, metadata: {name: bqwitness}}").await.unwrap();
    let before = before_the_rotation(&mut stand).await;

    let (start, mut created, mut renewed) = (Instant::now(), 0, None);
    let after = loop {
        let name = format!("p-{created}");
        let answer =
            stand.kubectl.feed(&["create", "-f", "-"], &pod(&name, &json!({})).to_string()).await.unwrap();
        assert!(answer.success(), "pod {created}: {}\n{}", answer.said(), stand.operator().log());
        created += 1;
        let now = stand.kubectl.json(SECRET).await.unwrap();
        if part(&now, "tls.crt") != part(&before, "tls.crt") {
            renewed.get_or_insert_with(Instant::now);
        }
        // A while on with the new leaf, which connections of before don't see; and fewer pods are no load.
        if renewed.is_some_and(|since| since.elapsed() > Duration::from_secs(5)) && created > 20 {
            break now;
        }
        assert!(
            start.elapsed() < PATIENCE + DUE,
            "{created} pods, renewed {renewed:?}:\n{}",
            stand.operator().log()
        );
    };
    assert_eq!(part(&after, "ca.crt").matches("BEGIN").count(), 2, "the old CA is trusted until it ends");
    let trusted = |hook: &Value| hook["clientConfig"]["caBundle"] == after["data"]["ca.crt"];
    stand
        .until(&["get", "mutatingwebhookconfiguration", "bqwitness"], "both CAs", |found| {
            found["webhooks"].as_array().is_some_and(|hooks| hooks.iter().all(trusted))
        })
        .await;
    stand.end().await;
}

/// Starts the operator with a certificate that is about to be renewed: when pods are created the CA is due, and the leaf when API
/// servers have heard of the new one. Where that comes before the pods, because the machine is busy, there is more time for it.
async fn before_the_rotation(stand: &mut Stand) -> Value {
    for seconds in [20, 60, DUE.as_secs().cast_signed()] {
        let first = secret(&held("127.0.0.1", seconds, seconds + 15));
        stand.kubectl.apply(&first.to_string()).await.unwrap();
        stand.operator = Some(stand.begin("operator-0").await);
        stand.connect().await;
        let before = stand.kubectl.json(SECRET).await.unwrap();
        if part(&before, "ca.crt").matches("BEGIN").count() == 1 {
            return before;
        }
        stand.take_operator().stop().await.unwrap();
        stand.kubectl.say(&["-n", "bqwitness", "delete", "secret", "bqwitness-operator-tls"]).await.unwrap();
    }
    panic!("the rotation does not wait for pods")
}
