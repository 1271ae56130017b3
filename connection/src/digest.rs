//! The digest of a spec, which entries name.

pub use ledger::canonical::canonical;
use ledger::digest::Digest;

use crate::resource::BigQueryConnectionSpec;

/// SHA-256 of the spec as canonical JSON ([`canonical`]).
///
/// # Panics
/// Never: a spec is made of texts and numbers.
#[must_use]
pub fn spec_digest(spec: &BigQueryConnectionSpec) -> Digest {
    Digest::of(canonical_spec(spec).as_bytes())
}

/// The spec as canonical JSON: names sorted, no white space, defaults written out, absent fields left out.
///
/// # Panics
/// Never: a spec is made of texts and numbers.
#[must_use]
pub fn canonical_spec(spec: &BigQueryConnectionSpec) -> String {
    canonical(serde_json::to_value(spec).expect("a spec is made of texts and numbers")).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(yaml: &str) -> BigQueryConnectionSpec {
        serde_saphyr::from_str(yaml).unwrap()
    }

    #[test]
    fn defaults_and_order_make_no_difference() {
        let short = spec("{identity: {mode: Passthrough}, pods: {serviceAccountName: billing}}");
        let long = spec(
            "{pods: {serviceAccountName: billing}, identity: {mode: Passthrough}, \
             recording: {results: Digest}, \
             interception: {otherEgress: Splice, mode: Redirect, otherGoogleApis: Inspect}}",
        );
        assert_eq!(spec_digest(&short), spec_digest(&long));
        assert_eq!(
            canonical_spec(&short),
            r#"{"identity":{"mode":"Passthrough"},"interception":{"mode":"Redirect","otherEgress":"Splice","otherGoogleApis":"Inspect"},"pods":{"serviceAccountName":"billing"},"recording":{"results":"Digest","statements":"Text"}}"#
        );
        let other = spec("{identity: {mode: Passthrough}, pods: {serviceAccountName: other}}");
        assert_ne!(spec_digest(&short), spec_digest(&other));
    }
}
