//! What a speaker says that is no call: an operator's words about connections and pods. Whoever says it keeps it until it is recorded:
//! what was in line when a session ended is said again in the next one.

use bytes::Bytes;
use ledger::statement::{Body, Connection};

use super::chain::Saying;
use super::recorder::DeliveryError;
use super::sender::State;
use super::{Deliver, NotRecorded};

/// Something to be recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// The connection that it is about.
    pub connection: Connection,
    /// The part of exactly one kind.
    pub body: Body,
}

/// Why nothing is delivered now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The fixed name of the reason.
    pub category: &'static str,
    /// What it means.
    pub message: String,
}

impl Deliver {
    /// Says these in order, and waits until each is recorded, or its session is over. After the first that is not recorded for
    /// another reason than its own size, none is.
    pub async fn notices(&self, notices: &[Notice]) -> Vec<Result<(), NotRecorded>> {
        let line = self.line();
        let said: Vec<_> = notices
            .iter()
            .map(|notice| {
                let connection = Some(notice.connection.clone());
                line.say(Saying { connection, body: notice.body.clone(), ..Saying::default() }, None, None)
            })
            .collect();
        let mut results = Vec::with_capacity(said.len());
        for one in said {
            let recorded = match one {
                Ok((_, recorded)) => recorded.await.map_err(|_| {
                    line.over()
                        .unwrap_or_else(|| NotRecorded::new("session_ended", "the session ended first"))
                }),
                Err(error) => Err(error),
            };
            results.push(recorded);
        }
        results
    }

    /// Waits until there is a session that goes on; the process may end before.
    pub async fn going_on(&self) {
        let mut lines = self.lines.clone();
        // An error means that there will be none any more.
        if lines.wait_for(|line| line.over().is_none()).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// What is in the way of delivery, if anything is.
    #[must_use]
    pub fn trouble(&self) -> Option<Trouble> {
        match &*self.line().state.borrow() {
            State::Working => None,
            State::Failing { category, message } | State::Over { category, message } => {
                Some(Trouble { category, message: message.to_string() })
            }
        }
    }

    /// The index of the session's last entry that was acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> Option<u64> {
        self.line().acknowledged.borrow().map(|entry| entry.index)
    }

    /// What the recorder tells this speaker, at a path of its API such as `/v1/connections`.
    ///
    /// # Errors
    /// [`DeliveryError`]
    pub async fn ask(&self, path: &str) -> Result<Bytes, DeliveryError> {
        self.recorder.ask(path).await
    }
}
