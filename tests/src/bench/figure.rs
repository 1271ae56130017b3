//! Figures: what was measured, beside what was to be reached.

use std::fmt::Write as _;

use serde::Serialize;

use super::machine::Machine;

/// One measured number.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What it is of: `recorder`, `proxy`.
    pub part: &'static str,
    /// What it is.
    pub name: &'static str,
    /// The number; the median where there were several runs.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// The same as a part or a multiple of something measured in the same run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<Ratio>,
    /// What it was to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reach: Option<Reach>,
    /// Was that reached? Absent where there is nothing to reach.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reached: Option<bool>,
    /// All runs, in their order.
    pub runs: Vec<f64>,
}

/// A figure beside another one.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ratio {
    /// This divided by that.
    pub value: f64,
    /// That.
    pub of: &'static str,
}

/// What a figure is to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Reach {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

/// All figures, and where they were taken.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The machine, and how busy it was otherwise.
    pub machine: Machine,
    /// How the programs under test and the load shared it.
    pub setting: Vec<String>,
    /// What could not be measured here, and why.
    pub skipped: Vec<String>,
    /// The figures, in the order in which they were taken.
    pub figures: Vec<Figure>,
}

impl Figure {
    pub(crate) fn new(part: &'static str, name: &'static str, value: f64, unit: &'static str) -> Self {
        Self { part, name, value, unit, ratio: None, reach: None, reached: None, runs: vec![value] }
    }

    pub(crate) fn against(mut self, of: &'static str, base: f64) -> Self {
        self.ratio = Some(Ratio { value: self.value / base, of });
        self
    }

    pub(crate) fn reach(mut self, reach: Reach) -> Self {
        self.reached = Some(reach.is_reached(self.value));
        self.reach = Some(reach);
        self
    }

    fn line(&self) -> [String; 6] {
        let ratio =
            self.ratio.map_or_else(String::new, |ratio| format!("{:.2} of {}", ratio.value, ratio.of));
        let reach = self.reach.map_or_else(String::new, |reach| reach.text());
        let reached = self.reached.map_or("", |reached| if reached { "reached" } else { "NOT REACHED" });
        [
            self.part.into(),
            self.name.into(),
            number(self.value),
            self.unit.into(),
            ratio,
            format!("{reach} {reached}"),
        ]
    }
}

impl Reach {
    fn is_reached(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(least) => format!(">= {}", number(least)),
            Self::AtMost(most) => format!("<= {}", number(most)),
        }
    }
}

/// One list of several runs: of each figure the median, with its ratio; whether a reach was met is asked of the median.
#[must_use]
pub(crate) fn medians(runs: Vec<Vec<Figure>>) -> Vec<Figure> {
    let mut merged: Vec<Vec<Figure>> = Vec::new();
    for figure in runs.into_iter().flatten() {
        match merged.iter_mut().find(|seen| (seen[0].part, seen[0].name) == (figure.part, figure.name)) {
            Some(seen) => seen.push(figure),
            None => merged.push(vec![figure]),
        }
    }
    merged.into_iter().map(median).collect()
}

fn median(mut runs: Vec<Figure>) -> Figure {
    let values: Vec<f64> = runs.iter().map(|figure| figure.value).collect();
    runs.sort_by(|a, b| a.value.total_cmp(&b.value));
    let middle = runs.swap_remove(runs.len() / 2);
    Figure { runs: values, ..middle }
}

impl Report {
    /// The figures for people.
    #[must_use]
    pub fn table(&self) -> String {
        let head = ["", "figure", "measured", "", "ratio", "reach"].map(String::from);
        let lines: Vec<[String; 6]> =
            std::iter::once(head).chain(self.figures.iter().map(Figure::line)).collect();
        let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
        let widths: [usize; 6] = std::array::from_fn(width);
        let mut text = format!("{}\n", self.machine);
        for line in self.setting.iter().chain(&self.skipped) {
            writeln!(text, "{line}").expect("a String takes everything");
        }
        text.push('\n');
        for [part, name, value, unit, ratio, reach] in &lines {
            let line = format!(
                "{part:<w0$}  {name:<w1$}  {value:>w2$} {unit:<w3$}  {ratio:<w4$}  {reach}",
                w0 = widths[0],
                w1 = widths[1],
                w2 = widths[2],
                w3 = widths[3],
                w4 = widths[4]
            );
            writeln!(text, "{}", line.trim_end()).expect("a String takes everything");
        }
        text
    }
}

/// Three significant digits where there are decimals at all, and groups of thousands.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        v if v >= 100.0 || v == 0.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    let (whole, rest) =
        text.split_once('.').map_or((text.as_str(), None), |(whole, rest)| (whole, Some(rest)));
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place) % 3 == 0 && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    rest.map_or(grouped.clone(), |rest| format!("{grouped}.{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        let read = [0.0, 0.0421, 1.25, 12.34, 123.4, 1234.0, 1_234_567.0, -1234.0].map(number);
        assert_eq!(read, ["0", "0.042", "1.25", "12.3", "123", "1,234", "1,234,567", "-1,234"]);
    }

    #[test]
    fn a_reach_is_asked_of_the_median() {
        let run = |value| vec![Figure::new("recorder", "acks", value, "1/s").reach(Reach::AtLeast(10.0))];
        let merged = medians(vec![run(9.0), run(30.0), run(11.0)]);
        assert_eq!(merged.len(), 1);
        assert_eq!((merged[0].value, merged[0].reached), (11.0, Some(true)));
        assert_eq!(merged[0].runs, [9.0, 30.0, 11.0]);
        assert_eq!(medians(vec![run(9.0), run(9.5), run(11.0)])[0].reached, Some(false));
        assert!(Reach::AtMost(1.0).is_reached(1.0) && !Reach::AtMost(1.0).is_reached(1.1));
    }
}
