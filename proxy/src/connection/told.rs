//! Tells the recorder of a verdict.

use std::time::{Duration, Instant};

use eastwall_policy::canonical::Refusal;
use eastwall_policy::facts::{Fact, Protocol, Request};
use eastwall_policy::verdict::Verdict;

use super::Session;
use crate::identity::Judged;
use crate::observe::{DecisionId, RequestEvent};

/// What is known when a request, a stream or an opaque connection has its verdict and its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told<'a> {
    /// The world that judged, and the ends as it saw them.
    pub(crate) judged: &'a Judged,
    /// What it said.
    pub(crate) verdict: &'a Verdict,
    /// Why it is no canonical request.
    pub(crate) refusal: Option<Refusal>,
    /// As declared or detected.
    pub(crate) protocol: Protocol,
    /// The request as it was judged, as far as it was understood.
    pub(crate) request: Option<&'a Request<'a>>,
    /// Status of the answer.
    pub(crate) status: Option<u16>,
    /// Time the decision took.
    pub(crate) decision: Duration,
    /// When the first byte of the request was seen.
    pub(crate) started: Instant,
    /// Whether a swap cut it.
    pub(crate) revoked: bool,
}

impl Session {
    /// Records a verdict.
    pub(crate) fn tell(&self, told: &Told<'_>, decision: Option<DecisionId>) {
        fn known<T>(fact: Fact<T>) -> Option<T> {
            match fact {
                Fact::Known(value) => Some(value),
                Fact::Absent | Fact::Unknown => None,
            }
        }
        let request = told.request;
        self.recorder.request(
            &RequestEvent {
                world: &told.judged.world,
                verdict: told.verdict,
                refusal: told.refusal,
                direction: self.ends.direction,
                protocol: told.protocol,
                source: self.ends.source,
                destination: self.ends.destination,
                source_workload: told.judged.source_workload,
                destination_workload: told.judged.destination_workload,
                principal: self.ends.principal.as_deref(),
                method: request.and_then(|request| known(request.method)),
                path: request.and_then(|request| known(request.path)),
                host: request.and_then(|request| known(request.host)),
                host_port: request.and_then(|request| request.host_port),
                sni: request.and_then(|request| known(request.sni)),
                status: told.status,
                decision: told.decision,
                duration: told.started.elapsed(),
                revoked: told.revoked,
            },
            decision,
        );
    }
}
