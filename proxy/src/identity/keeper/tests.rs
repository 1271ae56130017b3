use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus::Registry;

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_secs(3600);

/// What a source does, one after the other; the last for ever.
#[derive(Clone, Copy, Debug)]
enum Act {
    Grant(&'static str),
    Fail(Category),
    Hang(Duration, &'static str),
}

/// A source that is told what to do. Clones share it.
#[derive(Clone, Default)]
struct Scripted {
    acts: Arc<Mutex<VecDeque<Act>>>,
    asked: Arc<AtomicUsize>,
    under_way: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    changed: Arc<Notify>,
}

impl Scripted {
    fn of(acts: &[Act]) -> Self {
        Self { acts: Arc::new(Mutex::new(acts.iter().copied().collect())), ..Self::default() }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn keep_to(&self, act: Act) {
        *self.acts.lock().unwrap() = VecDeque::from([act]);
    }
}

impl Source for Scripted {
    async fn fetch(&mut self) -> Result<Granted, CredentialError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let act = {
            let mut acts = self.acts.lock().unwrap();
            if acts.len() > 1 { acts.pop_front().unwrap() } else { acts[0] }
        };
        let grant = |token| Granted::new(token, Some("billing@acme".into()), HOUR);
        let answer = match act {
            Act::Grant(token) => grant(token),
            Act::Fail(category) => Err(CredentialError::new(category, "as told")),
            Act::Hang(time, token) => {
                tokio::time::sleep(time).await;
                grant(token)
            }
        };
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        answer
    }

    async fn changed(&mut self) {
        self.changed.notified().await;
    }
}

struct Stand {
    source: Scripted,
    keeper: Keeper,
    readiness: Readiness,
    registry: Registry,
}

fn stand(acts: &[Act]) -> Stand {
    let (source, readiness, registry) = (Scripted::of(acts), Readiness::default(), Registry::new());
    let keeper = Keeper::start(source.clone(), readiness.clone(), Metrics::new(&registry).unwrap());
    Stand { source, keeper, readiness, registry }
}

impl Stand {
    async fn bearer(&self) -> Result<String, &'static str> {
        let credential = self.keeper.credential(PATIENCE).await.map_err(|error| error.category())?;
        Ok(credential.bearer.to_str().unwrap().to_owned())
    }

    fn metrics(&self) -> String {
        prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap()
    }
}

/// A thousand calls wait for a service that takes four seconds: it is asked once.
#[tokio::test(start_paused = true)]
async fn a_thousand_calls_make_one_request() {
    let stand = Arc::new(stand(&[Act::Hang(Duration::from_secs(4), "slow")]));
    assert_eq!(stand.readiness.waiting(), ["credential_pending"]);
    let calls: Vec<_> = (0..1000)
        .map(|_| {
            let stand = Arc::clone(&stand);
            tokio::spawn(async move { stand.bearer().await })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), Ok("Bearer slow".into()));
    }
    assert_eq!((stand.source.asked(), stand.source.most.load(Ordering::SeqCst)), (1, 1));
    assert!(stand.readiness.waiting().is_empty());
    assert!(stand.metrics().contains("bqwitness_credential_refreshes_total{result=\"granted\"} 1"));
}

/// The service is away for ten minutes, when the credential is due for renewal: nobody notices.
#[tokio::test(start_paused = true)]
async fn ten_minutes_without_the_service_and_with_a_good_credential() {
    let stand = stand(&[Act::Grant("first")]);
    assert_eq!(stand.bearer().await, Ok("Bearer first".into()));
    stand.source.keep_to(Act::Fail(Category::StsUnreachable));
    // 45 minutes on, any renewal is due; for ten minutes more every call is served.
    tokio::time::advance(Duration::from_secs(45 * 60)).await;
    for _ in 0..600 {
        assert_eq!(stand.bearer().await, Ok("Bearer first".into()));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(stand.readiness.waiting().is_empty(), "ready as long as calls are served");
    let asked = stand.source.asked();
    assert!((10..40).contains(&asked), "it backs off: {asked}");
    stand.source.keep_to(Act::Grant("second"));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(stand.bearer().await, Ok("Bearer second".into()));
}

/// The same without a good credential: every call is refused, by the name of the failure, and the process is not ready.
#[tokio::test(start_paused = true)]
async fn ten_minutes_without_the_service_and_without_a_credential() {
    let stand = stand(&[Act::Fail(Category::StsUnavailable)]);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(600) {
        let before = Instant::now();
        assert_eq!(stand.bearer().await, Err("sts_unavailable"));
        assert_eq!(before.elapsed().as_secs(), PATIENCE.as_secs(), "it waits as long as for the recorder");
        assert_eq!(stand.readiness.waiting(), ["sts_unavailable"]);
    }
    assert!((10..40).contains(&stand.source.asked()), "{}", stand.source.asked());
    stand.source.keep_to(Act::Grant("back"));
    let (waited, bearer) = (Instant::now(), stand.bearer());
    // Within the longest pause, not within one call's patience.
    let back = bearer.await;
    tokio::time::sleep(super::super::cache::LONGEST_PAUSE.saturating_sub(waited.elapsed())).await;
    assert!(back.is_ok() || stand.bearer().await.is_ok());
}

/// A credential that ends while the service is away is not used any more.
#[tokio::test(start_paused = true)]
async fn what_has_ended_is_not_used() {
    let stand = stand(&[Act::Grant("first"), Act::Fail(Category::StsUnreachable)]);
    assert_eq!(stand.bearer().await, Ok("Bearer first".into()));
    tokio::time::sleep(HOUR - super::super::cache::MARGIN).await;
    assert_eq!(stand.bearer().await, Err("sts_unreachable"));
    assert_eq!(stand.readiness.waiting(), ["sts_unreachable"]);
}

/// Who has said no is not waited for; what was said no to may change.
#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_at_once_and_a_new_token_is_tried_at_once() {
    let stand = stand(&[Act::Fail(Category::StsRefused)]);
    let before = Instant::now();
    assert_eq!(stand.bearer().await, Err("sts_refused"));
    assert!(before.elapsed() < Duration::from_secs(1));
    tokio::time::sleep(Duration::from_secs(300)).await;
    stand.source.keep_to(Act::Grant("rotated"));
    stand.source.changed.notify_one();
    let before = Instant::now();
    while stand.bearer().await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(before.elapsed() < Duration::from_secs(1), "not after the pause of up to a minute");
}

/// BigQuery says 401 again and again: a new credential is asked for, but not each time.
#[tokio::test(start_paused = true)]
async fn doubt_renews_and_does_not_storm() {
    let stand = stand(&[Act::Grant("revoked"), Act::Grant("new")]);
    assert_eq!(stand.bearer().await, Ok("Bearer revoked".into()));
    for _ in 0..100 {
        stand.keeper.doubt();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(stand.bearer().await, Ok("Bearer new".into()));
    assert!((2..=4).contains(&stand.source.asked()), "30 seconds of doubt: {}", stand.source.asked());
}

/// A service that accepts and never answers.
#[tokio::test(start_paused = true)]
async fn a_service_that_hangs_is_given_up() {
    let stand = stand(&[Act::Hang(HOUR, "never"), Act::Grant("later")]);
    assert_eq!(stand.bearer().await, Err("credential_pending"));
    tokio::time::sleep(ATTEMPT_TIMEOUT + Duration::from_secs(2)).await;
    assert_eq!(stand.bearer().await, Ok("Bearer later".into()));
}

#[test]
fn a_credential_is_never_shown() {
    let granted = Granted::new("s3cret", Some("a@b".into()), HOUR).unwrap();
    assert!(!format!("{granted:?} {:?}", granted.credential.bearer).contains("s3cret"));
    for bad in ["", "two words", "new\nline", "\u{7f}"] {
        let error = Granted::new(bad, None, HOUR).unwrap_err();
        assert_eq!(error.category(), "credential_malformed");
    }
}
