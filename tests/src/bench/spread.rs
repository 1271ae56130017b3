//! How times are spread.

use std::time::Duration;

/// Times, sorted.
#[derive(Clone, Debug)]
pub(crate) struct Spread(Vec<Duration>);

impl Spread {
    pub(crate) fn of(times: impl IntoIterator<Item = Duration>) -> Self {
        let mut times: Vec<Duration> = times.into_iter().collect();
        times.sort_unstable();
        Self(times)
    }

    /// The time, in milliseconds, that this part of all (0 to 1) did not exceed; 0 where there are none.
    pub(crate) fn millis(&self, part: f64) -> f64 {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "within the list by construction"
        )]
        let place = (self.0.len().saturating_sub(1) as f64 * part).round() as usize;
        self.0.get(place).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_all() {
        let spread = Spread::of((0..=100).rev().map(Duration::from_millis));
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(|part| spread.millis(part)), [0.0, 50.0, 99.0, 100.0]);
        assert_eq!(Spread::of([]).millis(0.5), 0.0);
    }
}
