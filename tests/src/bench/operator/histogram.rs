//! Histograms of Prometheus, as programs serve them: what came between two looks, and its quantiles.

use crate::trouble::{Result, Trouble};

/// Which series are meant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Series {
    /// The metric, without `_bucket`.
    pub(super) metric: &'static str,
    /// Labels that they must have, as `name="value"`.
    pub(super) labels: &'static [&'static str],
}

/// How many were at most this long (seconds), by rising bounds; the last is infinity.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Histogram(Vec<(f64, f64)>);

impl Histogram {
    /// The sum of these series in a page of metrics; empty where there are none.
    pub(super) fn read(page: &str, series: Series) -> Self {
        let mut sum = Self::default();
        for (bound, count) in page.lines().filter_map(|line| bucket(line, series)) {
            sum.add_at(bound, count);
        }
        sum
    }

    /// What came since `before`.
    pub(super) fn since(mut self, before: &Self) -> Self {
        before.0.iter().for_each(|(bound, count)| self.add_at(*bound, -count));
        self
    }

    /// Both together.
    pub(super) fn add(&mut self, other: &Self) {
        other.0.iter().for_each(|(bound, count)| self.add_at(*bound, *count));
    }

    /// How many there are.
    pub(super) fn count(&self) -> f64 {
        self.0.last().map_or(0.0, |(_, count)| *count)
    }

    /// What this part of all (0 to 1) did not exceed, in milliseconds: between two bounds by a straight line, as Prometheus
    /// has it. That it is at most one of the bounds is exact.
    ///
    /// # Errors
    /// Nothing was counted.
    pub(super) fn millis(&self, part: f64) -> Result<f64> {
        let rank = self.count() * part;
        let (mut low, mut below) = (0.0, 0.0);
        for (bound, count) in &self.0 {
            if *count > 0.0 && *count >= rank {
                let inside = (rank - below) / (count - below);
                let within = if bound.is_finite() { low + (bound - low) * inside } else { low };
                return Ok(within * 1000.0);
            }
            (low, below) = (*bound, *count);
        }
        Err(Trouble::new("a histogram in which nothing was counted"))
    }

    fn add_at(&mut self, bound: f64, count: f64) {
        match self.0.binary_search_by(|(known, _)| known.total_cmp(&bound)) {
            Ok(place) => self.0[place].1 += count,
            Err(place) => self.0.insert(place, (bound, count)),
        }
    }
}

/// `METRIC_bucket{LABELS} COUNT` of one of these series: its bound and count.
fn bucket(line: &str, Series { metric, labels }: Series) -> Option<(f64, f64)> {
    let (found, count) = line.strip_prefix(metric)?.strip_prefix("_bucket{")?.rsplit_once("} ")?;
    let found: Vec<&str> = found.split(',').collect();
    let bound = found.iter().find_map(|label| label.strip_prefix("le=\"")?.strip_suffix('"'))?;
    let meant = labels.iter().all(|label| found.contains(label));
    meant.then_some((bound.parse().ok()?, count.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SERIES: Series = Series { metric: "call_seconds", labels: &["of=\"pods\""] };

    fn page(counts: [u32; 3]) -> String {
        let [five, ten, all] = counts;
        format!(
            "# TYPE call_seconds histogram\n\
             call_seconds_bucket{{of=\"pods\",ok=\"1\",le=\"0.005\"}} {five}\n\
             call_seconds_bucket{{of=\"pods\",ok=\"1\",le=\"0.01\"}} {ten}\n\
             call_seconds_bucket{{of=\"pods\",ok=\"1\",le=\"+Inf\"}} {all}\n\
             call_seconds_bucket{{of=\"pods\",ok=\"0\",le=\"+Inf\"}} 1\n\
             call_seconds_bucket{{of=\"tokens\",ok=\"1\",le=\"0.005\"}} 1000\n\
             call_seconds_count{{of=\"pods\"}} {all}\n"
        )
    }

    #[test]
    fn what_came_between_two_looks() {
        let (before, after) = (page([10, 10, 10]), page([60, 109, 110]));
        let mut between = Histogram::read(&after, SERIES).since(&Histogram::read(&before, SERIES));
        let counted = |histogram: &Histogram| histogram.count();
        assert!((counted(&between) - 100.0).abs() < 1e-9, "{between:?}");
        for (part, millis) in [(0.25, 2.5), (0.5, 5.0), (0.99, 10.0), (1.0, 10.0)] {
            let found = between.millis(part).unwrap();
            assert!((found - millis).abs() < 1e-9, "{part}: {found}");
        }
        between.add(&between.clone());
        assert!((counted(&between) - 200.0).abs() < 1e-9, "{between:?}");
    }

    #[test]
    fn nothing_is_no_zero() {
        assert!(Histogram::read("", SERIES).millis(0.5).is_err());
        let page = page([1, 2, 3]);
        let same = Histogram::read(&page, SERIES);
        assert!(same.clone().since(&same).millis(0.99).is_err());
    }
}
