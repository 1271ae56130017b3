//! The credential that is held, and when the next one is asked for. Pure: time and chance come from outside.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::error::CredentialError;

/// A credential is not used any more when it has less than this left: a call may wait for the recorder before it leaves.
pub const MARGIN: Duration = Duration::from_secs(30);

/// A new credential is asked for when between a quarter and a sixth of the lifetime is left: pods that started together
/// don't ask together.
const EARLIEST: f64 = 1.0 / 4.0;
const LATEST: f64 = 1.0 / 6.0;

/// After the first failure it is tried again within this time, after each further one within twice as long,
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// and never later than this.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Google said no to a credential that should be good (revoked, or a clock that stood still): a new one is asked for, but
/// not more often than this.
pub const DOUBT_PAUSE: Duration = Duration::from_secs(10);

/// What is held, and what went wrong last. `C` is the credential.
#[derive(Debug)]
pub struct Cache<C> {
    held: Option<Held<C>>,
    failures: u32,
    next: Instant,
    asked: Option<Instant>,
}

/// A credential and its time.
#[derive(Debug)]
pub struct Held<C> {
    /// The credential.
    pub credential: Arc<C>,
    /// From then on it is not used.
    pub until: Instant,
}

impl<C> Clone for Held<C> {
    fn clone(&self) -> Self {
        Self { credential: Arc::clone(&self.credential), until: self.until }
    }
}

/// What callers see.
#[derive(Debug)]
pub struct View<C> {
    /// The last credential, good or not any more.
    pub held: Option<Held<C>>,
    /// Why the last attempt failed, if it did.
    pub error: Option<CredentialError>,
}

impl<C> View<C> {
    /// The credential, if it is good now.
    #[must_use]
    pub fn usable(&self, now: Instant) -> Option<&Arc<C>> {
        self.held.as_ref().filter(|held| now < held.until).map(|held| &held.credential)
    }
}

impl<C> Cache<C> {
    /// Nothing yet; the first attempt is due at once.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { held: None, failures: 0, next: now, asked: None }
    }

    /// When the next attempt is due.
    #[must_use]
    pub fn next(&self) -> Instant {
        self.next
    }

    /// True while attempts fail.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// An attempt begins.
    pub fn asking(&mut self, now: Instant) {
        self.asked = Some(now);
    }

    /// A credential that is good for `lifetime` was granted. `chance` is from 0 to 1.
    pub fn granted(&mut self, now: Instant, credential: C, lifetime: Duration, chance: f64) -> View<C> {
        let ahead = lifetime.mul_f64(LATEST + (EARLIEST - LATEST) * chance.clamp(0.0, 1.0));
        let until = now + lifetime.saturating_sub(MARGIN);
        self.failures = 0;
        // A credential without a future would be asked for in a tight loop.
        self.next = now + (lifetime - ahead).max(FIRST_PAUSE);
        self.held = Some(Held { credential: Arc::new(credential), until });
        View { held: self.held.clone(), error: None }
    }

    /// An attempt failed. What is held stays, as long as it is good.
    pub fn failed(&mut self, now: Instant, error: CredentialError, chance: f64) -> View<C> {
        self.failures = self.failures.saturating_add(1);
        self.next = now + pause(self.failures, chance);
        View { held: self.held.clone(), error: Some(error) }
    }

    /// Google did not accept the credential. It stays in use: only Google knows, and a new one may be no better.
    pub fn doubted(&mut self, now: Instant) {
        let earliest = self.asked.map_or(now, |asked| asked + DOUBT_PAUSE);
        self.next = self.next.min(earliest.max(now));
    }
}

/// The pause after so many failures in a row: doubled each time, and by chance between half and all of that.
fn pause(failures: u32, chance: f64) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(LONGEST_PAUSE).mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::super::error::Category;
    use super::*;
    use proptest::prelude::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn down() -> CredentialError {
        CredentialError::new(Category::StsUnavailable, "down")
    }

    #[test]
    fn renewed_ahead_of_its_end_and_not_by_all_at_once() {
        let now = Instant::now();
        for (chance, ahead) in [(0.0, 600), (1.0, 900), (7.0, 900)] {
            let mut cache = Cache::new(now);
            let view = cache.granted(now, "token", HOUR, chance);
            assert_eq!((now + HOUR - cache.next()).as_secs(), ahead);
            assert!(view.usable(now + HOUR - MARGIN - Duration::from_millis(1)).is_some());
            assert!(view.usable(now + HOUR - MARGIN).is_none());
        }
    }

    #[test]
    fn a_failure_takes_nothing_away() {
        let now = Instant::now();
        let mut cache = Cache::new(now);
        cache.granted(now, "token", HOUR, 0.5);
        let view = cache.failed(cache.next(), down(), 0.5);
        assert_eq!(view.usable(now + Duration::from_secs(3000)).map(|token| **token), Some("token"));
        assert!(view.error.is_some() && cache.is_failing());
        let view = cache.granted(cache.next(), "new", HOUR, 0.5);
        assert!(view.error.is_none() && !cache.is_failing());
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        let pauses: Vec<u64> = (1..9).map(|failures| pause(failures, 1.0).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pause(3, 0.0), Duration::from_secs(2));
        assert_eq!(pause(u32::MAX, 1.0), LONGEST_PAUSE);
    }

    #[test]
    fn doubt_asks_again_but_not_without_a_pause() {
        let now = Instant::now();
        let mut cache = Cache::new(now);
        cache.asking(now);
        cache.granted(now, "token", HOUR, 0.5);
        cache.doubted(now + Duration::from_secs(1));
        assert_eq!(cache.next(), now + DOUBT_PAUSE);
        cache.doubted(now + Duration::from_secs(60));
        assert_eq!(cache.next(), now + DOUBT_PAUSE, "an attempt that is due stays due");
    }

    proptest! {
        #[test]
        fn no_lifetime_makes_a_tight_loop_or_an_overflow(seconds: u32, chance: f64) {
            let now = Instant::now();
            let mut cache = Cache::new(now);
            let lifetime = Duration::from_secs(seconds.into());
            cache.granted(now, (), lifetime, if chance.is_nan() { 0.0 } else { chance });
            prop_assert!(cache.next() >= now + FIRST_PAUSE);
            prop_assert!(cache.next() <= now + lifetime.max(FIRST_PAUSE));
        }
    }
}
