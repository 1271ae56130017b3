//! An AdmissionReview as it arrives and as it is answered. The object stays JSON: what this program does not know of it is
//! neither lost nor patched away.

use connection::patch;
use connection::refuse::Refusal;
use k8s_openapi::api::authentication::v1::UserInfo;
use serde::Deserialize;
use serde_json::{Value, json};

/// What the API server asks.
#[derive(Clone, Debug, Deserialize)]
pub struct Review {
    /// The question.
    pub request: Request,
}

/// One request of somebody to the API server.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Request {
    /// Names this question in its answer.
    pub uid: String,
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    pub operation: String,
    /// The object's namespace.
    pub namespace: String,
    /// The object's name; empty where the server will generate it.
    pub name: String,
    /// Such as `exec` of `pods/exec`.
    pub sub_resource: String,
    /// Who asks.
    pub user_info: UserInfo,
    /// The object as it would be stored; null for a deletion.
    pub object: Value,
    /// The object as it is stored; null for a creation.
    pub old_object: Value,
    /// Nothing will be stored.
    pub dry_run: bool,
}

impl Request {
    /// Who asks, as Kubernetes names them.
    #[must_use]
    pub fn user(&self) -> &str {
        self.user_info.username.as_deref().unwrap_or_default()
    }

    /// Is the user in this group?
    #[must_use]
    pub fn in_group(&self, group: &str) -> bool {
        self.user_info.groups.iter().flatten().any(|one| one == group)
    }
}

/// What is answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// Why not; nothing when it may be.
    pub refusals: Vec<Refusal>,
    /// The object as it should be, where that is another.
    pub becomes: Option<Value>,
    /// What the client should be told; `kubectl` prints it.
    pub warnings: Vec<String>,
    /// What happened, as metrics have it: `unselected`, `injected`, `allowed`.
    pub category: &'static str,
}

/// Longest warning, in bytes: the API server cuts longer ones, and drops the rest when there are many.
const MAX_WARNING: usize = 250;

/// Most warnings in one answer; what is left is counted in the last.
const MAX_WARNINGS: usize = 8;

impl Answer {
    /// Nothing stands against it.
    #[must_use]
    pub fn allowed(category: &'static str) -> Self {
        Self { category, ..Self::default() }
    }

    /// Not like this.
    #[must_use]
    pub fn refused(refusals: Vec<Refusal>) -> Self {
        let category = refusals.first().map_or("refused", Refusal::category);
        Self { refusals, category, ..Self::default() }
    }

    /// Refused where there are refusals, else allowed.
    #[must_use]
    pub fn unless(refusals: Vec<Refusal>) -> Self {
        if refusals.is_empty() { Self::allowed("allowed") } else { Self::refused(refusals) }
    }

    /// The AdmissionReview to send back.
    #[must_use]
    pub fn to_review(&self, request: &Request) -> Value {
        let mut response = json!({"uid": request.uid, "allowed": self.refusals.is_empty()});
        if !self.refusals.is_empty() {
            let sentences: Vec<_> = self.refusals.iter().map(ToString::to_string).collect();
            let message = sentences.join("; ");
            response["status"] =
                json!({"status": "Failure", "code": 403, "reason": "Forbidden", "message": message});
        } else if let Some(becomes) = &self.becomes {
            let patch = patch::between(&request.object, becomes);
            if !patch.0.is_empty() {
                response["patchType"] = "JSONPatch".into();
                response["patch"] = base64(&serde_json::to_vec(&patch).unwrap_or_default()).into();
            }
        }
        if !self.warnings.is_empty() {
            response["warnings"] = warnings(&self.warnings).into();
        }
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
    }
}

fn warnings(all: &[String]) -> Vec<String> {
    let mut shown: Vec<_> = all.iter().take(MAX_WARNINGS).map(|text| cut(text, MAX_WARNING)).collect();
    if all.len() > MAX_WARNINGS {
        shown.push(format!(
            "and {} more: see the pod's annotation bqwitness.dev/conflicts",
            all.len() - MAX_WARNINGS
        ));
    }
    shown
}

fn cut(text: &str, limit: usize) -> String {
    let end = (0..=limit.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text[..end].to_owned()
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
