//! Who reads: what the handlers of reads share.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::HeaderMap;
use ledger::search::access::Access;

use super::Api;
use crate::authz::{Reader, Right};
use crate::error::{Reason, Refusal};
use crate::reads::{Request, What};

/// Greatest length of a namespace's name: a DNS label.
const MAX_NAMESPACE: usize = 63;

/// `GET /v1/access`: what the bearer may read. It says nothing of the record, and is no entry.
///
/// # Errors
/// [`Reason::NoToken`] and its like, [`Reason::NameANamespace`], [`Reason::AccessUnavailable`]
pub async fn access(State(api): State<Arc<Api>>, headers: HeaderMap) -> Result<Json<Access>, Refusal> {
    let identity = api.verifier.verify_reader(Api::token(&headers)?).await?;
    Ok(Json(api.access.describe(&identity, &api.searcher).await?))
}

impl Api {
    /// Who sent this request, as a reader who does this, in one namespace or in all that it may.
    ///
    /// # Errors
    /// A [`Refusal`]: no token, or not a good one; or the bearer may not.
    pub async fn reader(
        &self,
        headers: &HeaderMap,
        right: Right,
        namespace: Option<&str>,
    ) -> Result<Reader, Refusal> {
        let identity = self.verifier.verify_reader(Self::token(headers)?).await?;
        namespace.map_or(Ok(()), check_namespace)?;
        self.access.reader(identity, right, namespace, &self.searcher).await
    }

    /// Makes it an entry that these places were read; `found` entries are in the answer. A blob is a request without any.
    ///
    /// # Errors
    /// It can't be recorded, and is not to be answered.
    pub async fn note_entries(
        &self,
        reader: &Reader,
        places: Option<(u64, u64)>,
        found: u64,
    ) -> Result<(), Refusal> {
        let (what, filter) = (What::Entries, String::new());
        self.noted.note(Request { user: reader.user(), what, filter, words: None, places, found }).await
    }
}

fn check_namespace(name: &str) -> Result<(), Refusal> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !name.is_empty() && name.len() <= MAX_NAMESPACE && name.bytes().all(plain) {
        return Ok(());
    }
    Err(Refusal::new(Reason::BadQuery, "namespace: is the name of a Kubernetes namespace"))
}
