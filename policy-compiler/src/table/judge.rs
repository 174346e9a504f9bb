//! The decision: tiers in order, stacks side by side, legs one after the other. No allocation, no lock.

use crate::facts::{Fact, Protocol, Request};
use crate::model::{Stack, Tier};
use crate::registry::{Registry, WorkloadId};
use crate::table::Table;
use crate::table::asked::Asked;
use crate::table::plan::{Live, Plan, PlannedLeg};
use crate::verdict::{Action, Audit, Reason, Verdict};
use crate::world::ConnectionVerdict;

/// Which of the two tables is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    /// What acts.
    Enforced,
    /// What would act if the policies in mode Audit did.
    Shadow,
}

/// An outcome whose rule is still a number.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    action: Action,
    reason: Reason,
    named: Named,
}

/// What a verdict names, by position in the model.
#[derive(Clone, Copy, Debug)]
enum Named {
    Nothing,
    Policy(u32),
    Rule(u32),
}

/// What a tier says.
enum Answer {
    Deny(u32),
    Allow(u32),
    Closed(Closer),
    Silent,
}

/// The policy that closes a direction.
#[derive(Clone, Copy, Debug)]
struct Closer {
    policy: u32,
    broken: bool,
}

/// What the requests of a connection could come to.
struct Outlook {
    may_allow: bool,
    may_deny: bool,
    denial: Option<(Reason, Named)>,
}

const OPEN: Outcome = Outcome { action: Action::Allow, reason: Reason::Unprotected, named: Named::Nothing };

impl Table {
    /// The verdict on one request.
    pub(crate) fn request_verdict(&self, plan: &Plan, registry: &Registry, request: &Request<'_>) -> Verdict {
        self.verdict(plan, registry, &Asked::new(request, plan.source, &self.methods, &self.seed))
    }

    /// What can be said of a connection before any request is seen.
    pub(crate) fn connection_verdict(&self, plan: &Plan, registry: &Registry, now: i64) -> ConnectionVerdict {
        let unseen = Request::opaque(Fact::Unknown, now);
        // Nobody can tell yet which address trusted proxies will name.
        let asked = Asked::new(&unseen, None, &self.methods, &self.seed);
        let mut always = true;
        let mut denial = None;
        for leg in &plan.legs {
            let outlook = self.outlook(plan, leg, &asked);
            always &= !outlook.may_deny;
            if !outlook.may_allow {
                denial = denial.or(outlook.denial);
            }
        }
        match denial {
            Some((reason, named)) => {
                let rule = self.reference(named);
                let verdict = self.request_verdict(plan, registry, &unseen);
                ConnectionVerdict::Deny(Verdict { action: Action::Deny, reason, rule, ..verdict })
            }
            None if always => ConnectionVerdict::Opaque(self.request_verdict(plan, registry, &unseen)),
            None => ConnectionVerdict::Inspect,
        }
    }

    fn verdict(&self, plan: &Plan, registry: &Registry, asked: &Asked<'_>) -> Verdict {
        let enforced = self.judge_all(plan, registry, asked, Which::Enforced);
        let audit = plan.audited.then(|| {
            let shadow = self.judge_all(plan, registry, asked, Which::Shadow);
            Audit { action: shadow.action, reason: shadow.reason, rule: self.reference(shadow.named) }
        });
        Verdict {
            action: enforced.action,
            reason: enforced.reason,
            rule: self.reference(enforced.named),
            proof: plan.proof,
            audit,
        }
    }

    /// All legs must allow. Of several denials the first names the rule; of several permissions the last one that a
    /// rule gave.
    fn judge_all(&self, plan: &Plan, registry: &Registry, asked: &Asked<'_>, which: Which) -> Outcome {
        let mut allowed: Option<Outcome> = None;
        for leg in &plan.legs {
            let outcome = self.judge(plan, leg, registry, asked, which);
            if outcome.action != Action::Allow {
                return outcome;
            }
            let open = outcome.reason == Reason::Unprotected;
            if allowed.is_none_or(|held| !open || held.reason == Reason::Unprotected) {
                allowed = Some(outcome);
            }
        }
        allowed.unwrap_or(Outcome { reason: Reason::NotSubject, ..OPEN })
    }

    fn judge(&self, plan: &Plan, leg: &PlannedLeg, registry: &Registry, asked: &Asked<'_>, which: Which) -> Outcome {
        if let Some((subject, port)) = leg.probed
            && is_declared_probe(registry, subject, port, asked.request)
            && !self.admin_denies(plan, leg, asked, which)
        {
            return Outcome { reason: Reason::Probe, ..OPEN };
        }
        let mut allowed = None;
        let mut closed = None;
        for units in stacks(plan.units(leg)) {
            for units in tiers(units) {
                let denial = |reason, named| Outcome { action: Action::Deny, reason, named };
                closed = closed.or_else(|| closing(units, which));
                match self.answer(plan, units, asked, which) {
                    Answer::Deny(rule) => return denial(Reason::DenyRule, Named::Rule(rule)),
                    Answer::Closed(closer) if leg.has_endpoint || closer.broken => {
                        return denial(closer.reason(), Named::Policy(closer.policy));
                    }
                    Answer::Closed(closer) => return denial(Reason::NoEndpoint, Named::Policy(closer.policy)),
                    Answer::Allow(rule) => {
                        let outcome = Outcome { reason: Reason::AllowRule, named: Named::Rule(rule), ..OPEN };
                        allowed = allowed.or(Some(outcome));
                        // Final in this stack; what closes it all the same counts below.
                        closed =
                            closed.or_else(|| tiers(units_of_stack(plan, leg, units)).find_map(|u| closing(u, which)));
                        break;
                    }
                    Answer::Silent => {}
                }
            }
        }
        // SPEC: a Service without a ready endpoint is denied where the direction is closed.
        match closed {
            Some(closer) if !leg.has_endpoint => {
                Outcome { action: Action::Deny, reason: Reason::NoEndpoint, named: Named::Policy(closer.policy) }
            }
            _ => allowed.unwrap_or(OPEN),
        }
    }

    /// What the units of one tier of one stack say together.
    fn answer(&self, plan: &Plan, units: &[Live], asked: &Asked<'_>, which: Which) -> Answer {
        let acting = || units.iter().filter(|live| which.has(live));
        let denies = acting().filter_map(|live| {
            let open = plan.open_for_deny(live);
            if open.is_empty() { None } else { self.side(live)?.deny.as_ref()?.find(open, asked) }
        });
        if let Some(rule) = denies.min() {
            return Answer::Deny(rule);
        }
        let allows = acting().filter_map(|live| {
            let open = plan.open_for_allow(live);
            if open.is_empty() { None } else { self.side(live)?.allow.as_ref()?.find(open, asked) }
        });
        if let Some(rule) = allows.min() {
            return Answer::Allow(rule);
        }
        closing(units, which).map_or(Answer::Silent, Answer::Closed)
    }

    /// An Admin Deny comes before the pods' declared probes.
    fn admin_denies(&self, plan: &Plan, leg: &PlannedLeg, asked: &Asked<'_>, which: Which) -> bool {
        stacks(plan.units(leg))
            .flat_map(tiers)
            .filter(|units| units.first().is_some_and(|live| live.tier == Tier::Admin))
            .any(|units| matches!(self.answer(plan, units, asked, which), Answer::Deny(_)))
    }

    fn outlook(&self, plan: &Plan, leg: &PlannedLeg, asked: &Asked<'_>) -> Outlook {
        let units = plan.units(leg);
        let mut whole = Outlook { may_allow: true, may_deny: false, denial: None };
        for units in stacks(units) {
            let part = self.stack_outlook(plan, units, asked);
            whole.may_deny |= part.may_deny;
            if !part.may_allow && whole.may_allow {
                whole.may_allow = false;
                whole.denial = part.denial;
            }
        }
        if !leg.has_endpoint
            && let Some(closer) = stacks(units).flat_map(tiers).find_map(|units| closing(units, Which::Enforced))
        {
            let denial = whole.denial.or(Some((Reason::NoEndpoint, Named::Policy(closer.policy))));
            return Outlook { may_allow: false, may_deny: true, denial };
        }
        let admin_denies = || {
            let admin =
                stacks(units).flat_map(tiers).filter(|units| units.first().is_some_and(|u| u.tier == Tier::Admin));
            admin.filter_map(|units| self.certain_denial(plan, units, asked)).next().is_some()
        };
        if !whole.may_allow && leg.probed.is_some() && !admin_denies() {
            whole.may_allow = true;
        }
        whole
    }

    fn stack_outlook(&self, plan: &Plan, units: &[Live], asked: &Asked<'_>) -> Outlook {
        let now = asked.request.now;
        let (mut may_allow, mut may_deny) = (false, false);
        for units in tiers(units) {
            let acting = || units.iter().filter(|live| Which::Enforced.has(live));
            if let Some(stop) = self.certain_denial(plan, units, asked) {
                return Outlook { may_allow, may_deny: true, denial: (!may_allow).then_some(stop) };
            }
            let live_in = |live: &Live, allow: bool| {
                let Some(side) = self.side(live) else { return false };
                let (bank, open) = if allow {
                    (&side.allow, plan.open_for_allow(live))
                } else {
                    (&side.deny, plan.open_for_deny(live))
                };
                bank.as_ref().is_some_and(|bank| bank.is_live(open, now))
            };
            may_deny |= acting().any(|live| live_in(live, false));
            may_allow |= acting().any(|live| live_in(live, true));
            let surely = acting().any(|live| {
                let bank = self.side(live).and_then(|side| side.allow.as_ref());
                bank.is_some_and(|bank| bank.find(plan.open_for_allow(live), asked).is_some())
            });
            if surely {
                return Outlook { may_allow: true, may_deny, denial: None };
            }
            if let Some(closer) = closing(units, Which::Enforced) {
                let denial = (!may_allow).then_some((closer.reason(), Named::Policy(closer.policy)));
                return Outlook { may_allow, may_deny: true, denial };
            }
        }
        Outlook { may_allow: true, may_deny, denial: None }
    }

    /// A Deny that possibly matches whatever the request.
    fn certain_denial(&self, plan: &Plan, units: &[Live], asked: &Asked<'_>) -> Option<(Reason, Named)> {
        let acting = || units.iter().filter(|live| Which::Enforced.has(live));
        let certain = acting().filter_map(|live| {
            self.side(live)?.deny.as_ref()?.find_certain(plan.open_for_deny(live), asked.request.now)
        });
        certain.min().map(|rule| (Reason::DenyRule, Named::Rule(rule)))
    }

    fn reference(&self, named: Named) -> Option<std::sync::Arc<crate::verdict::RuleRef>> {
        match named {
            Named::Nothing => None,
            Named::Policy(position) => self.policies.get(position as usize).cloned(),
            Named::Rule(position) => self.rules.get(position as usize).cloned(),
        }
    }
}

impl Closer {
    fn reason(self) -> Reason {
        if self.broken { Reason::BrokenPolicy } else { Reason::NoRule }
    }
}

impl Which {
    fn has(self, live: &Live) -> bool {
        match self {
            Self::Enforced => live.enforced,
            Self::Shadow => live.shadow,
        }
    }
}

/// The first policy of a tier that closes the direction, a broken one first. Admin never closes, unless it is broken.
fn closing(units: &[Live], which: Which) -> Option<Closer> {
    let acting = || units.iter().filter(|live| which.has(live));
    if let Some(policy) = acting().filter_map(|live| live.breaks).min() {
        return Some(Closer { policy, broken: true });
    }
    let closes = acting().filter(|live| live.tier != Tier::Admin).filter_map(|live| live.closes).min();
    closes.map(|policy| Closer { policy, broken: false })
}

fn stacks(units: &[Live]) -> impl Iterator<Item = &[Live]> {
    units.chunk_by(|one, other| one.stack == other.stack)
}

fn tiers(units: &[Live]) -> impl Iterator<Item = &[Live]> {
    units.chunk_by(|one, other| one.tier == other.tier)
}

/// All units of the stack that these belong to.
fn units_of_stack<'a>(plan: &'a Plan, leg: &PlannedLeg, units: &[Live]) -> &'a [Live] {
    let stack: Option<Stack> = units.first().map(|live| live.stack);
    stacks(plan.units(leg)).find(|units| units.first().map(|live| live.stack) == stack).unwrap_or_default()
}

/// Whether this is exactly a probe that the pod's spec declares: port, method and path. That it comes from the pod's
/// own node was asked when the connection was resolved.
fn is_declared_probe(registry: &Registry, subject: WorkloadId, port: u16, request: &Request<'_>) -> bool {
    let Some(workload) = registry.workload(subject) else { return false };
    workload.probes.iter().filter(|probe| probe.port == port).any(|probe| {
        let Some(target) = &probe.path else { return request.protocol == Fact::Known(Protocol::Tcp) };
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Fact::Known(query.as_bytes())),
            None => (&**target, Fact::Absent),
        };
        matches!(request.protocol, Fact::Known(protocol) if protocol.is_http())
            && request.method == Fact::Known(probe.method.as_bytes())
            && request.path == Fact::Known(path.as_bytes())
            && request.query == query
            && request.upgrade == Fact::Absent
    })
}
