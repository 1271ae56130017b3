//! `POST /v1/exports`: somebody takes out evidence. That becomes an entry before the bundle is whole, and the bundle proves it.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Query, State};
use http::{HeaderMap, Uri};
use ledger::search::export::{Announcement, Entered};
use ledger::statement::{Body, MAX_FILTER, ReadExport, kind};

use super::Api;
use crate::authz::Right;
use crate::authz::access::must_cover;
use crate::error::{Reason, Refusal};
use crate::reads::MAX_READER;

/// The handler: who exports is taken from the token, the rest from the body.
///
/// # Errors
/// [`Reason::BadQuery`]: the body can't be read. [`Reason::NotAReader`], [`Reason::SubjectTooLarge`], [`Reason::Busy`], [`Reason::Stopping`].
pub async fn enter(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Result<Json<Announcement>, JsonRejection>,
) -> Result<Json<Entered>, Refusal> {
    let Json(announced) = body.map_err(|error| Refusal::new(Reason::BadQuery, error.body_text()))?;
    let Announcement { manifest, filter, entries, namespace } = announced;
    let filter = entered(&filter)?;
    let namespace = namespace.as_deref();
    let exports = api.reader(&headers, Right::Export, namespace).await?;
    let readable = api.reader(&headers, Right::Get, namespace).await?;
    must_cover(&exports, &readable.scope)?;
    let (reader, cluster) = (exports.user().reader(), exports.user().cluster.clone());
    if reader.len() > MAX_READER || cluster.len() > MAX_READER {
        return Err(Refusal::new(Reason::SubjectTooLarge, "the reader's name does not fit into an entry"));
    }
    let export = ReadExport { reader, cluster, manifest, filter, entries };
    let index = api.queue.say(kind::READ_EXPORT, Body { export: Some(export), ..Body::default() }).await?;
    Ok(Json(Entered { index }))
}

/// The filter as its entry has it: an entry is for ever, and words that were looked for may be somebody's name.
fn entered(filter: &str) -> Result<String, Refusal> {
    let bad = |message: String| Refusal::new(Reason::BadQuery, message);
    let printable = filter.bytes().all(|byte| byte.is_ascii_graphic());
    if filter.len() > MAX_FILTER || !printable {
        return Err(bad(format!("a filter is a query string of at most {MAX_FILTER} bytes")));
    }
    let not_one = |error: &dyn std::fmt::Display| bad(format!("the filter is not that of a search: {error}"));
    let uri = Uri::try_from(format!("/?{filter}")).map_err(|error| not_one(&error))?;
    let Query(query) =
        Query::<ledger::search::Query>::try_from_uri(&uri).map_err(|error| not_one(&error.body_text()))?;
    let entered = query.to_entered_filter();
    // Escapes may make it longer.
    if entered.len() > MAX_FILTER {
        return Err(bad(format!("a filter is a query string of at most {MAX_FILTER} bytes")));
    }
    Ok(entered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_not_entered_however_they_are_spelled() {
        for (asked, said) in [
            ("", ""),
            ("words=*", "words=*"),
            ("words=apple%20pie", "words=*"),
            ("wor%64s=apple+pie&table=t&agent=a%2fb", "agent=a%2Fb&table=t&words=*"),
        ] {
            assert_eq!(entered(asked).expect("a search's"), said);
        }
        let grows = format!("table={}", ":".repeat(MAX_FILTER - 6));
        for bad in ["apple+pie", "name=apple", "words=a&words=b", "limit=apple", &grows] {
            assert_eq!(entered(bad).expect_err("refused").reason, Reason::BadQuery, "{bad}");
        }
    }
}
