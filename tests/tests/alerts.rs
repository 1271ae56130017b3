//! The alerts and the dashboard of the chart: each alert fires when it should, and each metric and label that they name exists.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use bqwitness_tests::chart;
use bqwitness_tests::cluster::ControlPlane;
use bqwitness_tests::skip;
use bqwitness_tests::tools::root;
use serde_json::{Value, json};

/// Labels that Prometheus itself gives each target.
const OF_TARGETS: [&str; 4] = ["namespace", "pod", "container", "le"];

fn promtool() -> Option<PathBuf> {
    let path = std::fs::read_to_string(root().join("target/test-tools-promtool")).ok()?;
    Some(PathBuf::from(path.trim_end())).filter(|path| path.is_file())
}

#[test]
fn alerts_fire_when_they_should() {
    let Some(promtool) = promtool() else {
        return skip::skipped("no promtool here (tests/setup/promtool.sh)");
    };
    let test = root().join("tests/alerts/alerts.test.yaml");
    let output = Command::new(promtool).args(["test", "rules"]).arg(test).output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// An alert that no test makes fire may be one that never does.
#[test]
fn every_alert_is_tested() {
    let tests = std::fs::read_to_string(root().join("tests/alerts/alerts.test.yaml")).unwrap();
    let alerts = read("charts/bqwitness/files/alerts.yaml");
    let names: Vec<_> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        let fires = format!("ALERTS{{alertname=\"{name}\",alertstate=\"firing\"");
        assert!(tests.contains(&fires), "no test makes {name} fire");
    }
}

#[test]
fn every_metric_and_label_exists() {
    let exposed = exposed();
    for file in ["alerts.yaml", "dashboard.json"] {
        let text = read(&format!("charts/bqwitness/files/{file}")).replace("\\\"", "\"");
        let used = used(&text);
        assert!(used.len() > 10, "{file}: {used:?}");
        for (name, labels) in used {
            let known =
                exposed.get(&name).unwrap_or_else(|| panic!("{file} names {name}, which no program exposes"));
            for label in labels {
                let exists = known.contains(&label) || OF_TARGETS.contains(&label.as_str());
                assert!(exists, "{file} asks {name} for the label {label}; it has {known:?}");
            }
        }
    }
}

#[test]
fn a_metric_that_does_not_exist_is_found() {
    let used =
        used(r#"rate(bqwitness_nonsense_total{category="x", pod!~"y"}[5m]) > bqwitness_call_seconds_bucket"#);
    let labels = BTreeSet::from(["category".to_owned(), "pod".to_owned()]);
    assert_eq!(used["bqwitness_nonsense_total"], labels);
    assert!(!exposed().contains_key("bqwitness_nonsense_total"));
    assert!(used["bqwitness_call_seconds"].is_empty() && exposed().contains_key("bqwitness_call_seconds"));
}

/// Each PodMonitor selects pods that there are, and ports that they have; the rules are those that are tested.
#[tokio::test]
async fn what_is_scraped_is_there() {
    let Some(plane) = ControlPlane::shared().unwrap() else { return };
    let values = ["monitoring.enabled=true", "monitoring.labels.release=prometheus"];
    let objects = chart::objects(&chart::render(&plane.kubectl(), &values).await.unwrap()).unwrap();
    let of_kind = |kind: &'static str| objects.iter().filter(move |object| object["kind"] == kind);
    let mut scraped = Vec::new();
    for monitor in of_kind("PodMonitor") {
        assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus", "{monitor:#}");
        let ports = monitor["spec"]["podMetricsEndpoints"].as_array().unwrap().iter();
        let ports: Vec<_> = ports.map(|endpoint| endpoint["port"].as_str().unwrap()).collect();
        if let Some(selected) = monitor["spec"]["selector"]["matchExpressions"].as_array() {
            assert_eq!(
                *selected,
                [json!({"key": connection::names::CONNECTION_LABEL, "operator": "Exists"})]
            );
            let sidecar = read("connection/tests/golden/bare-pod.injected.yaml");
            assert!(ports.iter().all(|port| sidecar.contains(&format!("name: {port}\n"))), "{ports:?}");
            continue;
        }
        let pods: Vec<_> = objects.iter().filter(|object| is_of(object, monitor)).collect();
        let [workload] = pods[..] else { panic!("{monitor:#} selects {pods:#?}") };
        let containers = workload["spec"]["template"]["spec"].to_string();
        assert!(
            ports.iter().all(|port| containers.contains(&format!("\"name\":\"{port}\""))),
            "{containers}"
        );
        scraped.push(workload["metadata"]["name"].as_str().unwrap());
    }
    scraped.sort_unstable();
    assert_eq!(scraped, ["bqwitness-operator", "bqwitness-recorder"]);
    let rules: Vec<_> = of_kind("PrometheusRule").map(|rule| rule["spec"].clone()).collect();
    let tested: Value = serde_saphyr::from_str(&read("charts/bqwitness/files/alerts.yaml")).unwrap();
    assert_eq!(rules, [tested]);
}

/// Are these the pods of that monitor: of its namespace, with its labels?
fn is_of(workload: &Value, monitor: &Value) -> bool {
    let labels = &workload["spec"]["template"]["metadata"]["labels"];
    let wanted = monitor["spec"]["selector"]["matchLabels"].as_object().unwrap();
    labels.is_object()
        && workload["metadata"]["namespace"] == monitor["metadata"]["namespace"]
        && wanted.iter().all(|(name, value)| labels[name] == *value)
}

/// The metrics that a text of PromQL names, each with the labels that it is asked for. `{__name__=~"..."}` counts as a name for
/// each of its alternatives.
fn used(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let text = text.replace("bqwitness_(operator|keeper)_", "bqwitness_operator_");
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (start, _) in text.match_indices("bqwitness_") {
        let rest = &text[start..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let name = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| rest[..end].strip_suffix(suffix));
        let labels = used.entry(name.unwrap_or(&rest[..end]).to_owned()).or_default();
        let Some((selectors, _)) = rest[end..].strip_prefix('{').and_then(|rest| rest.split_once('}')) else {
            continue;
        };
        let named = selectors.split('"').step_by(2).filter_map(|part| part.split(['=', '!']).next());
        labels.extend(
            named.map(|label| label.trim_matches([',', ' ']).to_owned()).filter(|label| !label.is_empty()),
        );
    }
    used
}

/// The metrics of all programs, each with its labels, as their code makes them.
fn exposed() -> BTreeMap<String, BTreeSet<String>> {
    let mut exposed = BTreeMap::new();
    for program in ["proxy", "deliver", "recorder", "operator"] {
        sources(&root().join(program).join("src"), &mut |code| {
            for (start, _) in code.match_indices("\"bqwitness_") {
                let (name, rest) = code[start + 1..].split_once('"').unwrap();
                exposed.insert(name.to_owned(), labels(code, start, rest));
            }
        });
    }
    exposed
}

/// A metric's labels: the next ones before another metric's name, or those that come with the variable of its options.
fn labels(code: &str, start: usize, rest: &str) -> BTreeSet<String> {
    let before = code[..start].rsplit_once("let ").map_or("", |(_, binding)| binding.trim());
    let variable = before.strip_suffix(" = Opts::new(").filter(|name| !name.contains(char::is_whitespace));
    let found = match variable {
        Some(name) => code.split_once(&format!("::new({name}, &[\"")).map(|(_, labels)| labels),
        None => {
            rest.split("\"bqwitness_").next().and_then(|own| own.split_once("&[\"")).map(|(_, labels)| labels)
        }
    };
    let labels = found.and_then(|labels| labels.split_once("\"]")).map_or("", |(labels, _)| labels);
    labels.split("\", \"").filter(|label| !label.is_empty()).map(str::to_owned).collect()
}

/// Every `metrics.rs` below a folder.
fn sources(folder: &Path, each: &mut impl FnMut(&str)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, each);
        } else if path.file_name().is_some_and(|name| name == "metrics.rs") {
            each(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}
