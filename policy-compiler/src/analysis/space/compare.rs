//! What two sets of policies do differently, over all flows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value as Json;

use super::diagram::{Function, NONE};
use super::ends::visit;
use super::function::{Requests, Variables};
use super::program::Program;
use super::survey::{Entry, Survey, connection};
use super::{Budget, Undecided, region, witness};
use crate::canonical::Options as Canonical;
use crate::facts::{Direction, Transport};
use crate::flow::{Answer, Question};
use crate::model::interpret::leg::legs;
use crate::model::interpret::tier::{self, Table};
use crate::model::interpret::{STACKS, TIERS};
use crate::model::{Atom, Text};
use crate::verdict::Action;
use crate::world::World;

/// How flows are compared.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The time at which everything is judged.
    pub now: i64,
    /// Steps that one comparison of two sets of rules may take.
    pub budget: u64,
    /// One side alone; both where missing.
    pub direction: Option<Direction>,
}

/// Steps that are enough for every hand-written policy, and taken in a few seconds.
pub const BUDGET: u64 = 20_000_000;

/// What is different.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Comparison {
    /// What is newly allowed, then what is newly denied.
    pub changes: Vec<Change>,
    /// What could not be worked out.
    pub undecided: Vec<Open>,
}

/// Whether more or less passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Denied before, allowed now.
    Allowed,
    /// Allowed before, denied now.
    Denied,
}

/// Flows that meet another verdict than before, all for the same reason.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// Newly allowed or newly denied.
    pub kind: Kind,
    /// Who sends them: each of these.
    pub sources: Vec<String>,
    /// Where they go: each of these.
    pub destinations: Vec<String>,
    /// On these ports.
    pub ports: Vec<String>,
    /// Over these transports.
    pub transports: Vec<Transport>,
    /// Which requests, in words.
    pub requests: String,
    /// One of them, as `decide` reads it.
    pub witness: Json,
    /// What it met before.
    pub old: Answer,
    /// What it meets now.
    pub new: Answer,
}

/// Flows of which it is not known whether they meet another verdict.
#[derive(Clone, Debug, Serialize)]
pub struct Open {
    /// Who sends them.
    pub sources: Vec<String>,
    /// Where they go.
    pub destinations: Vec<String>,
    /// On these ports.
    pub ports: Vec<String>,
    /// Over this transport.
    pub transport: Option<Transport>,
    /// Why.
    pub why: String,
    /// The rules that would have to be compared.
    pub rules: Vec<String>,
}

/// Compares two worlds that share a registry.
#[must_use]
pub fn compare(old: &World, new: &World, options: Options) -> Comparison {
    let mut comparison = Comparison::default();
    let mut budget = Budget::new(options.budget);
    let mut survey = match Survey::new(vec![old, new], options.direction, options.now, &mut budget) {
        Ok(survey) => survey,
        Err(why) => {
            comparison.undecided.push(Open {
                sources: vec!["everybody".into()],
                destinations: vec!["everybody".into()],
                ports: vec!["every port".into()],
                transport: None,
                why: format!("who can be at an end of a flow is not worked out: {why}"),
                rules: Vec::new(),
            });
            return comparison;
        }
    };
    let differences = differences(&mut survey);
    let mut variables = Variables::default();
    for (key, entries) in differences {
        let mut worker = Worker { survey: &survey, variables: &mut variables, options, key: &key, entries: &entries };
        let mut budget = Budget::new(options.budget);
        if let Err(why) = worker.run(&mut budget, &mut comparison) {
            worker.leave_open(&why, &mut comparison);
        }
    }
    comparison.changes = merged(std::mem::take(&mut comparison.changes));
    comparison
}

/// In order of what they are about; what is the same over several transports is one.
fn merged(mut changes: Vec<Change>) -> Vec<Change> {
    let place = |change: &Change| {
        (
            change.kind,
            change.destinations.clone(),
            change.sources.clone(),
            change.ports.clone(),
            change.requests.clone(),
        )
    };
    changes.sort_by_cached_key(place);
    let mut merged: Vec<Change> = Vec::new();
    for change in changes {
        match merged.last_mut() {
            Some(last) if place(last) == place(&change) => last.transports.extend(change.transports),
            _ => merged.push(change),
        }
    }
    merged
}

/// Connections whose programs differ in the same way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    old: Arc<[Program]>,
    new: Arc<[Program]>,
    transport: Transport,
    options: Vec<[u8; 6]>,
}

fn differences(survey: &mut Survey<'_>) -> BTreeMap<Key, Vec<Entry>> {
    let mut found: BTreeMap<Key, Vec<Entry>> = BTreeMap::new();
    for destination in 0..survey.ends.destinations.len() {
        for source in 0..survey.ends.sources.len() {
            if survey.is_same(source, destination) {
                continue;
            }
            survey.between(source, destination, &mut |entry| {
                let [old, new] = entry.outcome.as_slice() else { return };
                let options: Vec<_> = entry.options.iter().map(numbers).collect();
                if old == new && options.windows(2).all(|pair| pair.first() == pair.last()) {
                    return;
                }
                let key = Key { old: Arc::clone(old), new: Arc::clone(new), transport: entry.transport, options };
                found.entry(key).or_default().push(entry);
            });
        }
    }
    for entries in found.values_mut() {
        drop_services(survey, entries);
    }
    found
}

/// What is said of a Service is said of its endpoints already, where they are met in the same way.
fn drop_services(survey: &Survey<'_>, entries: &mut Vec<Entry>) {
    let mut direct = BTreeSet::new();
    for entry in entries.iter() {
        if let Some(group) = survey.destination(entry.destination) {
            direct.extend(group.workloads.iter().map(|id| (entry.source, *id)));
        }
    }
    entries.retain(|entry| {
        let world = survey.worlds.first();
        let service = survey.destination(entry.destination).and_then(|group| group.end.service);
        let service = service.and_then(|id| world?.registry().service(id));
        service.is_none_or(|service| !service.endpoints.iter().any(|id| direct.contains(&(entry.source, *id))))
    });
}

/// Options of canonicalisation, in an order: the smaller accepts more.
fn numbers(options: &Canonical) -> [u8; 6] {
    let Canonical { escaped_slash, backslash, path_parameters, merge_slashes, method_override, underscore_headers } =
        *options;
    [escaped_slash, backslash, path_parameters, merge_slashes, method_override, underscore_headers]
        .map(|option| option as u8)
}

struct Worker<'a, 'w> {
    survey: &'a Survey<'w>,
    variables: &'a mut Variables,
    options: Options,
    key: &'a Key,
    entries: &'a [Entry],
}

impl Worker<'_, '_> {
    fn run(&mut self, budget: &mut Budget, comparison: &mut Comparison) -> Result<(), Undecided> {
        let programs = &self.survey.programs;
        let mut asked = BTreeSet::new();
        self.key.old.iter().chain(&*self.key.new).for_each(|program| programs.asks(*program, &mut asked));
        let canonical = self.canonical()?;
        let mut requests = Requests::of(programs, &asked, self.key.transport, canonical, self.variables, budget)?;
        let old = requests.allowed(&self.key.old, programs, budget)?;
        let new = requests.allowed(&self.key.new, programs, budget)?;
        let mut found = Vec::new();
        for (kind, before, after) in [(Kind::Allowed, old, new), (Kind::Denied, new, old)] {
            let not_before = requests.diagram.not(before, budget)?;
            let changed = requests.diagram.and(after, not_before, budget)?;
            for (words, example) in regions(&mut requests, changed, budget)? {
                for (sources, destinations, ports, entry) in self.places() {
                    found.push(self.change(
                        kind,
                        &words,
                        &requests,
                        &example,
                        (sources, destinations, ports),
                        entry,
                    )?);
                }
            }
        }
        comparison.changes.append(&mut found);
        Ok(())
    }

    /// What canonicalisation accepts. Where the two sides differ, that is a difference of its own.
    fn canonical(&self) -> Result<Canonical, Undecided> {
        match self.entries.first().map(|entry| entry.options.as_slice()) {
            Some([old, new]) if old == new => Ok(*old),
            Some([_, _]) => Err(Undecided::Canonical),
            _ => Ok(Canonical::default()),
        }
    }

    fn change(
        &self,
        kind: Kind,
        words: &str,
        requests: &Requests,
        example: &BTreeMap<usize, usize>,
        (sources, destinations, ports): (Vec<String>, Vec<String>, Vec<String>),
        entry: &Entry,
    ) -> Result<Change, Undecided> {
        let Options { now, direction, .. } = self.options;
        let ([old, new], Some(from), Some(to)) = (
            self.survey.worlds.as_slice(),
            self.survey.source(entry.source),
            self.survey.destination(entry.destination),
        ) else {
            return Err(Undecided::Unconfirmed);
        };
        let witness = witness::request(requests, example, (&from.end, &to.end), entry, new, direction, now);
        let question = Question::from_json(&witness).map_err(|_| Undecided::Unconfirmed)?;
        let judge = |world: &World| question.answer(world, now).map_err(|_| Undecided::Unconfirmed);
        let (old, new) = (judge(old)?, judge(new)?);
        let allowed = (old.verdict == Action::Allow, new.verdict == Action::Allow);
        if allowed != (kind == Kind::Denied, kind == Kind::Allowed) {
            return Err(Undecided::Unconfirmed);
        }
        let transports = vec![entry.transport];
        Ok(Change { kind, sources, destinations, ports, transports, requests: words.to_owned(), witness, old, new })
    }

    /// Who is between whom and on which ports: groups of destinations that the same sources reach on the same ports.
    fn places(&self) -> Vec<Place<'_>> {
        let mut ports: BTreeMap<(usize, usize), Vec<&Entry>> = BTreeMap::new();
        for entry in self.entries {
            ports.entry((entry.destination, entry.source)).or_default().push(entry);
        }
        type Ranges = Vec<(u16, u16)>;
        let mut sources: BTreeMap<(usize, Ranges), Vec<&Entry>> = BTreeMap::new();
        for ((destination, _), entries) in ports {
            let ranges = entries.iter().map(|entry| entry.ports).collect();
            sources.entry((destination, ranges)).or_default().extend(entries.first());
        }
        let mut places: BTreeMap<(Vec<usize>, Ranges), Vec<&Entry>> = BTreeMap::new();
        for ((_, ranges), entries) in sources {
            let from = entries.iter().map(|entry| entry.source).collect();
            places.entry((from, ranges)).or_default().extend(entries.first());
        }
        places
            .into_iter()
            .filter_map(|((from, ranges), entries)| {
                let names = |members: Vec<&Vec<String>>| members.into_iter().flatten().cloned().collect::<Vec<_>>();
                let from = from.iter().filter_map(|at| Some(&self.survey.source(*at)?.members)).collect();
                let to = entries.iter().filter_map(|entry| Some(&self.survey.destination(entry.destination)?.members));
                Some((names(from), names(to.collect()), ports_in_words(&ranges), *entries.first()?))
            })
            .collect()
    }

    fn leave_open(&self, why: &Undecided, comparison: &mut Comparison) {
        for (sources, destinations, ports, entry) in self.places() {
            let rules = self.rules(entry);
            let transport = Some(self.key.transport);
            comparison.undecided.push(Open { sources, destinations, ports, transport, why: why.to_string(), rules });
        }
    }

    /// The rules in scope, on both sides, that ask about requests.
    fn rules(&self, entry: &Entry) -> Vec<String> {
        let (Some(from), Some(to)) = (self.survey.source(entry.source), self.survey.destination(entry.destination))
        else {
            return Vec::new();
        };
        let mut rules = BTreeSet::new();
        for world in &self.survey.worlds {
            let connection = connection(world, &from.end, &to.end, entry.port, entry.transport, self.options.direction);
            for leg in &legs(world.model(), world.registry(), &connection) {
                for (stack, tier) in STACKS.into_iter().flat_map(|stack| TIERS.map(|tier| (stack, tier))) {
                    let policies = tier::selecting(leg, Table::Enforced, stack, tier);
                    for (policy, rule) in tier::rules_of(&policies, leg) {
                        let mut asks = false;
                        visit(&rule.condition, &mut |atom| {
                            asks |= matches!(atom, Atom::Text { of, .. } if *of != Text::PeerPrincipal);
                        });
                        if asks {
                            rules.insert(format!("{} rule `{}` at {}", policy.name, rule.name, rule.location));
                        }
                    }
                }
            }
        }
        rules.into_iter().collect()
    }
}

/// Requests in words, and one of them: the value of each variable.
pub(super) type Region = (String, BTreeMap<usize, usize>);

/// Sources, destinations, ports, and a connection among them.
type Place<'e> = (Vec<String>, Vec<String>, Vec<String>, &'e Entry);

/// Boxes of a function that some possible request is in, in words, each with the best request of it.
pub(super) fn regions(requests: &mut Requests, of: Function, budget: &mut Budget) -> Result<Vec<Region>, Undecided> {
    let possible = requests.diagram.and(of, requests.possible, budget)?;
    if possible == NONE {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for part in requests.diagram.boxes(of, budget)? {
        let mut inside = requests.possible;
        for (level, set) in &part {
            let one = requests.diagram.one_of(*level, set);
            inside = requests.diagram.and(inside, one, budget)?;
        }
        if let Some(example) = requests.example(inside) {
            found.push((region::words(requests, &part), example));
        }
    }
    Ok(found)
}

/// `8080, 9000-9010`; `every port`.
pub(super) fn ports_in_words(ranges: &[(u16, u16)]) -> Vec<String> {
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if u32::from(*end) + 1 == u32::from(*first) => *end = *last,
            _ => merged.push((*first, *last)),
        }
    }
    let words = |range: &(u16, u16)| match *range {
        (1, u16::MAX) => "every port".to_owned(),
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    };
    merged.iter().map(words).collect()
}
