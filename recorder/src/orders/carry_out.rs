//! Carrying out orders: a task of the running recorder.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use ledger::log_keys::LogSigners;
use ledger::note::NoteSigner as _;
use ledger::statement::{Body, KeyChange, MAX_ORDER_TEXT, kind};
use tokio::sync::watch;

use super::{Answer, DIR, DONE, MAX_ORDER, ORDER, Order, What};
use crate::error::Refusal;
use crate::index::Progress;
use crate::sequencer::Queue;
use crate::store::error::{StoreError, at};
use crate::store::files::{Files, put_durably};
use crate::store::keys::{self, Signer};
use crate::store::reader::LogReader;

/// Between two looks for orders.
const PAUSE: Duration = Duration::from_millis(500);

/// After an order that could not be carried out for now, it is tried again this much later.
const AGAIN: Duration = Duration::from_secs(10);

/// What orders are carried out with.
pub struct Orders {
    /// The data directory.
    pub files: Arc<dyn Files>,
    /// Says what is done in the log.
    pub queue: Queue,
    /// Reads the log.
    pub reader: LogReader,
    /// Signs.
    pub signer: Signer,
    /// How far the search index is.
    pub index: watch::Receiver<Progress>,
    /// Hears that the log's keys were changed.
    pub keys_changed: Box<dyn Fn() + Send + Sync>,
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotDone {
    /// It can't be: it is answered so.
    #[error("{0}")]
    Refused(String),
    /// Not now: it stays, and is tried again, also by the next start.
    #[error("{0}")]
    Later(String),
}

impl From<StoreError> for NotDone {
    fn from(error: StoreError) -> Self {
        Self::Later(error.to_string())
    }
}

impl From<Refusal> for NotDone {
    fn from(refusal: Refusal) -> Self {
        Self::Later(refusal.to_string())
    }
}

impl Orders {
    /// Carries out what is ordered, one order after the other, until the recorder stops.
    pub async fn run(self) {
        loop {
            let pause = match self.look().await {
                Ok(()) => PAUSE,
                Err(error) => {
                    tracing::error!(%error, "an order could not be carried out; trying again");
                    AGAIN
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn look(&self) -> Result<(), NotDone> {
        let names = self.files.list(DIR).map_err(at("list", DIR))?;
        for id in names.iter().filter_map(|name| name.strip_suffix(ORDER)) {
            let path = format!("{DIR}/{id}{ORDER}");
            let answer = match self.order(&path).await {
                Ok(answer) => answer,
                Err(NotDone::Refused(message)) => Answer { done: false, message, entries: Vec::new() },
                Err(later) => return Err(later),
            };
            tracing::info!(order = id, done = answer.done, entries = ?answer.entries, "{}", answer.message);
            let text = serde_json::to_vec(&answer).map_err(|error| NotDone::Later(error.to_string()))?;
            put_durably(&*self.files, &format!("{DIR}/{id}{DONE}"), &text, false)?;
            self.files.remove(&path).map_err(at("remove", &path))?;
        }
        Ok(())
    }

    async fn order(&self, path: &str) -> Result<Answer, NotDone> {
        let order = self.read(path)?;
        match order.what {
            What::AddKey => self.add_key(order).await,
            What::RetireKey => self.retire_key(order).await,
            What::DeleteBlob { digest } => self.delete(&order, vec![digest]).await,
            What::DeleteTexts { entry } => {
                let digests = self.texts_of(entry).await?;
                self.delete(&order, digests).await
            }
        }
    }

    fn read(&self, path: &str) -> Result<Order, NotDone> {
        let length = self.files.len(path).map_err(at("look at", path))?.unwrap_or(0);
        if length > MAX_ORDER {
            return Err(NotDone::Refused(format!("an order has at most {MAX_ORDER} bytes")));
        }
        let bytes = self.files.read(path).map_err(at("read", path))?;
        let order: Order = serde_json::from_slice(&bytes)
            .map_err(|error| NotDone::Refused(format!("this is no order: {error}")))?;
        for text in [&order.by, &order.reason] {
            let odd = text.chars().any(char::is_control);
            if text.is_empty() || text.len() > MAX_ORDER_TEXT || odd {
                let what =
                    format!("who orders it and why must be said, in at most {MAX_ORDER_TEXT} bytes each");
                return Err(NotDone::Refused(what));
            }
        }
        Ok(order)
    }

    /// A new key beside the one that there is.
    async fn add_key(&self, order: Order) -> Result<Answer, NotDone> {
        let before = self.signer.keys();
        let [old] = before.keys() else {
            let keys = before.verifiers();
            return Err(NotDone::Refused(format!(
                "the log signs with two keys already; retire the older one first:\n{keys}"
            )));
        };
        let new = keys::make(before.verifiers().name())?;
        let added = new.verifier().to_string();
        let after =
            LogSigners::new(vec![new, old.clone()]).map_err(|error| NotDone::Later(error.to_string()))?;
        let change = KeyChange {
            by: order.by,
            reason: order.reason,
            added: Some(added.clone()),
            retired: None,
            note: before.sign_change(&after),
        };
        let index = self.change(change, after).await?;
        let message = format!(
            "the log signs with a new key too, as entry {index} says: {added}\nHand it out, and retire the old one when \
             everybody has it"
        );
        Ok(Answer { done: true, message, entries: vec![index] })
    }

    /// The older of two keys goes.
    async fn retire_key(&self, order: Order) -> Result<Answer, NotDone> {
        let before = self.signer.keys();
        let [new, old] = before.keys() else {
            return Err(NotDone::Refused("the log signs with one key: add another one first".into()));
        };
        let after = LogSigners::from(new.clone());
        let retired = old.verifier().to_string();
        let change = KeyChange {
            by: order.by,
            reason: order.reason,
            added: None,
            retired: Some(retired.clone()),
            note: before.sign_change(&after),
        };
        let index = self.change(change, after).await?;
        let message = format!("the log signs no more with {retired}, as entry {index} says");
        Ok(Answer { done: true, message, entries: vec![index] })
    }

    /// The log says it first; then it is so on the disk, and only then for who signs. It is done when the newest checkpoint is
    /// signed so too: whoever is told of the new keys finds a log that they verify, also where nothing more is recorded.
    async fn change(&self, change: KeyChange, after: LogSigners) -> Result<u64, NotDone> {
        let note = change.note.clone();
        let index = self.queue.say(kind::LOG_KEY, Body { key: Some(change), ..Body::default() }).await?;
        keys::store(&*self.files, &after)?;
        self.signer.change(after, note);
        keys::store_notes(&*self.files, &self.signer.notes())?;
        (self.keys_changed)();
        self.reader.want_checkpoint();
        self.wait("a checkpoint by the log's new keys", |orders| orders.is_signed_anew(index)).await?;
        tracing::warn!(index, at = %Timestamp::now(), "the log's keys were changed");
        Ok(index)
    }

    /// Does the newest checkpoint cover this entry, and is it signed by the keys that sign now, and by no other?
    fn is_signed_anew(&self, index: u64) -> bool {
        let published = self.reader.published();
        let text = published.note.split_once("\n\n").map_or("", |(text, _)| text);
        // The same keys give the same signatures.
        published.size > index && self.signer.sign_note(&format!("{text}\n")) == *published.note
    }
}
