//! Who asked for the spec that is stored: the webhook notes it in the connection, where nobody else can; the controller makes an
//! entry of it once the generation is there.

use k8s_openapi::api::authentication::v1::UserInfo;
use ledger::digest::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most groups that are noted, and the greatest length of each name, in bytes. What is more is left out, and `truncated` says
/// so.
const MAX_GROUPS: usize = 32;
const MAX_TEXT: usize = 256;

/// Most bytes of groups, as JSON: an entry has the spec too.
const MAX_GROUPS_BYTES: usize = 8 * 1024;

/// Most bytes of generations that are not on record yet, as JSON: an object's annotations have 256 KiB. A further change of the
/// spec is refused until the recorder has taken them.
pub const MAX_BEFORE: usize = 128 * 1024;

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
        let mut left = MAX_GROUPS_BYTES;
        let mut fits = |group: &String| {
            let bytes = Value::from(group.as_str()).to_string().len() + 1;
            left.checked_sub(bytes).is_some_and(|rest| {
                left = rest;
                true
            })
        };
        let groups: Vec<_> =
            all.iter().take(MAX_GROUPS).map(|group| cut(group)).take_while(|group| fits(group)).collect();
        let truncated = cut(&name) != name || groups != all;
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

/// A generation that was superseded before it was on record: the webhook keeps it in the connection until it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Before {
    /// Its generation.
    pub generation: i64,
    /// Who asked for it, where that was noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Accepted>,
    /// Its spec, as it was stored.
    pub spec: Value,
}

impl Before {
    /// As the annotation has them.
    ///
    /// # Panics
    /// Never: they are JSON.
    #[must_use]
    pub fn to_annotation(all: &[Self]) -> String {
        serde_json::to_string(all).expect("they are JSON")
    }

    /// From the annotation; none when it is not ours.
    #[must_use]
    pub fn from_annotation(text: &str) -> Vec<Self> {
        serde_json::from_str(text).unwrap_or_default()
    }
}

fn cut(text: &str) -> String {
    let end = (0..=MAX_TEXT.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_bounded_in_number_and_bytes() {
        let user = |groups: Vec<String>| UserInfo {
            username: Some("dev-lead".into()),
            groups: Some(groups),
            ..UserInfo::default()
        };
        let digest = Digest::of(b"spec");
        let few = Accepted::new(&user(vec!["a".into(), "b".into()]), digest);
        assert_eq!((few.groups.len(), few.truncated), (2, false));
        let many = Accepted::new(&user((0..40).map(|n| n.to_string()).collect()), digest);
        assert_eq!((many.groups.len(), many.truncated), (MAX_GROUPS, true));
        // Control characters take six bytes each in JSON.
        let wide = Accepted::new(&user(vec!["\u{1}".repeat(MAX_TEXT); 32]), digest);
        assert!(wide.truncated && wide.to_annotation().len() < 2 * MAX_GROUPS_BYTES, "{}", wide.groups.len());
        assert_eq!(Accepted::from_annotation(&wide.to_annotation()), Some(wide));
    }
}
