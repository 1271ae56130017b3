//! Places in the log that were read, as ranges.

use std::collections::BTreeMap;

/// Ranges that are kept apart; when there are more, the two that lie nearest to each other become one, and what is said is more
/// than what was read, never less.
pub const MAX_RANGES: usize = 256;

/// A set of places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    /// First place of each, and its last. They neither overlap nor touch.
    ranges: BTreeMap<u64, u64>,
}

impl Ranges {
    /// Adds the places from `first` to `last`.
    pub fn add(&mut self, first: u64, last: u64) {
        let (mut first, mut last) = (first, last);
        let touching = self.ranges.range(..=last.saturating_add(1)).rev();
        let touched: Vec<_> = touching
            .take_while(|(_, end)| **end >= first.saturating_sub(1))
            .map(|(start, _)| *start)
            .collect();
        for start in touched {
            let end = self.ranges.remove(&start).unwrap_or(start);
            (first, last) = (first.min(start), last.max(end));
        }
        self.ranges.insert(first, last);
        if self.ranges.len() > MAX_RANGES {
            self.join_nearest();
        }
    }

    fn join_nearest(&mut self) {
        let gaps = self
            .ranges
            .iter()
            .zip(self.ranges.keys().skip(1))
            .map(|((start, end), next)| (next - end, *start));
        let Some((_, start)) = gaps.min() else { return };
        let Some((next, end)) = self.ranges.range(start + 1..).next().map(|(next, end)| (*next, *end)) else {
            return;
        };
        self.ranges.remove(&next);
        self.ranges.insert(start, end);
    }
}

impl std::fmt::Display for Ranges {
    /// `3-5,9`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (place, (first, last)) in self.ranges.iter().enumerate() {
            let comma = if place > 0 { "," } else { "" };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ranges: &[(u64, u64)]) -> String {
        let mut all = Ranges::default();
        ranges.iter().for_each(|(first, last)| all.add(*first, *last));
        all.to_string()
    }

    #[test]
    fn what_touches_is_one() {
        assert_eq!(of(&[]), "");
        assert_eq!(of(&[(9, 9), (3, 3), (5, 5)]), "3,5,9");
        assert_eq!(of(&[(9, 9), (3, 3), (5, 5), (4, 4)]), "3-5,9");
        assert_eq!(of(&[(0, 255), (256, 511)]), "0-511");
        assert_eq!(of(&[(10, 20), (0, 100)]), "0-100");
        assert_eq!(of(&[(0, 100), (10, 20)]), "0-100");
        assert_eq!(of(&[(5, 8), (7, 12), (20, 21)]), "5-12,20-21");
        assert_eq!(of(&[(u64::MAX, u64::MAX), (0, 0)]), format!("0,{}", u64::MAX));
    }

    /// Whatever is read, in whatever order, is in what is said.
    #[test]
    fn too_many_say_more_and_never_less() {
        let mut ranges = Ranges::default();
        let places: Vec<u64> = (0..4 * MAX_RANGES as u64).map(|n| (n * 7919) % 100_000).collect();
        for place in &places {
            ranges.add(*place, *place);
            assert!(ranges.ranges.len() <= MAX_RANGES);
        }
        for place in places {
            let (_, end) = ranges.ranges.range(..=place).next_back().expect("one begins before");
            assert!(*end >= place);
        }
        assert!(ranges.to_string().len() < 8 * 1024, "it fits into an entry");
    }
}
