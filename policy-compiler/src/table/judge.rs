//! The decision: tiers in order, stacks side by side, legs one after the other. No allocation, no lock.

use crate::facts::{Fact, Protocol, Request};
use crate::model::{Stack, Tier};
use crate::registry::{Registry, WorkloadId};
use crate::table::Table;
use crate::table::asked::Asked;
use crate::table::plan::{Closer, Live, Plan, PlannedLeg, PlannedTier, Which};
use crate::table::unit::{Act, Acting};
use crate::verdict::{Action, Audit, Reason, RuleId, Verdict};
use crate::world::ConnectionVerdict;

/// What one leg, or all of them together, came to.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    action: Action,
    reason: Reason,
    rule: Option<RuleId>,
}

/// What a tier says.
enum Answer {
    Deny(u32),
    Allow(u32),
    Closed(Closer),
    Silent,
}

/// What the rules of a tier say, before it is asked who closes the direction.
enum Said {
    Deny(u32),
    Allow(u32),
    Pass,
    Nothing,
}

/// Where the rules of an ordered tier end, whatever the request.
#[derive(Clone, Copy)]
enum End {
    Deny(u32),
    Allow,
    Pass,
    /// No rule certainly acts for all. A rule may have passed to the next tier.
    Nothing {
        may_pass: bool,
    },
}

struct Ordered {
    may_allow: bool,
    may_deny: bool,
    end: End,
}

/// What the requests of a connection could come to.
struct Outlook {
    may_allow: bool,
    may_deny: bool,
    denial: Option<(Reason, RuleId)>,
}

const OPEN: Outcome = Outcome { action: Action::Allow, reason: Reason::Unprotected, rule: None };

impl Table {
    /// The verdict on one request.
    pub(crate) fn request_verdict(&self, plan: &Plan, registry: &Registry, request: &Request<'_>) -> Verdict {
        self.verdict(plan, registry, &Asked::new(request, plan.source, self))
    }

    /// What can be said of a connection before any request is seen.
    pub(crate) fn connection_verdict(&self, plan: &Plan, registry: &Registry, now: i64) -> ConnectionVerdict {
        let unseen = Request::opaque(Fact::Unknown, now);
        // Nobody can tell yet which address trusted proxies will name.
        let asked = Asked::new(&unseen, None, self);
        let mut always = true;
        let mut denial = None;
        for leg in &plan.legs {
            let outlook = self.outlook(plan, leg, &asked.of_destination(leg.declares, registry));
            always &= !outlook.may_deny;
            if !outlook.may_allow {
                denial = denial.or(outlook.denial);
            }
        }
        match denial {
            Some((reason, rule)) => {
                let verdict = self.request_verdict(plan, registry, &unseen);
                ConnectionVerdict::Deny(Verdict { action: Action::Deny, reason, rule: Some(rule), ..verdict })
            }
            None if always => ConnectionVerdict::Opaque(self.request_verdict(plan, registry, &unseen)),
            None => ConnectionVerdict::Inspect,
        }
    }

    fn verdict(&self, plan: &Plan, registry: &Registry, asked: &Asked<'_>) -> Verdict {
        let enforced = self.judge_all(plan, registry, asked, Which::Enforced);
        let audit = plan.audited.then(|| {
            let shadow = self.judge_all(plan, registry, asked, Which::Shadow);
            Audit { action: shadow.action, reason: shadow.reason, rule: shadow.rule }
        });
        Verdict { action: enforced.action, reason: enforced.reason, rule: enforced.rule, proof: plan.proof, audit }
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
        let of_destination;
        let asked = if leg.declares.is_some() {
            of_destination = asked.of_destination(leg.declares, registry);
            &of_destination
        } else {
            asked
        };
        if let Some((subject, port)) = leg.probed
            && is_declared_probe(registry, subject, port, asked.request)
            && !self.admin_denies(plan, leg, asked, which)
        {
            return Outcome { reason: Reason::Probe, ..OPEN };
        }
        let mut allowed = None;
        let mut closed = None;
        let mut decided: Option<Stack> = None;
        for tier in plan.tiers(leg) {
            closed = closed.or(tier.closer(which));
            if decided == Some(tier.stack) {
                continue;
            }
            let denial = |reason, rule| Outcome { action: Action::Deny, reason, rule: Some(rule) };
            match self.answer(plan, tier, asked, which) {
                Answer::Deny(rule) => return denial(Reason::DenyRule, RuleId::Rule(rule)),
                Answer::Closed(closer) => {
                    let reason = if leg.has_endpoint || closer.broken { closer.reason() } else { Reason::NoEndpoint };
                    return denial(reason, RuleId::Policy(closer.policy));
                }
                Answer::Allow(rule) => {
                    let outcome = Outcome { reason: Reason::AllowRule, rule: Some(RuleId::Rule(rule)), ..OPEN };
                    allowed = allowed.or(Some(outcome));
                    decided = Some(tier.stack);
                }
                Answer::Silent => {}
            }
        }
        // SPEC: a Service without a ready endpoint is denied where the direction is closed.
        match closed {
            Some(closer) if !leg.has_endpoint => {
                Outcome { action: Action::Deny, reason: Reason::NoEndpoint, rule: Some(RuleId::Policy(closer.policy)) }
            }
            _ => allowed.unwrap_or(OPEN),
        }
    }

    /// What the units of one tier of one stack say together.
    fn answer(&self, plan: &Plan, tier: &PlannedTier, asked: &Asked<'_>, which: Which) -> Answer {
        let said = if tier.is_ordered {
            self.first_of(plan, tier, asked, which)
        } else {
            self.strongest_of(plan, tier, asked, which)
        };
        match (said, tier.closer(which)) {
            (Said::Deny(rule), _) => Answer::Deny(rule),
            (Said::Allow(rule), _) => Answer::Allow(rule),
            (Said::Pass, Some(closer)) if closer.broken => Answer::Closed(closer),
            (Said::Pass, _) | (Said::Nothing, None) => Answer::Silent,
            (Said::Nothing, Some(closer)) => Answer::Closed(closer),
        }
    }

    /// An unordered tier: a Deny beats an Allow.
    fn strongest_of(&self, plan: &Plan, tier: &PlannedTier, asked: &Asked<'_>, which: Which) -> Said {
        if let Some(rule) = self.find(plan, tier, asked, which, Act::Deny) {
            return Said::Deny(rule);
        }
        self.find(plan, tier, asked, which, Act::Allow).map_or(Said::Nothing, Said::Allow)
    }

    /// An ordered tier: the first rule that acts, by position in the model.
    fn first_of(&self, plan: &Plan, tier: &PlannedTier, asked: &Asked<'_>, which: Which) -> Said {
        let first = |act| self.find(plan, tier, asked, which, act).unwrap_or(u32::MAX);
        let (deny, allow, pass) = (first(Act::Deny), first(Act::Allow), first(Act::Pass));
        match deny.min(allow).min(pass) {
            u32::MAX => Said::Nothing,
            rule if rule == deny => Said::Deny(rule),
            rule if rule == allow && first(Act::PossiblePass) > allow => Said::Allow(rule),
            _ => Said::Pass,
        }
    }

    /// The first rule of these units that acts in this way.
    fn find(&self, plan: &Plan, tier: &PlannedTier, asked: &Asked<'_>, which: Which, act: Act) -> Option<u32> {
        let found = plan.units(tier, which).filter_map(|live| {
            let open = plan.open(live, act);
            if open.is_empty() { None } else { self.of_unit(live, act, |acting| acting.find(open, asked)) }
        });
        found.min()
    }

    /// A rule of a unit, by its position among the rules of all policies.
    fn of_unit(&self, live: &Live, act: Act, find: impl FnOnce(Acting<'_>) -> Option<u32>) -> Option<u32> {
        find(self.unit(live.unit)?.acting(live.direction, act)?)
    }

    /// An Admin Deny comes before the pods' declared probes.
    fn admin_denies(&self, plan: &Plan, leg: &PlannedLeg, asked: &Asked<'_>, which: Which) -> bool {
        let admin = plan.tiers(leg).iter().filter(|tier| tier.tier == Tier::Admin);
        admin.into_iter().any(|tier| matches!(self.answer(plan, tier, asked, which), Answer::Deny(_)))
    }

    fn outlook(&self, plan: &Plan, leg: &PlannedLeg, asked: &Asked<'_>) -> Outlook {
        let tiers = plan.tiers(leg);
        let mut whole = Outlook { may_allow: true, may_deny: false, denial: None };
        for stack in tiers.chunk_by(|one, other| one.stack == other.stack) {
            let part = self.stack_outlook(plan, stack, asked);
            whole.may_deny |= part.may_deny;
            if !part.may_allow && whole.may_allow {
                whole.may_allow = false;
                whole.denial = part.denial;
            }
        }
        if !leg.has_endpoint
            && let Some(closer) = tiers.iter().find_map(|tier| tier.closer(Which::Enforced))
        {
            let denial = whole.denial.or(Some((Reason::NoEndpoint, RuleId::Policy(closer.policy))));
            return Outlook { may_allow: false, may_deny: true, denial };
        }
        let admin_denies = || {
            let admin = tiers.iter().filter(|tier| tier.tier == Tier::Admin);
            let denies = |tier: &PlannedTier| {
                if tier.is_ordered {
                    let ordered = self.ordered_outlook(plan, tier, asked);
                    matches!(ordered.end, End::Deny(_)) && !ordered.may_allow
                } else {
                    self.certain_denial(plan, tier, asked).is_some()
                }
            };
            admin.into_iter().any(denies)
        };
        if !whole.may_allow && leg.probed.is_some() && !admin_denies() {
            whole.may_allow = true;
        }
        whole
    }

    fn stack_outlook(&self, plan: &Plan, stack: &[PlannedTier], asked: &Asked<'_>) -> Outlook {
        let now = asked.request.now;
        let (mut may_allow, mut may_deny) = (false, false);
        for tier in stack {
            if tier.is_ordered {
                let ordered = self.ordered_outlook(plan, tier, asked);
                may_deny |= ordered.may_deny;
                may_allow |= ordered.may_allow;
                let closer = tier.closer(Which::Enforced);
                let denial = match (ordered.end, closer) {
                    (End::Deny(rule), _) => (Reason::DenyRule, RuleId::Rule(rule)),
                    (End::Allow, _) => return Outlook { may_allow: true, may_deny, denial: None },
                    (End::Pass, Some(closer)) if closer.broken => (closer.reason(), RuleId::Policy(closer.policy)),
                    (End::Nothing { may_pass }, Some(closer)) if closer.broken || !may_pass => {
                        (closer.reason(), RuleId::Policy(closer.policy))
                    }
                    (End::Pass | End::Nothing { .. }, _) => {
                        may_deny |= matches!(ordered.end, End::Nothing { .. }) && closer.is_some();
                        continue;
                    }
                };
                return Outlook { may_allow, may_deny: true, denial: (!may_allow).then_some(denial) };
            }
            let acting = || plan.units(tier, Which::Enforced);
            if let Some(stop) = self.certain_denial(plan, tier, asked) {
                return Outlook { may_allow, may_deny: true, denial: (!may_allow).then_some(stop) };
            }
            let live_in = |live: &Live, act: Act| {
                self.of_unit(live, act, |acting| acting.first_live(plan.open(live, act), now)).is_some()
            };
            may_deny |= acting().any(|live| live_in(live, Act::Deny));
            may_allow |= acting().any(|live| live_in(live, Act::Allow));
            if self.find(plan, tier, asked, Which::Enforced, Act::Allow).is_some() {
                return Outlook { may_allow: true, may_deny, denial: None };
            }
            if let Some(closer) = tier.closer(Which::Enforced) {
                let denial = (!may_allow).then_some((closer.reason(), RuleId::Policy(closer.policy)));
                return Outlook { may_allow, may_deny: true, denial };
            }
        }
        Outlook { may_allow: true, may_deny, denial: None }
    }

    /// What the rules of an ordered tier could come to. Rules behind one that certainly acts have no say.
    fn ordered_outlook(&self, plan: &Plan, tier: &PlannedTier, asked: &Asked<'_>) -> Ordered {
        let now = asked.request.now;
        let each = |act, find: &dyn Fn(Acting<'_>, &[u32]) -> Option<u32>| {
            let acting = plan.units(tier, Which::Enforced);
            let found = acting.filter_map(|live| self.of_unit(live, act, |acting| find(acting, plan.open(live, act))));
            found.min().unwrap_or(u32::MAX)
        };
        let live = |act| each(act, &|acting, open| acting.first_live(open, now));
        let certain = |act| each(act, &|acting, open| acting.find_certain(open, now));
        let (deny, allow, pass) = (certain(Act::Deny), certain(Act::Allow), certain(Act::Pass));
        let end = deny.min(allow).min(pass);
        let may_pass = live(Act::PossiblePass) < end;
        Ordered {
            may_allow: live(Act::Allow) <= end && end.min(live(Act::Allow)) != u32::MAX,
            may_deny: live(Act::Deny) <= end && end.min(live(Act::Deny)) != u32::MAX,
            end: match end {
                u32::MAX => End::Nothing { may_pass },
                rule if rule == deny && may_pass => End::Nothing { may_pass },
                rule if rule == deny => End::Deny(rule),
                rule if rule == allow && !may_pass => End::Allow,
                _ => End::Pass,
            },
        }
    }

    /// A Deny that possibly matches whatever the request.
    fn certain_denial(&self, plan: &Plan, tier: &PlannedTier, asked: &Asked<'_>) -> Option<(Reason, RuleId)> {
        let acting = || plan.units(tier, Which::Enforced);
        let certain = acting().filter_map(|live| {
            let open = plan.open(live, Act::Deny);
            self.of_unit(live, Act::Deny, |acting| acting.find_certain(open, asked.request.now))
        });
        certain.min().map(|rule| (Reason::DenyRule, RuleId::Rule(rule)))
    }
}

impl Closer {
    fn reason(self) -> Reason {
        if self.broken { Reason::BrokenPolicy } else { Reason::NoRule }
    }
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
