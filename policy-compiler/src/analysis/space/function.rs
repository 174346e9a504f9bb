//! Programs as functions of a request: for which requests a connection is allowed, exactly.
//!
//! Kleene logic needs two functions for each condition: where it surely and where it possibly holds. They differ where
//! the connection leaves a question open, and where a protocol hides what a rule asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::diagram::{ALL, Diagram, Function, NONE, Set};
use super::domain::Domains;
use super::program::{Close, Program, Programs, Steps, TierSteps};
use super::residue::{Ask, Form, PROTOCOLS, Protocols, Residue, Residues, Truth3};
use super::variable::{Name, Value, Variable, name_of};
use super::{Budget, Undecided};
use crate::canonical::Options;
use crate::facts::{Protocol, Transport};
use crate::model::{Atom, Effect, Text, Tier};

/// Variables that were worked out before, by what was asked of them.
#[derive(Debug, Default)]
pub(super) struct Variables {
    known: hashbrown::HashMap<(Name, Vec<Ask>, Options), Arc<Variable>, foldhash::fast::RandomState>,
    domains: Domains,
}

/// All requests of one kind of connection, as far as some programs can tell them apart.
#[derive(Debug)]
pub(super) struct Requests {
    pub(super) variables: Vec<Arc<Variable>>,
    pub(super) diagram: Diagram,
    /// Requests that can be: a call is a POST, `*` belongs to OPTIONS.
    pub(super) possible: Function,
    conditions: BTreeMap<Residue, Both>,
}

/// Where a condition surely, and where it possibly holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Both {
    pub(super) surely: Function,
    possibly: Function,
}

impl Requests {
    /// # Errors
    /// The budget is used up, or two parts of the request hang together in a way that is not worked out.
    pub(super) fn of(
        programs: &Programs,
        asked: &BTreeSet<Ask>,
        transport: Transport,
        options: Options,
        known: &mut Variables,
        budget: &mut Budget,
    ) -> Result<Self, Undecided> {
        let mut parts: BTreeMap<Name, Vec<Ask>> = BTreeMap::new();
        for ask in asked {
            if let Some(name) = programs.residues.question(*ask).and_then(name_of) {
                parts.entry(name).or_default().push(*ask);
            }
        }
        hangs_together(&parts, &programs.residues)?;
        let mut variables = Vec::new();
        for (name, asks) in parts {
            let key = (name.clone(), asks.clone(), options);
            let variable = match known.known.get(&key) {
                Some(held) => Arc::clone(held),
                None => {
                    let made =
                        Arc::new(Variable::of(name, &asks, &programs.residues, options, &mut known.domains, budget)?);
                    known.known.insert(key, Arc::clone(&made));
                    made
                }
            };
            variables.push(variable);
        }
        variables.push(Arc::new(Variable::protocols(transport)));
        let diagram = Diagram::new(variables.iter().map(|variable| variable.size()).collect());
        let mut requests = Self { variables, diagram, possible: ALL, conditions: BTreeMap::new() };
        requests.possible = requests.constraints(budget)?;
        Ok(requests)
    }

    /// Where every one of these programs allows.
    ///
    /// # Errors
    /// The budget is used up.
    pub(super) fn allowed(
        &mut self,
        of: &[Program],
        programs: &Programs,
        budget: &mut Budget,
    ) -> Result<Function, Undecided> {
        let mut all = Vec::new();
        for program in of {
            if let Some(steps) = programs.steps(*program) {
                all.push(self.side(steps, &programs.residues, budget)?);
            }
        }
        self.diagram.every(all, budget)
    }

    fn side(&mut self, steps: &Steps, residues: &Residues, budget: &mut Budget) -> Result<Function, Undecided> {
        if steps.dead {
            return Ok(NONE);
        }
        let mut stacks = Vec::new();
        let mut admin_denies = Vec::new();
        for tiers in &steps.stacks {
            let mut allowed = ALL;
            for tier in tiers.iter().rev() {
                if tier.tier == Tier::Admin {
                    admin_denies.push(self.denied(tier, residues, budget)?);
                }
                allowed = self.tier(tier, allowed, residues, budget)?;
            }
            stacks.push(allowed);
        }
        let allowed = if steps.lacks_proof { NONE } else { self.diagram.every(stacks, budget)? };
        let probe = self.condition(steps.probe, residues, budget)?.surely;
        let denied = self.diagram.any(admin_denies, budget)?;
        let passes = self.diagram.not(denied, budget)?;
        let probe = self.diagram.and(probe, passes, budget)?;
        self.diagram.or(allowed, probe, budget)
    }

    /// Where a tier lets pass, where `next` is what the later tiers let pass.
    fn tier(
        &mut self,
        tier: &TierSteps,
        next: Function,
        residues: &Residues,
        budget: &mut Budget,
    ) -> Result<Function, Undecided> {
        let silent = if tier.close == Close::Open { next } else { NONE };
        if !tier.ordered {
            let (mut denies, mut allows) = (Vec::new(), Vec::new());
            for (effect, rule) in &tier.rules {
                let both = self.condition(*rule, residues, budget)?;
                match effect {
                    Effect::Deny => denies.push(both.possibly),
                    Effect::Allow => allows.push(both.surely),
                    Effect::Pass => {}
                }
            }
            let allows = self.diagram.any(allows, budget)?;
            let denies = self.diagram.any(denies, budget)?;
            let open = self.diagram.or(allows, silent, budget)?;
            let not_denied = self.diagram.not(denies, budget)?;
            return self.diagram.and(open, not_denied, budget);
        }
        let passed = if tier.close == Close::Broken { NONE } else { next };
        // From the last rule to the first: what is allowed from there on, and what is once a Pass has possibly matched.
        let (mut fresh, mut after_pass) = (silent, silent);
        for (effect, rule) in tier.rules.iter().rev() {
            let Both { surely, possibly } = self.condition(*rule, residues, budget)?;
            match effect {
                Effect::Deny => {
                    fresh = self.diagram.choose(possibly, NONE, fresh, budget)?;
                    after_pass = self.diagram.choose(possibly, NONE, after_pass, budget)?;
                }
                Effect::Allow => {
                    fresh = self.diagram.choose(surely, ALL, fresh, budget)?;
                    after_pass = self.diagram.choose(surely, passed, after_pass, budget)?;
                }
                Effect::Pass => {
                    let unsure = self.diagram.choose(possibly, after_pass, fresh, budget)?;
                    fresh = self.diagram.choose(surely, passed, unsure, budget)?;
                    after_pass = self.diagram.choose(surely, passed, after_pass, budget)?;
                }
            }
        }
        Ok(fresh)
    }

    /// Where a tier denies by a rule.
    fn denied(&mut self, tier: &TierSteps, residues: &Residues, budget: &mut Budget) -> Result<Function, Undecided> {
        let mut denied = NONE;
        if !tier.ordered {
            let mut denies = Vec::new();
            for (_, rule) in tier.rules.iter().filter(|(effect, _)| *effect == Effect::Deny) {
                denies.push(self.condition(*rule, residues, budget)?.possibly);
            }
            return self.diagram.any(denies, budget);
        }
        for (effect, rule) in tier.rules.iter().rev() {
            let Both { surely, possibly } = self.condition(*rule, residues, budget)?;
            denied = match effect {
                Effect::Deny => self.diagram.or(possibly, denied, budget)?,
                Effect::Allow | Effect::Pass => self.diagram.choose(surely, NONE, denied, budget)?,
            };
        }
        Ok(denied)
    }

    pub(super) fn condition(
        &mut self,
        of: Residue,
        residues: &Residues,
        budget: &mut Budget,
    ) -> Result<Both, Undecided> {
        if let Some(held) = self.conditions.get(&of) {
            return Ok(*held);
        }
        let both = match residues.form(of) {
            Form::Known(Truth3::False) => Both { surely: NONE, possibly: NONE },
            Form::Known(Truth3::Unknown) => Both { surely: NONE, possibly: ALL },
            Form::Known(Truth3::True) => Both { surely: ALL, possibly: ALL },
            Form::Protocol(any) => {
                let function = self.protocols(*any);
                Both { surely: function, possibly: function }
            }
            Form::Ask(ask) => self.question(*ask, residues, budget)?,
            Form::Not(inner) => {
                let Both { surely, possibly } = self.condition(*inner, residues, budget)?;
                Both { surely: self.diagram.not(possibly, budget)?, possibly: self.diagram.not(surely, budget)? }
            }
            Form::All(parts) | Form::Any(parts) => {
                let (mut surely, mut possibly) = (Vec::new(), Vec::new());
                for part in parts {
                    let both = self.condition(*part, residues, budget)?;
                    surely.push(both.surely);
                    possibly.push(both.possibly);
                }
                let fold = if matches!(residues.form(of), Form::All(_)) { Diagram::every } else { Diagram::any };
                Both {
                    surely: fold(&mut self.diagram, surely, budget)?,
                    possibly: fold(&mut self.diagram, possibly, budget)?,
                }
            }
        };
        self.conditions.insert(of, both);
        Ok(both)
    }

    /// Of what is not HTTP nothing that HTTP says can be seen; a ClientHello or a DNS name is known not to be there.
    fn question(&mut self, ask: Ask, residues: &Residues, budget: &mut Budget) -> Result<Both, Undecided> {
        let Some((atom, name)) = residues.question(ask).and_then(|atom| Some((atom, name_of(atom)?))) else {
            return Ok(Both { surely: NONE, possibly: ALL });
        };
        let Some((level, yes)) = self.level(&name).map(|(level, variable)| (level, variable.yes(ask))) else {
            return Ok(Both { surely: NONE, possibly: ALL });
        };
        let yes = self.diagram.one_of(level, &yes);
        let seen = Protocols::of(match name {
            Name::RemoteIp => &PROTOCOLS,
            Name::Sni | Name::Alpn => &[Protocol::Tls, Protocol::Http, Protocol::Http2, Protocol::Grpc],
            Name::Qname => &[Protocol::Dns],
            _ => &[Protocol::Http, Protocol::Http2, Protocol::Grpc],
        });
        let seen = self.protocols(seen);
        let surely = self.diagram.and(yes, seen, budget)?;
        let is_absent = matches!(name, Name::RemoteIp | Name::Sni | Name::Alpn | Name::Qname);
        let possibly = if is_absent {
            surely
        } else {
            let hidden = self.diagram.not(seen, budget)?;
            self.diagram.or(yes, hidden, budget)?
        };
        debug_assert!(!matches!(atom, Atom::Text { of: Text::PeerPrincipal, .. }));
        Ok(Both { surely, possibly })
    }

    /// Requests over HTTP that have a path.
    ///
    /// # Errors
    /// The budget is used up.
    pub(super) fn with_path(&mut self, budget: &mut Budget) -> Result<Function, Undecided> {
        let http = self.protocols(Protocols::of(&[Protocol::Http, Protocol::Http2, Protocol::Grpc]));
        let Some((level, variable)) = self.level(&Name::Target) else { return Ok(http) };
        let asterisk = self.diagram.one_of(level, &variable.exactly("*"));
        let others = self.diagram.not(asterisk, budget)?;
        self.diagram.and(http, others, budget)
    }

    fn protocols(&mut self, any: Protocols) -> Function {
        let Some((level, variable)) = self.level(&Name::Protocol) else { return NONE };
        let set = variable.select(|_, value| matches!(value, Value::Protocol(protocol) if any.has(*protocol)));
        self.diagram.one_of(level, &set)
    }

    fn level(&self, name: &Name) -> Option<(usize, Arc<Variable>)> {
        let found = self.variables.iter().enumerate().find(|(_, variable)| variable.name == *name);
        found.map(|(level, variable)| (level, Arc::clone(variable)))
    }

    /// What holds between the parts of every request.
    fn constraints(&mut self, budget: &mut Budget) -> Result<Function, Undecided> {
        let mut all = Vec::new();
        let http2 = self.protocols(Protocols::of(&[Protocol::Http2]));
        let grpc = self.protocols(Protocols::of(&[Protocol::Grpc]));
        let newer = self.diagram.or(http2, grpc, budget)?;
        let method = self.level(&Name::Method);
        let methods = |diagram: &mut Diagram, text: &str| match &method {
            Some((level, variable)) => diagram.one_of(*level, &variable.exactly(text)),
            None => NONE,
        };
        let is_method = method.is_some();
        let post = if is_method { methods(&mut self.diagram, "POST") } else { ALL };
        all.push(self.implies(grpc, post, budget)?);
        if let Some((level, variable)) = self.level(&Name::Target) {
            let asterisk = self.diagram.one_of(level, &variable.exactly("*"));
            let options = if is_method { methods(&mut self.diagram, "OPTIONS") } else { ALL };
            all.push(self.implies(asterisk, options, budget)?);
            if !is_method {
                // The method is free elsewhere; a call has no other path.
                let not = self.diagram.not(asterisk, budget)?;
                all.push(self.implies(grpc, not, budget)?);
            }
        }
        if let Some((level, variable)) = self.level(&Name::Upgrade) {
            let connect = self.diagram.one_of(level, &variable.exactly("connect"));
            if is_method {
                let asked = methods(&mut self.diagram, "CONNECT");
                all.push(self.implies(asked, connect, budget)?);
            }
            // Over HTTP/2 only CONNECT switches.
            let absent = variable.select(|_, value| *value == Value::Absent);
            let absent = self.diagram.one_of(level, &absent);
            let method = if is_method { methods(&mut self.diagram, "CONNECT") } else { connect };
            let by_connect = self.diagram.and(connect, method, budget)?;
            let fine = self.diagram.or(absent, by_connect, budget)?;
            all.push(self.implies(newer, fine, budget)?);
            all.push(self.implies(grpc, absent, budget)?);
        }
        if let Some((level, variable)) = self.level(&Name::Header("content-type".into())) {
            let types = variable.grpc_types();
            let calls = self.diagram.one_of(level, &types);
            let absent = self.diagram.one_of(level, &variable.select(|_, value| *value == Value::Absent));
            let fine = self.diagram.or(calls, absent, budget)?;
            all.push(self.implies(grpc, fine, budget)?);
            let call = self.diagram.and(calls, post, budget)?;
            let no_call = self.diagram.not(call, budget)?;
            all.push(self.implies(http2, no_call, budget)?);
        }
        self.diagram.every(all, budget)
    }

    fn implies(&mut self, a: Function, b: Function, budget: &mut Budget) -> Result<Function, Undecided> {
        let not = self.diagram.not(a, budget)?;
        self.diagram.or(not, b, budget)
    }

    /// The classes of the best request of a function, by level; levels that do not matter are left out. `None` of none.
    pub(super) fn example(&self, of: Function) -> Option<BTreeMap<usize, usize>> {
        self.diagram.example(of)
    }

    /// Everything that a variable can be.
    pub(super) fn everything(&self, level: usize) -> Set {
        let size = self.variables.get(level).map(|variable| variable.size()).unwrap_or_default();
        Set::of(size, 0..size)
    }
}

/// Parts that are functions of one another, in ways that are not worked out: better undecided than wrong.
fn hangs_together(parts: &BTreeMap<Name, Vec<Ask>>, residues: &Residues) -> Result<(), Undecided> {
    let asks_query = parts.get(&Name::Target).is_some_and(|asks| {
        let with_query = |ask: &Ask| matches!(residues.question(*ask), Some(Atom::Text { of: Text::PathAndQuery, .. }));
        asks.iter().any(with_query)
    });
    let claims: Vec<&Vec<Arc<str>>> = parts
        .keys()
        .filter_map(|name| match name {
            Name::Claim(path) => Some(path),
            _ => None,
        })
        .collect();
    let mixed = parts.iter().filter(|(name, _)| matches!(name, Name::Claim(_))).any(|(_, asks)| {
        let scalars = |ask: &&Ask| matches!(residues.question(**ask), Some(Atom::Text { of: Text::Claim(_), .. }));
        let strings = |ask: &&Ask| {
            matches!(residues.question(**ask), Some(Atom::Text { of: Text::StringClaim(_) | Text::SpacedClaim(_), .. }))
        };
        asks.iter().any(|ask| scalars(&ask)) && asks.iter().any(|ask| strings(&ask))
    });
    let is_subject = |path: &&Vec<Arc<str>>| matches!(path.as_slice(), [only] if matches!(&**only, "iss" | "sub"));
    let nested = |one: &&Vec<Arc<str>>| claims.iter().any(|other| other.len() > one.len() && other.starts_with(one));
    let host = parts.keys().any(|name| matches!(name, Name::Header(name) if &**name == "host"));
    if asks_query && parts.keys().any(|name| matches!(name, Name::Query(_))) {
        return Err(Undecided::Together("path and query as one, and single parameters"));
    }
    if parts.contains_key(&Name::Subject) && claims.iter().any(is_subject) {
        return Err(Undecided::Together("the principal of a token, and its claims `iss` or `sub`"));
    }
    if claims.iter().any(nested) {
        return Err(Undecided::Together("a claim, and a part of it"));
    }
    if mixed {
        return Err(Undecided::Together("a claim as text, and as strings alone"));
    }
    if host {
        return Err(Undecided::Together("the header `host`, which is the authority"));
    }
    Ok(())
}
