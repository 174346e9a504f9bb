//! Connections that are judged as a whole: opaque TCP, and TLS that is passed through.

use std::time::{Duration, Instant};

use eastwall_policy::facts::{Fact, Protocol, Request};
use eastwall_policy::verdict::{Action, Verdict};
use eastwall_policy::world::ConnectionVerdict;
use tokio::io::AsyncWriteExt;

use super::{Session, Told, revoked};
use crate::identity::Judged;
use crate::observe::{Alert, AlertKind, Limit};
use crate::policy::Watch;
use crate::stream::{Buffer, ByteStream, Copied, Copy, reset};
use crate::tls;

/// Passes bytes both ways for as long as the world allows it.
///
/// `first` was read from the client already. `request` gives what the connection is judged by, at the moment of asking;
/// `None` where every request is allowed, so that the connection verdict alone counts.
pub(super) async fn pass<'r>(
    session: &Session,
    mut client: ByteStream,
    first: Buffer,
    protocol: Protocol,
    allowed: (&Judged, &Verdict, Duration),
    request: Option<&dyn Fn() -> Request<'r>>,
    watch: &mut Watch,
) -> Copied {
    let started = Instant::now();
    let (judged, verdict, decision) = allowed;
    let facts = request.map(|request| request());
    let mut told = Told {
        judged,
        verdict,
        refusal: None,
        protocol,
        request: facts.as_ref(),
        status: None,
        decision,
        started,
        revoked: false,
    };
    session.tell(&told, None);
    let mut upstream = match session.dial().await {
        Ok(upstream) => upstream,
        Err(error) => {
            reset(client);
            return Copied { received: first.bytes().len() as u64, sent: 0, result: Err(error) };
        }
    };
    let idle = session.worker.limits.idle_timeout;
    let mut copy = Copy::new((&mut client, first), (&mut upstream, Buffer::default()), idle);
    let again = |judged: &Judged| judge_again(judged, request);
    let copied = tokio::select! {
        biased;
        (judged, verdict) = revoked(session, watch, again) => {
            let decision = session.recorder.decision_id();
            told.judged = &judged;
            told.verdict = &verdict;
            told.revoked = true;
            session.tell(&told, Some(decision));
            let (received, sent) = copy.totals();
            Copied { received, sent, result: Err(std::io::ErrorKind::PermissionDenied.into()) }
        }
        copied = copy.run() => copied,
    };
    if let Err(error) = &copied.result {
        if error.kind() == std::io::ErrorKind::TimedOut {
            session.worker.recorder.refused_connection(Limit::IdleTimeout);
        }
        reset(client);
        reset(upstream);
    }
    copied
}

/// After a swap: bytes that flow unseen must still be allowed unseen.
fn judge_again<'r>(judged: &Judged, request: Option<&dyn Fn() -> Request<'r>>) -> Verdict {
    if let Some(policy) = judged.asks_for_tokens()
        && request.is_none_or(|request| request().protocol == Fact::Unknown)
    {
        // As below: it may be HTTP, and its tokens were not looked at.
        return judged.world.unauthenticated(&judged.flow, policy, super::now());
    }
    match (judged.world.connection_verdict(&judged.flow, super::now()), request) {
        (ConnectionVerdict::Opaque(verdict) | ConnectionVerdict::Deny(verdict), _) => verdict,
        (ConnectionVerdict::Inspect, Some(request)) => judged.world.request_verdict(&judged.flow, &request()),
        // It was opaque and must now be looked at, which for bytes in the middle of a stream is too late. What could
        // not be seen is unknown, so it is denied unless a rule allows it whatever it is.
        (ConnectionVerdict::Inspect, None) => {
            judged.world.request_verdict(&judged.flow, &Request::unseen(super::now()))
        }
    }
}

/// Ends a connection that was denied as a whole: an alert for a TLS client, else a reset. The destination was never
/// dialled. `mismatch`: first bytes that are not what the port or the rules say, for whoever is on call.
pub(super) async fn refuse(session: &Session, mut client: ByteStream, told: &Told<'_>, mismatch: Option<&[u8]>) {
    debug_assert!(told.verdict.action != Action::Allow, "only what is not allowed is refused");
    let decision = session.recorder.decision_id();
    session.tell(told, Some(decision));
    if let Some(evidence) = mismatch {
        session.recorder.alert(&Alert {
            kind: AlertKind::ProtocolMismatch,
            world: &told.judged.world,
            direction: session.ends.direction,
            source: session.ends.source,
            destination: session.ends.destination,
            source_workload: told.judged.source_workload,
            destination_workload: told.judged.destination_workload,
            decision_id: Some(decision),
            detail: "first bytes of another protocol than the port or the rules say",
            evidence,
        });
    }
    if told.protocol == Protocol::Tls {
        // The alert fits into an empty socket buffer; a client that is gone does not need it.
        if client.write_all(&tls::ACCESS_DENIED).await.is_ok() && client.shutdown().await.is_ok() {
            return;
        }
    }
    reset(client);
}
