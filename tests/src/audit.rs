//! The ledger audit: what must hold after any fault, whatever it was.
//!
//! 1. The log verifies, and every entry that a receipt promised is in it, at its place.
//! 2. Every call has one intent and at most one outcome; one without an outcome is named in its session's `session.lost`.
//! 3. What reached "BigQuery" is what the log says was forwarded: the same requests, by method, each as often. A call that is
//!    named in `session.lost` may have reached it; so may one whose connection broke before there was an answer, which the sidecar
//!    records as sent, since it can't know.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ledger::call::{CallResult, Intent, Outcome};
use ledger::receipt::ReceiptEntry;
use ledger::tree::leaf_hash;
use uuid::Uuid;

use crate::front::Arrival;
use crate::log::{self, Logged};
use crate::programs::Auditor;
use crate::trouble::{Result, Trouble};

/// The sidecar's reason for a call whose connection broke before there was an answer.
const BROKEN: &str = "upstream_broken";

/// How the calls of a log ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The agent has the whole answer.
    pub answered: usize,
    /// The sidecar refused it.
    pub refused: usize,
    /// No answer, or one that broke off.
    pub failed: usize,
    /// The agent went away, or the sidecar stopped.
    pub aborted: usize,
    /// Nobody knows: the sidecar fell silent.
    pub lost: usize,
}

/// A call, as the log has it.
#[derive(Debug)]
struct Call<'a> {
    intent: &'a Intent,
    outcome: Option<&'a Outcome>,
}

/// What came to a method: method and request line.
type Requests = BTreeMap<(String, String), usize>;

/// Audits the log in `data`, a recorder's directory: see the module. `arrivals` are the front's, `receipts` the gate's.
///
/// # Errors
/// Something does not hold: says what.
pub async fn audit(
    auditor: &Auditor,
    data: &Path,
    key: &Path,
    arrivals: &[Arrival],
    receipts: &[ReceiptEntry],
) -> Result<Account> {
    let arguments = ["verify-log", &data.display().to_string(), "--key", &key.display().to_string()];
    let verified = auditor.bqwitness(&arguments).await?;
    if verified.code != Some(0) {
        return Err(Trouble::new(format!("the log does not verify: {}", verified.said())));
    }
    promised(&log::leaves(data)?, receipts)?;
    balance(&log::read(data)?, arrivals)
}

/// Holds receipts against the log's leaves.
///
/// # Errors
/// A promised entry is not there, or another one is in its place.
pub fn promised(leaves: &[Vec<u8>], receipts: &[ReceiptEntry]) -> Result<()> {
    for receipt in receipts {
        let leaf = usize::try_from(receipt.index).ok().and_then(|index| leaves.get(index));
        if leaf.map(|leaf| leaf_hash(leaf)) != Some(receipt.leaf_hash) {
            return Err(Trouble::new(format!(
                "entry {} was acknowledged, and is not in the log",
                receipt.index
            )));
        }
    }
    Ok(())
}

/// Holds the calls of a log against each other, and against what the front saw arrive.
///
/// # Errors
/// See the module's points 2 and 3.
pub fn balance(entries: &[Logged], arrivals: &[Arrival]) -> Result<Account> {
    let lost = named_lost(entries);
    let (mut account, mut forwarded, mut uncertain) = (Account::default(), Requests::new(), Requests::new());
    for ((session, seq), call) in calls(entries)? {
        let is_lost = lost.contains(&(session, seq));
        let request = request_of(call.intent);
        match call.outcome {
            None if is_lost => {
                account.lost += 1;
                *uncertain.entry(request).or_default() += 1;
                continue;
            }
            None => return Err(Trouble::new(format!("call {seq} of {session} has no outcome: {request:?}"))),
            Some(_) if is_lost => return Err(Trouble::new(format!("call {seq} of {session} is not lost"))),
            Some(outcome) => {
                account.count(outcome.result);
                if may_have_left(outcome) {
                    *uncertain.entry(request).or_default() += 1;
                } else if outcome.forwarded {
                    *forwarded.entry(request).or_default() += 1;
                }
            }
        }
    }
    the_same(&forwarded, &uncertain, &arrived(arrivals))?;
    Ok(account)
}

impl Account {
    fn count(&mut self, result: CallResult) {
        *match result {
            CallResult::Answered => &mut self.answered,
            CallResult::Refused => &mut self.refused,
            CallResult::Failed => &mut self.failed,
            CallResult::Aborted => &mut self.aborted,
        } += 1;
    }
}

/// Every call by session and `seq` of its intent.
fn calls(entries: &[Logged]) -> Result<BTreeMap<(Uuid, u64), Call<'_>>> {
    let mut calls = BTreeMap::new();
    for Logged { statement, .. } in entries {
        if let Some(intent) = &statement.body.intent
            && calls.insert((statement.session, statement.seq), Call { intent, outcome: None }).is_some()
        {
            return Err(Trouble::new(format!("two intents {} in {}", statement.seq, statement.session)));
        }
    }
    for Logged { statement, .. } in entries {
        let Some(outcome) = &statement.body.outcome else { continue };
        let place = (statement.session, outcome.call);
        let call = calls.get_mut(&place);
        let call = call.ok_or_else(|| Trouble::new(format!("an outcome without an intent: {place:?}")))?;
        if call.outcome.replace(outcome).is_some() {
            return Err(Trouble::new(format!("two outcomes of one call: {place:?}")));
        }
        if call.intent.refused.is_some() && (outcome.forwarded || outcome.result == CallResult::Answered) {
            return Err(Trouble::new(format!("a refused call went on: {place:?}")));
        }
    }
    Ok(calls)
}

/// The connection broke while the request was on its way: how much of it arrived, nobody on this side knows.
fn may_have_left(outcome: &Outcome) -> bool {
    outcome.forwarded && outcome.reason.as_deref() == Some(BROKEN)
}

fn named_lost(entries: &[Logged]) -> BTreeSet<(Uuid, u64)> {
    let lost = entries.iter().filter_map(|entry| entry.statement.body.lost.as_ref());
    lost.flat_map(|lost| lost.open_intents.iter().map(|seq| (lost.session, *seq))).collect()
}

fn request_of(intent: &Intent) -> (String, String) {
    (intent.method.clone(), format!("{} https://{}{}", intent.http.verb, intent.http.host, intent.http.path))
}

fn arrived(arrivals: &[Arrival]) -> Requests {
    let mut requests = Requests::new();
    for arrival in arrivals {
        *requests.entry((arrival.method(), arrival.line())).or_default() += 1;
    }
    requests
}

fn the_same(forwarded: &Requests, uncertain: &Requests, arrived: &Requests) -> Result<()> {
    let all: BTreeSet<_> = forwarded.keys().chain(arrived.keys()).collect();
    let count = |requests: &Requests, key| requests.get(key).copied().unwrap_or(0);
    for request in all {
        let (left, came) = (count(forwarded, request), count(arrived, request));
        let most = left + count(uncertain, request);
        if !(left..=most).contains(&came) {
            return Err(Trouble::new(format!(
                "the log says forwarded {left} times (and {} perhaps), the front saw {came}: {request:?}\nthe log: {forwarded:#?}\n\
                 the front: {arrived:#?}",
                most - left
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
