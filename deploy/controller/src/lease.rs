//! Who of the replicas writes: the one that holds a `Lease` of `coordination.k8s.io`.
//!
//! As in client-go the clocks of two machines are never compared: a lease has run out when it was seen unchanged for its
//! whole duration. A holder that cannot renew stops well before that, so that two never write at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;

use crate::kubernetes::Said;
use crate::metrics::Metrics;

/// What the lease is called, and who wants it.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) namespace: String,
    pub(crate) lease: String,
    /// Of this replica alone.
    pub(crate) identity: String,
    /// Without a renewal for this long another replica takes over.
    pub(crate) duration: Duration,
}

impl Candidate {
    /// A holder that could not renew for this long no longer acts.
    fn deadline(&self) -> Duration {
        self.duration * 2 / 3
    }

    fn retry(&self) -> Duration {
        self.duration * 2 / 15
    }
}

/// Wants the lease until `ends`, then gives it back. Tells whether this replica leads.
pub(crate) async fn campaign(
    client: Client,
    candidate: Candidate,
    leads: watch::Sender<bool>,
    metrics: Arc<Metrics>,
    mut ends: watch::Receiver<bool>,
) {
    let api: Api<Lease> = Api::namespaced(client, &candidate.namespace);
    let mut rounds = tokio::time::interval(candidate.retry());
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut seen = Seen::default();
    let mut renewed: Option<Instant> = None;
    let tell = |now: bool| {
        let is_new = leads.send_if_modified(|leads| std::mem::replace(leads, now) != now);
        if is_new {
            metrics.leads(now);
            tracing::info!(identity = candidate.identity, lease = candidate.lease, leads = now, "leadership");
        }
    };
    loop {
        tokio::select! {
            _ = rounds.tick() => {}
            _ = ends.wait_for(|ends| *ends) => break,
        }
        let started = Instant::now();
        let round = tokio::time::timeout(candidate.retry(), round(&api, &candidate, &mut seen));
        match round.await {
            Ok(Ok(true)) => renewed = Some(started),
            Ok(Ok(false)) => renewed = None,
            Ok(Err(error)) => tracing::debug!(error = %Said(&error), "the lease could not be asked for"),
            Err(_) => tracing::debug!("the API server does not answer for the lease"),
        }
        tell(renewed.is_some_and(|renewed| renewed.elapsed() < candidate.deadline()));
    }
    tell(false);
    if renewed.is_some() {
        let gave = tokio::time::timeout(candidate.retry(), give_back(&api, &candidate)).await;
        if !matches!(gave, Ok(Ok(()))) {
            tracing::warn!("the lease could not be given back: another replica takes it when it has run out");
        }
    }
}

/// The lease as it was last seen to change.
#[derive(Default)]
struct Seen {
    spec: Option<LeaseSpec>,
    at: Option<Instant>,
}

impl Seen {
    /// Whether the lease has been the same for its whole duration.
    fn has_run_out(&mut self, spec: &LeaseSpec, now: Instant) -> bool {
        if self.spec.as_ref() != Some(spec) {
            (self.spec, self.at) = (Some(spec.clone()), Some(now));
        }
        let seconds = u64::try_from(spec.lease_duration_seconds.unwrap_or_default()).unwrap_or_default();
        self.at.is_none_or(|at| now.duration_since(at) >= Duration::from_secs(seconds))
    }
}

/// One attempt to take or renew the lease: whether this replica holds it. Somebody else who wrote in between makes the
/// write fail, since it names the version that was read.
async fn round(api: &Api<Lease>, candidate: &Candidate, seen: &mut Seen) -> Result<bool, kube::Error> {
    let Some(mut lease) = api.get_opt(&candidate.lease).await? else {
        let metadata = ObjectMeta { name: Some(candidate.lease.clone()), ..ObjectMeta::default() };
        let spec = Some(held(None, candidate));
        return won(api.create(&PostParams::default(), &Lease { metadata, spec }).await);
    };
    let spec = lease.spec.take().unwrap_or_default();
    let holder = spec.holder_identity.as_deref().unwrap_or_default();
    let is_free = holder.is_empty() || holder == candidate.identity || seen.has_run_out(&spec, Instant::now());
    if !is_free {
        return Ok(false);
    }
    lease.spec = Some(held(Some(&spec), candidate));
    won(api.replace(&candidate.lease, &PostParams::default(), &lease).await)
}

fn won(written: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match written {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

/// The lease in the hands of this replica.
fn held(before: Option<&LeaseSpec>, candidate: &Candidate) -> LeaseSpec {
    let is_mine = before.is_some_and(|spec| spec.holder_identity.as_ref() == Some(&candidate.identity));
    let now = Some(MicroTime(jiff::Timestamp::now()));
    let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or_default();
    LeaseSpec {
        holder_identity: Some(candidate.identity.clone()),
        lease_duration_seconds: i32::try_from(candidate.duration.as_secs()).ok(),
        acquire_time: before.filter(|_| is_mine).and_then(|spec| spec.acquire_time.clone()).or_else(|| now.clone()),
        renew_time: now,
        lease_transitions: Some(if is_mine { transitions } else { transitions.saturating_add(1) }),
        ..LeaseSpec::default()
    }
}

async fn give_back(api: &Api<Lease>, candidate: &Candidate) -> Result<(), kube::Error> {
    let mut lease = api.get(&candidate.lease).await?;
    if let Some(spec) = &mut lease.spec
        && spec.holder_identity.as_ref() == Some(&candidate.identity)
    {
        spec.holder_identity = None;
        api.replace(&candidate.lease, &PostParams::default(), &lease).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(identity: &str) -> Candidate {
        let duration = Duration::from_secs(15);
        Candidate { namespace: "n".into(), lease: "l".into(), identity: identity.into(), duration }
    }

    #[test]
    fn a_lease_runs_out_by_the_clock_of_who_looks() {
        let mut spec = held(None, &candidate("a"));
        // However old it says that it is.
        spec.renew_time = Some(MicroTime(jiff::Timestamp::UNIX_EPOCH));
        let start = Instant::now();
        let mut seen = Seen::default();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(!seen.has_run_out(&spec, start));
        assert!(!seen.has_run_out(&spec, after(14)));
        spec.renew_time = Some(MicroTime(jiff::Timestamp::now()));
        assert!(!seen.has_run_out(&spec, after(16)), "renewed in between");
        assert!(seen.has_run_out(&spec, after(31)));
    }

    #[test]
    fn a_change_of_hands_is_counted() {
        let first = held(None, &candidate("a"));
        let renewed = held(Some(&first), &candidate("a"));
        assert_eq!((renewed.lease_transitions, &renewed.acquire_time), (first.lease_transitions, &first.acquire_time));
        let taken = held(Some(&renewed), &candidate("b"));
        assert_eq!((taken.lease_transitions, taken.holder_identity.as_deref()), (Some(2), Some("b")));
        assert!(candidate("a").deadline() < candidate("a").duration);
    }
}
