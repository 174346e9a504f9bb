//! The compiled lookup table: what runs.
//!
//! Built once from a model ([`Table::build`], or [`Table::rebuild`] from the table before it) and never changed. The way
//! of a decision: [`plan`] resolves a connection (who selects whom, which conditions over the connection hold), [`judge`]
//! asks tiers and stacks, [`bank`] finds the rules that act, by their paths in a [`trie`]. Addresses and workloads are the registry's: their change recompiles nothing.

mod asked;
mod attribute;
mod bank;
mod clause;
mod gate;
mod grouping;
mod hash;
mod heap;
mod judge;
mod need;
mod normal;
pub(crate) mod plan;
mod residue;
mod state;
#[cfg(test)]
mod tests;
mod text;
mod trie;
mod unit;

use crate::model::Model;
use crate::model::position::Positions;
use crate::verdict::{RuleId, RuleRef};
use grouping::Before;
use hash::Seed;
use state::Methods;
use unit::{Subjects, Unit};

/// Every rule of a model, ready to be looked up.
#[derive(Debug)]
pub struct Table {
    seed: Seed,
    methods: Methods,
    /// In the order of stacks and tiers.
    units: Box<[Unit]>,
    subjects: Subjects,
    positions: Positions,
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
    /// Sets of policies with the same subject, tier and stack; two of one set where some of it have changed.
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
        Self::with(model, Methods::of(model.policies.iter()), Seed::default(), &Before::default())
    }

    /// Compiles what has changed: what was indexed of the very same policies is taken over. `held` is the model that this
    /// table was built from.
    #[must_use]
    pub fn rebuild(&self, held: &Model, model: &Model) -> Self {
        let before = Before::of(&self.units, held);
        let methods = Methods::of(model.policies.iter().filter(|policy| !before.has(policy)));
        if held.settings != model.settings || !self.methods.covers(&methods) {
            return Self::build(model);
        }
        Self::with(model, self.methods.clone(), self.seed.clone(), &before)
    }

    fn with(model: &Model, methods: Methods, seed: Seed, before: &Before<'_>) -> Self {
        let positions = Positions::of(model);
        let units = grouping::units(model, &positions, &methods, &seed, before);
        let subjects = Subjects::new(&units, model, &seed);
        Self {
            subjects,
            units: units.into(),
            positions,
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
            policies: self.positions.policies(),
            rules: self.positions.rules(),
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

    /// What an id names in the model that this table was built from.
    pub(crate) fn named<'m>(&self, id: RuleId, model: &'m Model) -> Option<RuleRef<'m>> {
        self.positions.named(id, model)
    }

    fn unit(&self, number: u32) -> Option<&Unit> {
        self.units.get(number as usize)
    }
}
