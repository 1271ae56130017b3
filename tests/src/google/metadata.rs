//! The metadata server of a node of GKE: it gives whoever reaches it a token of the pod's Google service account.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use serde_json::json;

use super::serve::{Answer, Server};
use super::{BIGQUERY_SCOPE, Tokens};
use crate::trouble::Result;

/// How long its tokens live.
const HOUR: Duration = Duration::from_secs(3600);

const ACCOUNT: &str = "/computeMetadata/v1/instance/service-accounts/default";

/// A metadata server; it stops when it is dropped.
#[derive(Debug)]
pub struct MetadataServer {
    _server: Server,
    tokens_given: Arc<AtomicUsize>,
}

impl MetadataServer {
    /// Serves plain HTTP at `address`, for the one pod that acts as `account`.
    ///
    /// # Errors
    /// The address can't be listened on.
    pub async fn start(address: SocketAddr, tokens: Tokens, account: &str) -> Result<Self> {
        let (account, tokens_given) = (account.to_owned(), Arc::new(AtomicUsize::new(0)));
        let given = Arc::clone(&tokens_given);
        let server = Server::start(address, None, move |head, _body| {
            let deliberate = head.headers.get("metadata-flavor").is_some_and(|flavor| flavor == "Google");
            let answer = match head.uri.path() {
                _ if !deliberate => text(StatusCode::FORBIDDEN, "Missing Metadata-Flavor"),
                "/computeMetadata/v1/project/project-id" => text(StatusCode::OK, "acme-data"),
                path if path == format!("{ACCOUNT}/email") => text(StatusCode::OK, &account),
                path if path == format!("{ACCOUNT}/token") => {
                    given.fetch_add(1, Ordering::SeqCst);
                    token(&tokens, &account)
                }
                _ => text(StatusCode::NOT_FOUND, "not found"),
            };
            std::future::ready(answer)
        })
        .await?;
        Ok(Self { _server: server, tokens_given })
    }

    /// How many tokens it gave.
    #[must_use]
    pub fn tokens_given(&self) -> usize {
        self.tokens_given.load(Ordering::SeqCst)
    }
}

fn token(tokens: &Tokens, account: &str) -> Answer {
    match tokens.issue(account, BIGQUERY_SCOPE, HOUR) {
        Ok(token) => flavored(Answer::json(
            StatusCode::OK,
            &json!({ "access_token": token, "expires_in": HOUR.as_secs(), "token_type": "Bearer" }),
        )),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn text(status: StatusCode, body: &str) -> Answer {
    flavored(Answer { status, headers: Vec::new(), body: body.into() })
}

fn flavored(mut answer: Answer) -> Answer {
    answer.headers.push(("metadata-flavor", "Google".into()));
    answer
}
