//! Who asked for the spec that is stored: the webhook notes it in the connection, where nobody else can; the controller makes an
//! entry of it once the generation is there.

use k8s_openapi::api::authentication::v1::UserInfo;
use ledger::digest::Digest;
use serde::{Deserialize, Serialize};

/// Most groups that are noted, and the greatest length of each name, in bytes. What is more is left out, and `truncated` says
/// so.
const MAX_GROUPS: usize = 32;
const MAX_TEXT: usize = 256;

/// Who, and which spec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Accepted {
    /// As the API server knows them.
    pub user: String,
    /// Their groups.
    pub groups: Vec<String>,
    /// There were more groups, or longer names.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// SHA-256 of the spec that they asked for.
    pub spec: Digest,
}

impl Accepted {
    /// From what the API server says of the user.
    #[must_use]
    pub fn new(user: &UserInfo, spec: Digest) -> Self {
        let name = user.username.clone().unwrap_or_default();
        let all = user.groups.clone().unwrap_or_default();
        let truncated =
            name.len() > MAX_TEXT || all.len() > MAX_GROUPS || all.iter().any(|group| group.len() > MAX_TEXT);
        let groups = all.iter().take(MAX_GROUPS).map(|group| cut(group)).collect();
        Self { user: cut(&name), groups, truncated, spec }
    }

    /// As the annotation has it.
    ///
    /// # Panics
    /// Never: texts are JSON.
    #[must_use]
    pub fn to_annotation(&self) -> String {
        serde_json::to_string(self).expect("texts are JSON")
    }

    /// From the annotation; `None` when it is not ours, as in a connection that was stored while no webhook was there.
    #[must_use]
    pub fn from_annotation(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

fn cut(text: &str) -> String {
    let end = (0..=MAX_TEXT.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text[..end].to_owned()
}
