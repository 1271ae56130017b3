//! The Helm chart, as `helm` renders it.

use serde_json::Value;

use crate::cluster::Kubectl;
use crate::tools::root;
use crate::trouble::{Doing as _, Result, Trouble};

/// Where the tests install it.
pub const NAMESPACE: &str = "bqwitness-system";

/// The values that must be given.
pub const LEAST: [&str; 2] = ["clusterName=prod", "recorder.origin=recorder.example.com/prod"];

/// `helm template` with these values besides [`LEAST`]: the manifest.
///
/// # Errors
/// The chart refuses them, with what `helm` says.
pub async fn render(kubectl: &Kubectl, values: &[&str]) -> Result<String> {
    let rendered = kubectl.helm(&words(&["template", "bqwitness"], values)).await?;
    if rendered.success() { Ok(rendered.stdout) } else { Err(Trouble::new(rendered.stderr)) }
}

/// One template of it, such as `operator/rbac`, for another namespace.
///
/// # Errors
/// The chart refuses it, with what `helm` says.
pub async fn render_in(kubectl: &Kubectl, namespace: &str, template: &str) -> Result<String> {
    let template = format!("templates/{template}.yaml");
    let chart = root().join("charts/bqwitness").display().to_string();
    let mut words = vec!["template", "bqwitness", &chart, "--namespace", namespace, "--show-only", &template];
    words.extend(LEAST.iter().flat_map(|value| ["--set", *value]));
    let rendered = kubectl.helm(&words).await?;
    if rendered.success() { Ok(rendered.stdout) } else { Err(Trouble::new(rendered.stderr)) }
}

/// The objects of a manifest.
///
/// # Errors
/// It is no YAML.
pub fn objects(manifest: &str) -> Result<Vec<Value>> {
    let all: Vec<Value> = serde_saphyr::from_multiple(manifest).doing("reading a manifest")?;
    Ok(all.into_iter().filter(Value::is_object).collect())
}

/// `COMMAND... CHART -n NAMESPACE --set-string ...`
#[must_use]
pub fn words<'a>(command: &[&'a str], values: &[&'a str]) -> Vec<&'a str> {
    static CHART: std::sync::LazyLock<String> =
        std::sync::LazyLock::new(|| root().join("charts/bqwitness").display().to_string());
    let mut words = [command, &[&CHART, "--namespace", NAMESPACE]].concat();
    words.extend(LEAST.iter().chain(values).flat_map(|value| ["--set", *value]));
    words
}
