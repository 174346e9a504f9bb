//! The compiled lookup table: what runs.
//!
//! Built once from a model ([`Table::build`], or [`Table::rebuild`] from the table before it) and never changed. The way of a decision: [`plan`] resolves a connection
//! (who selects whom, which conditions over the connection hold), [`judge`] asks tiers and stacks, [`bank`] finds the
//! rules that act. Addresses and workloads are the registry's: their change recompiles nothing.

mod asked;
mod attribute;
mod bank;
mod clause;
mod flat;
mod gate;
mod hash;
mod heap;
mod judge;
mod need;
mod normal;
mod path;
pub(crate) mod plan;
mod residue;
mod state;
#[cfg(test)]
mod tests;
mod text;
mod unit;

use std::sync::Arc;

use hashbrown::HashMap;

use crate::model::interpret::tier::reference;
use crate::model::{Model, Policy};
use crate::verdict::RuleRef;
use hash::Seed;
use state::Methods;
use unit::{Before, Subjects, Unit};

/// Every rule of a model, ready to be looked up.
#[derive(Debug)]
pub struct Table {
    seed: Seed,
    methods: Methods,
    /// In the order of stacks and tiers.
    units: Box<[Unit]>,
    subjects: Subjects,
    /// By position in the model, as verdicts name them.
    policies: Box<[Arc<RuleRef>]>,
    /// By position among the rules of all policies.
    rules: Box<[Arc<RuleRef>]>,
    has_http_options: bool,
    /// How many proxies in front may tell the client's address.
    trusted_proxies: u32,
}

/// How large a table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Policies of the model.
    pub policies: usize,
    /// Rules of the model.
    pub rules: usize,
    /// Sets of policies with the same subject, tier and stack.
    pub scopes: usize,
    /// Distinct conditions over connections.
    pub gates: usize,
    /// Conjunctions that the rules became.
    pub clauses: usize,
    /// Places of the index that hold a clause.
    pub postings: usize,
    /// Bytes of the heap that the index holds.
    pub bytes: usize,
}

impl Table {
    /// Compiles a model.
    #[must_use]
    pub fn build(model: &Model) -> Self {
        Self::anew(model, Methods::of(model))
    }

    fn anew(model: &Model, methods: Methods) -> Self {
        Self::with(model, methods, Seed::default(), &Before::default(), &References::default())
    }

    /// Compiles what has changed: units of the very same policies are taken over. `held` is the model that this table
    /// was built from.
    #[must_use]
    pub fn rebuild(&self, held: &Model, model: &Model) -> Self {
        let methods = Methods::of(model);
        if held.settings != model.settings || !self.methods.covers(&methods) {
            return Self::anew(model, methods);
        }
        let before = Before::of(&self.units, held);
        Self::with(model, self.methods.clone(), self.seed.clone(), &before, &References::of(self, held))
    }

    fn with(model: &Model, methods: Methods, seed: Seed, before: &Before<'_>, references: &References<'_>) -> Self {
        let units = unit::units(model, &methods, &seed, before);
        let subjects = Subjects::new(&units, model, &seed);
        let (policies, rules): (Vec<_>, Vec<_>) =
            model.policies.iter().map(|policy| references.of_policy(policy)).unzip();
        Self {
            subjects,
            units: units.into(),
            policies: policies.into(),
            rules: rules.into_iter().flatten().collect(),
            trusted_proxies: model.settings.istio.trusted_proxies,
            has_http_options: model.policies.iter().any(|policy| !policy.http_options.is_empty()),
            methods,
            seed,
        }
    }

    /// How large it is.
    #[must_use]
    pub fn size(&self) -> Size {
        let mut size = Size {
            policies: self.policies.len(),
            rules: self.rules.len(),
            scopes: self.units.len(),
            ..Size::default()
        };
        for bank in self.units.iter().flat_map(Unit::banks) {
            size.bytes += bank.bytes();
            let (gates, clauses, postings) = bank.size();
            size.gates += gates;
            size.clauses += clauses;
            size.postings += postings;
        }
        size
    }

    fn unit(&self, number: u32) -> Option<&Unit> {
        self.units.get(number as usize)
    }

    fn side(&self, live: &plan::Live) -> Option<&unit::Side> {
        Some(self.unit(live.unit)?.side(live.direction))
    }
}

/// What verdicts name of an earlier table, by policy.
#[derive(Default)]
struct References<'a>(HashMap<*const Policy, OfPolicy<'a>, foldhash::fast::RandomState>);

/// A policy as a whole, and its rules.
type OfPolicy<'a> = (&'a Arc<RuleRef>, &'a [Arc<RuleRef>]);

impl<'a> References<'a> {
    fn of(table: &'a Table, model: &Model) -> Self {
        let mut rules = &*table.rules;
        let policies = model.policies.iter().zip(&table.policies).map(|(policy, reference)| {
            let (own, others) = rules.split_at_checked(policy.rules.len()).unwrap_or_default();
            rules = others;
            (Arc::as_ptr(policy), (reference, own))
        });
        Self(policies.collect())
    }

    fn of_policy(&self, policy: &Arc<Policy>) -> (Arc<RuleRef>, Vec<Arc<RuleRef>>) {
        match self.0.get(&Arc::as_ptr(policy)) {
            Some((whole, rules)) => (Arc::clone(whole), rules.to_vec()),
            None => (reference(policy, None), policy.rules.iter().map(|rule| reference(policy, Some(rule))).collect()),
        }
    }
}
