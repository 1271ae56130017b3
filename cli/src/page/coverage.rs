//! When each pod was under recording: a picture and a table.

use jiff::Timestamp;
use ledger::bundle::manifest::Manifest;
use ledger::coverage::{Period, Pod};

use super::html::escape;
use crate::render::time_text;

/// Most pods in the picture; the table has all.
const MAX_DRAWN: usize = 60;

const WIDTH: i64 = 720;
const LABEL: i64 = 200;
const ROW: i64 = 22;

pub(super) fn section(manifest: &Manifest) -> String {
    let (pods, period) = (&manifest.contents.coverage, manifest.period);
    if pods.is_empty() {
        return "<section>\n<h2>Coverage</h2>\n<p>Neither a sidecar's session nor an operator's word of a pod is in this selection.</p>\n</section>\n".into();
    }
    format!(
        "<section>\n<h2>Coverage</h2>\n<p>When each pod was under recording, as the entries here say. Outside of that nothing \
         is known of it.</p>\n{}{}</section>\n",
        picture(pods, period),
        table(pods)
    )
}

pub(super) fn picture(pods: &[Pod], period: Period) -> String {
    let drawn = &pods[..pods.len().min(MAX_DRAWN)];
    let height = ROW * i64::try_from(drawn.len()).expect("few") + 26;
    let rows: Vec<_> = drawn.iter().zip(0..).map(|(pod, number)| row(pod, period, number * ROW)).collect();
    let axis = height - 8;
    format!(
        "<svg viewBox=\"0 0 {} {height}\" role=\"img\" aria-label=\"Coverage\">\n{}\
         <text class=\"axis\" x=\"{LABEL}\" y=\"{axis}\">{}</text>\n\
         <text class=\"axis end\" x=\"{}\" y=\"{axis}\">{} UTC</text>\n</svg>\n",
        LABEL + WIDTH,
        rows.concat(),
        escape(&time_text(period.from)),
        LABEL + WIDTH,
        escape(&time_text(period.to)),
    )
}

fn row(pod: &Pod, period: Period, top: i64) -> String {
    let name = format!("{}/{}", pod.subject.namespace, pod.subject.pod);
    let bar = |class: &str, part: Period, said: &str| {
        let (from, to) = (place(part.from, period), place(part.to, period));
        format!(
            "<rect class=\"{class}\" x=\"{from}\" y=\"{}\" width=\"{}\" height=\"{}\"><title>{}</title></rect>\n",
            top + 4,
            (to - from).max(1),
            ROW - 8,
            escape(&format!("{} to {}: {said}", time_text(part.from), time_text(part.to)))
        )
    };
    let gaps = pod.gaps.iter().map(|gap| bar("gap", gap.period, &gap.describe()));
    let recorded = pod.recorded.iter().map(|recorded| bar("recorded", recorded.period, "under recording"));
    let bars: Vec<_> = gaps.chain(recorded).collect();
    format!("<text x=\"0\" y=\"{}\">{}</text>\n{}", top + 15, escape(&short(&name)), bars.concat())
}

fn place(time: Timestamp, period: Period) -> i64 {
    let whole = (period.to.as_millisecond() - period.from.as_millisecond()).max(1);
    let part = (time.as_millisecond() - period.from.as_millisecond()).clamp(0, whole);
    LABEL
        + i64::try_from(i128::from(part) * i128::from(WIDTH) / i128::from(whole)).expect("at most the width")
}

fn short(name: &str) -> String {
    const MOST: usize = 28;
    if name.chars().count() <= MOST {
        return name.to_owned();
    }
    format!("{}\u{2026}", name.chars().take(MOST - 1).collect::<String>())
}

fn table(pods: &[Pod]) -> String {
    let rows: Vec<_> = pods.iter().map(table_rows).collect();
    format!(
        "<table class=\"coverage\">\n<tr><th>Pod</th><th>From</th><th>To (UTC)</th><th></th></tr>\n{}</table>\n",
        rows.concat()
    )
}

fn table_rows(pod: &Pod) -> String {
    let name = format!("{}/{}", pod.subject.namespace, pod.subject.pod);
    let line = |class: &str, part: Period, said: &str| {
        format!(
            "<tr class=\"{class}\"><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
            escape(&name),
            escape(&time_text(part.from)),
            escape(&time_text(part.to)),
            escape(said)
        )
    };
    let recorded =
        pod.recorded.iter().map(|one| (one.period, line("recorded", one.period, "under recording")));
    let gaps = pod.gaps.iter().map(|gap| (gap.period, line("gap", gap.period, &gap.describe())));
    let mut lines: Vec<_> = recorded.chain(gaps).collect();
    lines.sort_by_key(|(period, _)| period.from);
    let mut text: String = lines.into_iter().map(|(_, line)| line).collect();
    let missing = [
        (pod.missing_statements, "statements of its sessions never came"),
        (pod.refused_unrecorded, "calls were refused without room to record them"),
    ];
    for (count, what) in missing.into_iter().filter(|(count, _)| *count > 0) {
        text.push_str(&format!(
            "<tr class=\"gap\"><td>{}</td><td></td><td></td><td>{count} {what}</td></tr>\n",
            escape(&name)
        ));
    }
    text
}
