//! A question resolved against a world, and judged.

use std::net::IpAddr;
use std::sync::Arc;

use super::request::{OwnedRequest, canonicalise};
use super::{Answer, Question, QuestionError};
use crate::canonical::Refusal;
use crate::facts::{Connection, End, Place, Request};
use crate::model::BreakGlass;
use crate::registry::{ServiceId, WorkloadId};
use crate::verdict::{Action, Audit, Reason, Verdict};
use crate::world::{Flow, World};

/// A question whose names are resolved in one world and whose request is canonical, or refused.
#[derive(Debug)]
pub struct Asked<'q> {
    question: &'q Question,
    source: End<'q>,
    destination: End<'q>,
    service: Option<ServiceId>,
    flow: Flow,
    request: Result<OwnedRequest, Refusal>,
}

/// A verdict, and why there was no canonical request where it is a reject.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The verdict.
    pub verdict: Verdict,
    /// The refusal.
    pub refusal: Option<Refusal>,
    /// The emergency by which alone it passes.
    pub emergency: Option<Arc<BreakGlass>>,
}

impl Question {
    /// Finds both ends in the world's registry, explicit members first, and makes the request canonical.
    /// `now` is used where the question does not say.
    ///
    /// # Errors
    /// A workload or service that the registry does not have.
    pub fn ask(&self, world: &World, now: i64) -> Result<Asked<'_>, QuestionError> {
        let source = match &self.source.workload {
            Some(named) => workload(world, "src.workload", named, self.source.ip)?,
            None => address(world, self.source.ip),
        };
        let source = End { principal: self.source.principal.as_deref(), ..source };
        let mut service = None;
        let destination = if let Some(named) = &self.destination.workload {
            workload(world, "dst.workload", named, self.destination.ip)?
        } else if let Some((namespace, name)) = &self.destination.service {
            let id = world
                .registry()
                .find_service(namespace, name)
                .ok_or_else(|| QuestionError::new("dst.service", format!("no service `{namespace}/{name}`")))?;
            service = Some(id);
            let own = world.registry().service(id).and_then(|service| service.ips.first().copied());
            End { address: self.destination.ip.or(own), place: Place::Unknown, principal: None }
        } else {
            service = self.destination.ip.and_then(|ip| world.registry().service_at(ip));
            address(world, self.destination.ip)
        };
        let connection = self.connection(source, destination, service);
        let flow = world.flow(&connection);
        let request = canonicalise(self, world.canonical_scope(&flow), self.now.unwrap_or(now));
        Ok(Asked { question: self, source, destination, service, flow, request })
    }

    /// Asks and answers.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn answer(&self, world: &World, now: i64) -> Result<Answer, QuestionError> {
        let judged = self.ask(world, now)?.judge(world);
        Ok(Answer::new(self.id.clone(), &judged, world))
    }

    fn connection<'q>(&'q self, source: End<'q>, destination: End<'q>, service: Option<ServiceId>) -> Connection<'q> {
        Connection {
            source,
            destination,
            port: self.destination.port,
            transport: self.transport,
            service,
            fqdn: self.destination.fqdn.as_deref(),
            direction: self.direction,
        }
    }
}

impl Asked<'_> {
    /// The connection as the world resolved it.
    #[must_use]
    pub fn connection(&self) -> Connection<'_> {
        self.question.connection(self.source, self.destination, self.service)
    }

    /// The canonical request.
    ///
    /// # Errors
    /// Why there is none.
    pub fn request(&self) -> Result<Request<'_>, Refusal> {
        self.request.as_ref().map(OwnedRequest::request).map_err(|refusal| *refusal)
    }

    /// The verdict of the world that it was asked of.
    #[must_use]
    pub fn judge(&self, world: &World) -> Judged {
        match self.request() {
            Ok(request) => {
                let verdict = world.request_verdict(&self.flow, &request);
                let opens = verdict.reason == Reason::BreakGlass;
                let emergency = world.emergency(&self.flow, request.now).filter(|_| opens).cloned();
                Judged { verdict, refusal: None, emergency }
            }
            Err(refusal) => {
                let proof = crate::model::interpret::proof(&self.connection());
                let audit = Some(Audit { action: Action::Reject, reason: Reason::Rejected, rule: None });
                let verdict = Verdict { action: Action::Reject, reason: Reason::Rejected, rule: None, proof, audit };
                Judged { verdict, refusal: Some(refusal), emergency: None }
            }
        }
    }
}

/// Who an address is; without one nobody knows.
fn address(world: &World, ip: Option<IpAddr>) -> End<'static> {
    ip.map_or(End { address: None, place: Place::Unknown, principal: None }, |ip| world.source(ip))
}

/// A workload by name, at the stated address or its own first one. A `hostNetwork` one shares its node's address, so
/// who is there is the node.
fn workload(
    world: &World,
    member: &str,
    (namespace, name): &(String, String),
    ip: Option<IpAddr>,
) -> Result<End<'static>, QuestionError> {
    let registry = world.registry();
    let missing = || QuestionError::new(member, format!("no workload `{namespace}/{name}`"));
    let id: WorkloadId = registry.find_workload(namespace, name).ok_or_else(missing)?;
    let found = registry.workload(id).ok_or_else(missing)?;
    let at = ip.or_else(|| found.ips.first().copied());
    Ok(match at {
        Some(at) if found.host_network => world.source(at),
        at => End { address: at.map(|at| at.to_canonical()), place: Place::Workload(id), principal: None },
    })
}
