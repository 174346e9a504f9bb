//! A table joined with a registry: what a verdict is asked of.
//!
//! A world is immutable. A change of policies or of workloads makes a new one, which is swapped in whole, so every
//! verdict is of exactly one [`Generation`].

mod emergency;

use std::net::IpAddr;
use std::sync::Arc;

use crate::canonical;
use crate::facts::{Connection, Direction, End, Place, Request, Transport};
use crate::model::{JwtRule, Model, content, token};
use crate::registry::{Claimant, InboundMutualTls, Registry};
use crate::table::Table;
use crate::table::plan::{self, Plan, Residents};
use crate::verdict::{Action, Generation, Proof, Reason, RuleId, RuleRef, Verdict};
use emergency::{Side, opened};

/// Policies and registry, ready to answer.
#[derive(Debug)]
pub struct World {
    model: Arc<Model>,
    digests: Arc<content::Digests>,
    table: Arc<Table>,
    registry: Arc<Registry>,
    residents: Residents,
    generation: Generation,
    /// There is no table yet: every registered workload is closed.
    closed: bool,
    /// Nor is it known who is registered: everything is closed, for this reason.
    sealed: Option<Reason>,
}

/// One connection resolved against the world that made it: who both ends are and which scopes judge it. Keep it
/// beside its `Arc<World>`; with another world it means nothing.
#[derive(Debug)]
pub struct Flow {
    plan: Plan,
    /// It comes in plaintext to a workload that takes proven peers alone.
    lacks_proof: bool,
    /// Each side for itself, where an emergency opens one.
    sides: Vec<Side>,
}

/// What can be said of a connection before any request is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionVerdict {
    /// No request could be allowed.
    Deny(Verdict),
    /// Every request is allowed: bytes may pass unseen.
    Opaque(Verdict),
    /// It depends on the request.
    Inspect,
}

/// What canonicalisation needs to know of a flow's scopes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CanonicalScope {
    /// Opt-ins in force, the strictest of all.
    pub options: canonical::Options,
    /// Lower-case names of headers that rules in scope look at: a name that folds to one of them (`X_Role`) is
    /// refused, and so is a Connection header that nominates one.
    pub watched_headers: Vec<Arc<str>>,
    /// Rules of layer 4 alone are in scope (`tcp: {}`): requests are not canonicalised, so not rejected either.
    pub opaque: bool,
    /// A native rule in scope, of a policy in mode Audit too, asks what a token claims.
    pub asks_claims: bool,
    /// The tokens that policies of the destination accept.
    pub jwt_rules: Vec<ScopedJwtRule>,
}

/// One [`JwtRule`] of a scope.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScopedJwtRule {
    /// Position of its policy among all policies: [`RuleId::Policy`].
    pub policy: u32,
    /// What it accepts.
    pub rule: Arc<JwtRule>,
}

// === impl CanonicalScope ===

impl CanonicalScope {
    /// Watches the headers that tokens stand in, and brings all in order.
    pub(crate) fn finish(&mut self) {
        self.jwt_rules.sort_unstable();
        self.jwt_rules.dedup();
        let places = self.jwt_rules.iter().flat_map(|scoped| &scoped.rule.places);
        self.watched_headers.extend(places.filter_map(|place| place.header().map(Arc::from)));
        let told_in = self.jwt_rules.iter().flat_map(|scoped| &scoped.rule.told_in);
        self.watched_headers.extend(told_in.cloned());
        if self.asks_claims {
            self.watched_headers.push(token::AUTHORIZATION.into());
        }
        self.watched_headers.sort_unstable();
        self.watched_headers.dedup();
    }
}

// === impl World ===

impl World {
    /// Joins policies with a registry. `number` counts swaps since the process started, from 1.
    #[must_use]
    pub fn new(model: Arc<Model>, registry: Arc<Registry>, number: u64) -> Self {
        let digests = content::Digests::of(&model);
        let table = Table::build(&model);
        Self::joined(model, digests, table, registry, number)
    }

    /// The same as [`World::new`]; what is the same as in this world is taken over. Policies are the same where they are
    /// the same allocation.
    #[must_use]
    pub fn with_policies(&self, model: Arc<Model>, registry: Arc<Registry>, number: u64) -> Self {
        let digests = self.digests.after(&self.model, &model);
        let table = self.table.rebuild(&self.model, &model);
        Self::joined(model, digests, table, registry, number)
    }

    fn joined(
        model: Arc<Model>,
        digests: content::Digests,
        table: Table,
        registry: Arc<Registry>,
        number: u64,
    ) -> Self {
        let hash = digests.hash(&model).into();
        Self {
            model,
            digests: Arc::new(digests),
            table: Arc::new(table),
            residents: Residents::of(&registry),
            registry,
            generation: Generation { number, hash },
            closed: false,
            sealed: None,
        }
    }

    /// The same policies, joined with another registry: no rule is compiled again.
    #[must_use]
    pub fn with_registry(&self, registry: Arc<Registry>, number: u64) -> Self {
        Self {
            model: Arc::clone(&self.model),
            digests: Arc::clone(&self.digests),
            table: Arc::clone(&self.table),
            residents: Residents::of(&registry),
            registry,
            generation: Generation { number, hash: Arc::clone(&self.generation.hash) },
            closed: self.closed,
            sealed: self.sealed,
        }
    }

    /// A world without a table: every registered workload is closed.
    #[must_use]
    pub fn closed(registry: Arc<Registry>, number: u64) -> Self {
        Self { closed: true, ..Self::new(Arc::default(), registry, number) }
    }

    /// A world without a table and without a registry. Who is protected cannot be said, so nothing passes.
    #[must_use]
    pub fn sealed(number: u64) -> Self {
        Self { sealed: Some(Reason::NoTable), ..Self::closed(Arc::default(), number) }
    }

    /// What a connection is judged by that no policy has to be asked about: nothing passes, for this reason.
    #[must_use]
    pub fn refusing(reason: Reason, number: u64) -> Self {
        Self { sealed: Some(reason), ..Self::sealed(number) }
    }

    /// Nothing passes, whoever is registered.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.sealed.is_some()
    }

    /// Why nothing passes, whoever is registered.
    #[must_use]
    pub fn refuses(&self) -> Option<Reason> {
        self.sealed
    }

    /// There is no table: everything that it would judge is refused.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// How many registered workloads no policy closes in this direction.
    #[must_use]
    pub fn unprotected(&self, direction: Direction) -> usize {
        if self.closed {
            return 0;
        }
        plan::unprotected(&self.table, &self.model, &self.registry, &self.residents, direction)
    }

    /// The generation that every verdict of this world carries.
    #[must_use]
    pub fn generation(&self) -> &Generation {
        &self.generation
    }

    /// The registry in force.
    #[must_use]
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The policies in force.
    #[must_use]
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The compiled policies.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Who a connection from this address comes from, as far as the registry knows.
    #[must_use]
    pub fn source(&self, address: IpAddr) -> End<'static> {
        self.end(address)
    }

    /// Who a connection to this address reaches. A Service's address is nobody's: say which Service in
    /// [`Connection::service`] ([`Registry::service_at`]).
    #[must_use]
    pub fn destination(&self, address: IpAddr) -> End<'static> {
        self.end(address)
    }

    /// Whether somebody whose policies are asked is reached at this address: a workload, endpoints of a Service, or each
    /// of several that claim it.
    #[must_use]
    pub fn has_subject_at(&self, address: IpAddr) -> bool {
        let serves = |id| self.registry.service(id).is_some_and(|service| !service.endpoints.is_empty());
        let subject = |claimant: &Claimant| match claimant {
            Claimant::Workload(_) => true,
            Claimant::Service(id) => serves(*id),
            Claimant::Node(_) => false,
        };
        matches!(self.end(address).place, Place::Workload(_))
            || self.registry.service_at(address).is_some_and(serves)
            || self.registry.claimants(address).iter().any(subject)
    }

    /// Resolves a connection: what depends on it alone is done here, once.
    #[must_use]
    pub fn flow(&self, connection: &Connection<'_>) -> Flow {
        Flow {
            plan: Plan::new(&self.table, &self.model, &self.registry, &self.residents, connection),
            lacks_proof: self.lacks_proof(connection),
            sides: self.sides(connection),
        }
    }

    /// What can be said before any request is seen. Sound: a request verdict never contradicts it while `now` is the
    /// same.
    #[must_use]
    pub fn connection_verdict(&self, flow: &Flow, now: i64) -> ConnectionVerdict {
        if !self.closed {
            return match self.table.connection_verdict(&flow.plan, &self.registry, now) {
                ConnectionVerdict::Deny(verdict) => self.opened_connection(flow, verdict, now),
                // One of its requests may be a probe that the pod declares.
                ConnectionVerdict::Opaque(_) if flow.lacks_proof => ConnectionVerdict::Inspect,
                verdict => verdict,
            };
        }
        let verdict = self.without_table(flow);
        match verdict.action {
            Action::Allow => ConnectionVerdict::Opaque(verdict),
            Action::Deny | Action::Reject => ConnectionVerdict::Deny(verdict),
        }
    }

    /// The verdict on one request of a connection.
    #[must_use]
    pub fn request_verdict(&self, flow: &Flow, request: &Request<'_>) -> Verdict {
        if self.closed {
            return self.without_table(flow);
        }
        let verdict = self.refused(&flow.plan, flow.lacks_proof, request);
        if verdict.action != Action::Deny || !flow.is_opened(request.now) {
            return verdict;
        }
        let passes = |side: &Side| {
            side.acts(request.now) || self.refused(&side.plan, side.lacks_proof, request).action == Action::Allow
        };
        if flow.sides.iter().all(passes) { opened(verdict) } else { verdict }
    }

    /// What policies say, and whether a proof is wanting.
    fn refused(&self, plan: &Plan, lacks_proof: bool, request: &Request<'_>) -> Verdict {
        let verdict = self.table.request_verdict(plan, &self.registry, request);
        match lacks_proof && verdict.action == Action::Allow && verdict.reason != Reason::Probe {
            true => Verdict { action: Action::Deny, reason: Reason::PlaintextRefused, rule: None, ..verdict },
            false => verdict,
        }
    }

    /// The verdict on a request whose token the policy at this position does not accept: no rule is asked, and nothing of
    /// what the token says is known. An emergency lifts it as it lifts what rules refuse.
    #[must_use]
    pub fn unauthenticated(&self, flow: &Flow, policy: u32, now: i64) -> Verdict {
        let verdict = Verdict::unauthenticated(policy, self.proof(flow));
        let lifted = flow.is_opened(now) && flow.sides.iter().all(|side| side.acts(now));
        if lifted { opened(verdict) } else { verdict }
    }

    /// By which proof the peer of the flow is known.
    #[must_use]
    pub fn proof(&self, flow: &Flow) -> Proof {
        flow.plan.proof
    }

    /// What a verdict of this world names.
    #[must_use]
    pub fn named(&self, id: RuleId) -> Option<RuleRef<'_>> {
        self.table.named(id, &self.model)
    }

    /// What canonicalisation needs to know of the flow.
    #[must_use]
    pub fn canonical_scope<'f>(&self, flow: &'f Flow) -> &'f CanonicalScope {
        &flow.plan.canonical
    }

    /// Whether the destination takes proven peers alone, and this is none.
    pub(crate) fn lacks_proof(&self, connection: &Connection<'_>) -> bool {
        let Place::Workload(id) = connection.destination.place else { return false };
        connection.direction != Some(Direction::Outbound)
            && connection.transport == Transport::Tcp
            && connection.source.principal.is_none()
            && self.registry.workload(id).is_some_and(|own| own.inbound_mutual_tls() == InboundMutualTls::Strict)
    }

    fn end(&self, address: IpAddr) -> End<'static> {
        let address = address.to_canonical();
        End { address: Some(address), place: self.registry.place(address, &self.model.settings), principal: None }
    }

    /// Every registered workload is closed while there is no table.
    fn without_table(&self, flow: &Flow) -> Verdict {
        let (action, reason) = match self.sealed {
            Some(reason) => (Action::Deny, reason),
            None if flow.plan.has_subject() => (Action::Deny, Reason::NoTable),
            None => (Action::Allow, Reason::NotSubject),
        };
        Verdict { action, reason, rule: None, proof: flow.plan.proof, audit: None }
    }
}
