//! The sessions of this process, one after another. When the recorder takes nothing more for a session (it heard nothing for
//! too long and closed it, or does not know it), a new one begins that names it, and agents go on. Calls that were open then
//! have no outcome: `session.lost` names them, or nobody does. A log that does not hold ends the last session for good.

use std::sync::Arc;
use std::time::Duration;

use ledger::statement::{Body, Connection, PreviousSession, SessionStart};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use super::chain::Chain;
use super::follow::Follower;
use super::going::ProgressSettings;
use super::line::Line;
use super::metrics::Metrics;
use super::recorder::Recorder;
use super::sender::{Sender, State};
use super::{HEARTBEAT, NotRecorded};

/// First pause before a new session when the one before was never acknowledged; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Longest pause between two sessions that are not acknowledged.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Opens one session after another.
pub(super) struct Sessions {
    pub(super) recorder: Recorder,
    pub(super) connection: Option<Connection>,
    pub(super) start: SessionStart,
    pub(super) follow_every: Duration,
    pub(super) progress: ProgressSettings,
    pub(super) metrics: Metrics,
    /// True once the process is about to end.
    pub(super) ending: watch::Receiver<bool>,
}

/// A session that was opened: the line before it, and who delivers what is in line.
pub(super) struct Opened {
    pub(super) line: Arc<Line>,
    sender: Sender,
    follower: Follower,
}

impl Sessions {
    /// Opens a session; its first statement is in line.
    pub(super) fn open(&self, previous: Option<PreviousSession>) -> Opened {
        let (queue, receiver) = mpsc::unbounded_channel();
        let first = match &previous {
            None => State::Working,
            Some(previous) => State::Failing {
                category: "session_new",
                message: format!(
                    "session {} is over, and the next one is not acknowledged yet",
                    previous.session
                )
                .into(),
            },
        };
        let (state, observer) = watch::channel(first);
        let follower = Follower::new(self.recorder.clone(), self.follow_every);
        let (recorder, metrics) = (self.recorder.clone(), self.metrics.clone());
        let (receipts, acknowledged) = watch::channel(None);
        let sender = Sender { recorder, queue: receiver, state, receipts, metrics: metrics.clone() };
        let chain = Chain::new(Uuid::now_v7(), self.connection.clone());
        metrics.waiting.set(0); // what waited in the session before is gone with it
        let line = Line::new(chain, queue, observer, acknowledged, self.progress, metrics);
        let start = SessionStart { heartbeat_seconds: HEARTBEAT.as_secs(), previous, ..self.start.clone() };
        line.say_about_session(Body { start: Some(start), ..Body::default() });
        Opened { line: Arc::new(line), sender, follower }
    }

    /// Delivers until the process ends, or a session is over for good: then why.
    pub(super) async fn run(
        mut self,
        mut opened: Opened,
        lines: watch::Sender<Arc<Line>>,
    ) -> Option<NotRecorded> {
        let mut pause = FIRST_PAUSE;
        loop {
            let receipts = opened.sender.receipts.subscribe();
            opened.sender.run(opened.follower).await;
            let over = opened.line.over()?;
            if !is_renewable(over.category()) {
                return Some(over);
            }
            // A session that was acknowledged begins anew at once.
            pause = if receipts.borrow().is_some() { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
            let wait = if receipts.borrow().is_some() { Duration::ZERO } else { pause };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ending = self.ending.wait_for(|ending| *ending) => return Some(over),
            }
            let previous = PreviousSession { session: opened.line.session, reason: over.category().into() };
            opened = self.open(Some(previous));
            tracing::warn!(session = %opened.line.session, reason = over.category(), "a new session begins");
            lines.send_replace(Arc::clone(&opened.line));
        }
    }
}

/// Does a new session help? Not against a log that was rolled back or forked: whoever runs it has to say what happened.
fn is_renewable(category: &str) -> bool {
    category != "log_broken"
}
