//! Which replica leads: the holder of a Lease. Every replica answers the webhook; one alone writes status, events and entries.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};

/// A holder that has not renewed for this long has lost the lease.
const DURATION: SignedDuration = SignedDuration::from_secs(15);

/// The lease is looked at this often.
const EVERY: Duration = Duration::from_secs(3);

/// A holder that could not renew for this long gives up by itself, before another may take over.
const GIVE_UP: Duration = Duration::from_secs(10);

/// A look at the lease takes no longer; one that does has failed.
const STEP: Duration = Duration::from_secs(4);

/// A candidate.
pub struct Candidate {
    /// Leases of the operator's namespace.
    pub leases: Api<Lease>,
    /// The lease's name.
    pub name: String,
    /// This replica, unlike all others: its pod's name.
    pub identity: String,
}

/// What to do about the lease, given what it says.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// It is another's: wait.
    Wait,
    /// It is ours, or free: write this.
    Write(Box<LeaseSpec>),
}

/// The lease can't be looked at.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("the API server has not answered within {STEP:?}")]
    Late,
}

impl Candidate {
    /// Waits until this replica leads.
    pub async fn acquire(&self) {
        loop {
            match self.step().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::debug!(lease = self.name, "not the leader: {error}"),
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Renews until this replica no longer leads. The process should then end: what it has under way is another's by now.
    pub async fn hold(&self) {
        // What is written in the lease is the time at which the step began that took it.
        let mut renewed = Instant::now().checked_sub(STEP).unwrap_or_else(Instant::now);
        loop {
            tokio::time::sleep(EVERY).await;
            let began = Instant::now();
            match tokio::time::timeout(GIVE_UP.saturating_sub(renewed.elapsed()), self.step()).await {
                Ok(Ok(true)) => renewed = began,
                Ok(Ok(false)) => return,
                Ok(Err(error)) => tracing::warn!(lease = self.name, "the lease can't be renewed: {error}"),
                Err(_) => tracing::warn!(lease = self.name, "the lease can't be renewed in time"),
            }
            if renewed.elapsed() >= GIVE_UP {
                return;
            }
        }
    }

    /// Gives the lease back, so that the next leader need not wait for its end.
    pub async fn release(&self) {
        let Ok(Some(mut lease)) = self.leases.get_opt(&self.name).await else { return };
        let Some(spec) =
            lease.spec.as_mut().filter(|spec| spec.holder_identity.as_deref() == Some(&self.identity))
        else {
            return;
        };
        spec.holder_identity = None;
        spec.lease_duration_seconds = Some(1);
        if let Err(error) = self.leases.replace(&self.name, &PostParams::default(), &lease).await {
            tracing::debug!(lease = self.name, "not given back: {error}");
        }
    }

    async fn step(&self) -> Result<bool, StepError> {
        Ok(tokio::time::timeout(STEP, self.take()).await.map_err(|_| StepError::Late)??)
    }

    async fn take(&self) -> Result<bool, kube::Error> {
        let stored = self.leases.get_opt(&self.name).await?;
        let now = Timestamp::now();
        let Step::Write(spec) =
            step(stored.as_ref().and_then(|lease| lease.spec.as_ref()), &self.identity, now)
        else {
            return Ok(false);
        };
        // Two that write at once: the API server takes the first, and tells the second of a conflict.
        match stored {
            Some(lease) => {
                let next = Lease { spec: Some(*spec), ..lease };
                self.leases.replace(&self.name, &PostParams::default(), &next).await?;
            }
            None => {
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                self.leases.create(&PostParams::default(), &Lease { metadata, spec: Some(*spec) }).await?;
            }
        }
        Ok(true)
    }
}

fn step(stored: Option<&LeaseSpec>, me: &str, now: Timestamp) -> Step {
    let holder = stored.and_then(|spec| spec.holder_identity.as_deref()).filter(|holder| !holder.is_empty());
    let ours = holder == Some(me);
    let renewed = stored.and_then(|spec| spec.renew_time.as_ref()).map(|time| time.0);
    let lasts = stored
        .and_then(|spec| spec.lease_duration_seconds)
        .map_or(DURATION, |seconds| SignedDuration::from_secs(seconds.into()));
    let free = holder.is_none() || renewed.is_none_or(|renewed| now.duration_since(renewed) > lasts);
    if !ours && !free {
        return Step::Wait;
    }
    let before = stored.filter(|_| ours).and_then(|spec| spec.acquire_time.clone());
    let transitions = stored.and_then(|spec| spec.lease_transitions).unwrap_or(0);
    Step::Write(Box::new(LeaseSpec {
        holder_identity: Some(me.into()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: before.or(Some(MicroTime(now))),
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(if ours { transitions } else { transitions.saturating_add(1) }),
        ..LeaseSpec::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn written(step: Step) -> LeaseSpec {
        match step {
            Step::Write(spec) => *spec,
            Step::Wait => panic!("it waits"),
        }
    }

    #[test]
    fn a_lease_is_taken_held_and_taken_over() {
        let first = written(step(None, "a", at(0)));
        assert_eq!(step(Some(&first), "b", at(15)), Step::Wait);
        let renewed = written(step(Some(&first), "a", at(10)));
        assert_eq!(
            (renewed.acquire_time, renewed.lease_transitions),
            (first.acquire_time.clone(), first.lease_transitions)
        );
        let taken = written(step(Some(&first), "b", at(16)));
        assert_eq!((taken.holder_identity.as_deref(), taken.lease_transitions), (Some("b"), Some(2)));
        assert_eq!(step(Some(&taken), "a", at(17)), Step::Wait);
    }

    #[test]
    fn a_lease_that_was_given_back_is_free() {
        let mut given_back = written(step(None, "a", at(0)));
        given_back.holder_identity = None;
        assert_eq!(written(step(Some(&given_back), "b", at(1))).holder_identity.as_deref(), Some("b"));
    }

    #[test]
    fn a_holder_gives_up_before_another_takes_over() {
        let over = SignedDuration::try_from(GIVE_UP + EVERY).unwrap();
        assert!(over < DURATION, "its last look begins before it has to give up");
    }
}
