//! Why there is no credential: one fixed category for each, the same in metrics, logs, readiness and the agent's error.

/// Longest text of another's that an error repeats, in bytes; the rest is cut off.
const MAX_DETAIL: usize = 300;

/// A word of another's text that is longer than this could be a token, and is left out. Error codes and host names are not.
const MAX_WORD: usize = 48;

/// The sidecar has no Google credential for this pod.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub struct CredentialError {
    category: Category,
    message: String,
}

/// The kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Category {
    /// No answer was given yet, and nothing has failed.
    Pending,
    /// The pod's token is not where the settings say.
    SubjectTokenMissing,
    /// The file holds no token.
    SubjectTokenInvalid,
    /// The pod's token is over its time: the kubelet does not renew it.
    SubjectTokenExpired,
    /// This machine's clock and Google's differ too much.
    ClockSkew,
    /// No connection to the token service, or no answer in time.
    StsUnreachable,
    /// The token service answers 5xx or 429.
    StsUnavailable,
    /// The token service answers 4xx: provider, audience or condition.
    StsRefused,
    /// No connection to the IAM credentials service, or no answer in time.
    ImpersonationUnreachable,
    /// The IAM credentials service answers 5xx or 429.
    ImpersonationUnavailable,
    /// The IAM credentials service answers 4xx: the principal may not act as the service account.
    ImpersonationDenied,
    /// No connection to the metadata server, or no answer in time.
    MetadataUnreachable,
    /// The metadata server gives no token: no Google service account is bound.
    MetadataRefused,
    /// An answer that is none of the form that Google documents.
    AnswerMalformed,
}

impl Category {
    /// The fixed name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "credential_pending",
            Self::SubjectTokenMissing => "subject_token_missing",
            Self::SubjectTokenInvalid => "subject_token_invalid",
            Self::SubjectTokenExpired => "subject_token_expired",
            Self::ClockSkew => "clock_skew",
            Self::StsUnreachable => "sts_unreachable",
            Self::StsUnavailable => "sts_unavailable",
            Self::StsRefused => "sts_refused",
            Self::ImpersonationUnreachable => "impersonation_unreachable",
            Self::ImpersonationUnavailable => "impersonation_unavailable",
            Self::ImpersonationDenied => "impersonation_denied",
            Self::MetadataUnreachable => "metadata_unreachable",
            Self::MetadataRefused => "metadata_refused",
            Self::AnswerMalformed => "credential_malformed",
        }
    }
}

impl CredentialError {
    /// An error that tells the reader what to do.
    #[must_use]
    pub fn new(category: Category, message: impl Into<String>) -> Self {
        Self { category, message: message.into() }
    }

    /// The fixed name of this error.
    #[must_use]
    pub fn category(&self) -> &'static str {
        self.category.name()
    }

    /// True when somebody has said no: waiting does not help, a change of the set-up does.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        use Category::{ImpersonationDenied, MetadataRefused, StsRefused};
        matches!(self.category, StsRefused | ImpersonationDenied | MetadataRefused)
    }
}

/// What another said, fit to be logged and shown: one line, cut, and without anything that could be a token. A server may
/// repeat what it was sent.
#[must_use]
pub fn harmless(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let mut harmless = String::new();
    for word in words {
        let word = if word.len() > MAX_WORD { "(...)" } else { word };
        if harmless.len() + word.len() >= MAX_DETAIL {
            break;
        }
        if !harmless.is_empty() {
            harmless.push(' ');
        }
        harmless.push_str(word);
    }
    harmless
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_a_token_is_not_repeated() {
        let jwt = format!("eyJhbGciOiJSUzI1NiJ9.{}.c2ln", "eyJzdWIiOiJ4In0".repeat(10));
        let said = harmless(&format!("The token {jwt}\nis not\u{1b}[31m valid: invalid_grant"));
        assert_eq!(said, "The token (...) is not [31m valid: invalid_grant");
        assert!(harmless(&"word ".repeat(1000)).len() <= MAX_DETAIL);
        assert_eq!(harmless(&format!("\"{jwt}\"")), "(...)");
    }
}
