//! Files that are made from the code, committed, and compared by a test: the CRD, and its page in the reference.

use std::fmt::Write as _;

use connection::BigQueryConnection;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use kube::CustomResourceExt as _;

/// A file of the project.
#[derive(Debug)]
pub struct Generated {
    /// Its path in the project.
    pub path: &'static str,
    /// What it holds.
    pub content: String,
}

/// All of them.
///
/// # Panics
/// When the types make no CRD, which a test would have noticed.
#[must_use]
pub fn all() -> Vec<Generated> {
    vec![
        Generated { path: "crds/bigqueryconnections.bqwitness.dev.yaml", content: crd() },
        Generated { path: "docs/reference/bigqueryconnection.md", content: reference() },
    ]
}

fn crd() -> String {
    let yaml =
        serde_saphyr::to_string(&BigQueryConnection::crd()).expect("a CRD is made of texts and numbers");
    format!(
        "# Made by `cargo run -p bqwitness-operator --bin crdgen`; change connection/src/resource.rs instead.\n{yaml}"
    )
}

fn reference() -> String {
    let crd = BigQueryConnection::crd();
    let version = crd.spec.versions.first().expect("a CRD has a version");
    let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
    let fields = schema.expect("a CRD has a schema").properties.as_ref().expect("of an object");
    let mut page = String::from(
        "# BigQueryConnection\n\n\
         <!-- Made by `cargo run -p bqwitness-operator --bin crdgen`; change connection/src/resource.rs instead. -->\n\n\
         API group `bqwitness.dev`, version `v1alpha1`, namespaced, short name `bqc`. `kubectl explain bqc.spec` says the same.\n\
         Fields in bold must be given.\n",
    );
    for part in ["spec", "status"] {
        let _infallible =
            writeln!(page, "\n## {part}\n\n| field | type | default | |\n|---|---|---|---|").is_ok();
        rows(&mut page, "", &fields[part]);
    }
    page
}

/// Kubernetes' own types are documented by Kubernetes: their fields are not repeated.
const FOREIGN: [&str; 2] = ["pods.selector", "conditions"];

fn rows(page: &mut String, path: &str, schema: &JSONSchemaProps) {
    for (name, field) in schema.properties.iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let required = schema.required.iter().flatten().any(|one| one == name);
        let shown = if required { format!("**`{path}`**") } else { format!("`{path}`") };
        let default = field.default.as_ref().map(|default| format!("`{}`", default.0)).unwrap_or_default();
        let text =
            field.description.as_deref().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
        let row = format!("| {shown} | {} | {} | {} |", kind(field), cell(&default), cell(&text));
        let _infallible = writeln!(page, "{row}").is_ok();
        if !FOREIGN.contains(&path.as_str()) {
            rows(page, &path, field);
        }
    }
}

fn kind(schema: &JSONSchemaProps) -> String {
    if let Some(values) = &schema.enum_ {
        let values: Vec<_> =
            values.iter().map(|value| format!("`{}`", value.0.as_str().unwrap_or_default())).collect();
        return values.join(", ");
    }
    schema.type_.clone().unwrap_or_default()
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn what_is_committed_is_what_the_code_makes() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for Generated { path, content } in all() {
            let committed = std::fs::read_to_string(root.join(path)).unwrap_or_default();
            assert!(
                committed == content,
                "{path} is out of date: cargo run -p bqwitness-operator --bin crdgen"
            );
        }
    }

    #[test]
    fn every_field_is_documented() {
        let page = reference();
        let bare: Vec<_> =
            page.lines().filter(|line| line.ends_with("|  |") && line.starts_with('|')).collect();
        assert_eq!(bare, [""; 0], "fields without a doc comment");
        assert!(
            page.contains("**`spec.pods`**") || page.contains("**`pods`**"),
            "required fields are bold: {page}"
        );
    }
}
