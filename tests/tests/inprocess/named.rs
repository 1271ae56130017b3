//! Every way in which identity fails has one name, and it is the same in the agent's error, in metrics, in the log and in
//! readiness.

use std::io::Write;
use std::sync::{Arc, Mutex};

use bqwitness_tests::google::{Behaviour, audience};
use bqwitness_tests::identity::Pod;
use bqwitness_tests::programs::AUDIENCE;
use http::StatusCode;
use serde_json::{Value, json};
use tracing_subscriber::fmt::MakeWriter;

use crate::keyless_stand::{Keyless, PROVIDER, admin, error, waits_for};

/// What this thread's tasks have logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Log {
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

/// What is wrong.
#[derive(Clone, Debug, Default)]
struct Wrong {
    /// With Google's services.
    google: Behaviour,
    /// With the pod's token for Google: in the place of this claim, that value; or all of it is this text.
    claim: Option<(&'static str, Value)>,
    token: Option<&'static str>,
    no_token: bool,
    /// With another setting of the sidecar's.
    setting: Option<String>,
    /// With the pod's token for the recorder: its audience.
    recorder_audience: Option<&'static str>,
}

// One thread, so that all of its tasks log to the test's own subscriber.
#[tokio::test]
async fn every_failure_has_one_name_everywhere() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    // With one subscriber alone, whichever thread comes by a line first decides for all whether it is heard.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let keyless = Keyless::new().await;
    let good = Wrong::default;
    let failing = |status| Behaviour { failing: Some(status), ..Behaviour::default() };
    let nowhere = bqwitness_tests::process::free_port().unwrap();
    let other_pod =
        keyless.stand.cluster.claims(&Pod::of("agents", "etl"), &audience(PROVIDER))["sub"].clone();
    for (category, status, wrong) in [
        ("sts_unavailable", 503, Wrong { google: failing(StatusCode::BAD_GATEWAY), ..good() }),
        ("sts_refused", 403, Wrong { google: failing(StatusCode::FORBIDDEN), ..good() }),
        ("sts_refused", 403, Wrong { claim: Some(("aud", json!(["somebody-else"]))), ..good() }),
        (
            "sts_unreachable",
            503,
            Wrong { setting: Some(format!("--sts-url=https://{nowhere}/v1/token")), ..good() },
        ),
        ("clock_skew", 503, Wrong { google: Behaviour { ahead: 7200, ..Behaviour::default() }, ..good() }),
        ("impersonation_denied", 403, Wrong { claim: Some(("sub", other_pod)), ..good() }),
        (
            "impersonation_unreachable",
            503,
            Wrong { setting: Some(format!("--iam-credentials-url=https://{nowhere}")), ..good() },
        ),
        ("subject_token_missing", 503, Wrong { no_token: true, ..good() }),
        ("subject_token_invalid", 503, Wrong { token: Some("two words"), ..good() }),
        ("subject_token_expired", 503, Wrong { claim: Some(("exp", json!(1_700_000_000))), ..good() }),
        ("identity_refused", 403, Wrong { recorder_audience: Some("somebody-else"), ..good() }),
    ] {
        named(&keyless, &log, category, status, wrong).await;
    }
}

async fn named(keyless: &Keyless, log: &Log, category: &str, status: u16, wrong: Wrong) {
    let about = format!("{category}: {wrong:?}");
    set_up(keyless, &wrong);
    log.take();
    let mut settings = vec!["--deliver-timeout=2"];
    settings.extend(wrong.setting.as_deref());
    let sidecar = keyless.sidecar_with(&settings).await;
    waits_for(&sidecar, category).await;
    let (answered, body) = keyless.query(&sidecar).await;
    assert_eq!(answered.as_u16(), status, "{about}: {body}");
    let of_the_recorder = wrong.recorder_audience.is_some();
    let said = if of_the_recorder { "can't be attributed to this pod" } else { category };
    assert!(error(&body).1.contains(said), "{about}: {body}");

    let readiness = admin(&sidecar, "readyz").await;
    assert!(readiness.contains(category), "{about}: {readiness}");
    let metrics = admin(&sidecar, "metrics").await;
    let attempts = match of_the_recorder {
        true => format!("bqwitness_delivery_failures_total{{category=\"{category}\"}} "),
        false => format!("bqwitness_credential_refreshes_total{{result=\"{category}\"}} "),
    };
    let refused = format!("bqwitness_refused_total{{category=\"{category}\"}} 1\n");
    assert!(metrics.contains(&attempts) && metrics.contains(&refused), "{about}: {metrics}");
    let logged = log.take();
    assert!(logged.contains(&format!("category=\"{category}\"")), "{about}: {logged}");

    let _the_recorder_may_not_have_all = sidecar.stop("test").await;
    assert!(keyless.seen.lock().unwrap().is_empty(), "{about}: nothing reaches BigQuery");
}

fn set_up(keyless: &Keyless, wrong: &Wrong) {
    keyless.google.behave(wrong.google.clone());
    let mut claims = keyless.claims();
    if let Some((name, value)) = &wrong.claim {
        claims[*name] = value.clone();
    }
    keyless.project_token(&keyless.stand.cluster, &claims);
    let file = keyless.stand.path("sts-token");
    if let Some(token) = wrong.token {
        std::fs::write(&file, token).unwrap();
    }
    if wrong.no_token {
        std::fs::remove_file(&file).unwrap();
    }
    let audience = wrong.recorder_audience.unwrap_or(AUDIENCE);
    keyless.stand.cluster.write_token(&keyless.stand.pod, audience, &keyless.stand.path("token")).unwrap();
}
