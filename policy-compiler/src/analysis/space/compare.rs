//! What two sets of policies do differently, over all flows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value as Json;

use super::diagram::{Function, NONE};
use super::difference::{Change, Comparison, Kind, Open, Options};
use super::ends::{Group, visit};
use super::function::{Requests, Variables};
use super::program::Program;
use super::reading::{Alone, Marks, Reading};
use super::survey::{Entry, Survey, connection};
use super::{Budget, Undecided, region, witness};
use crate::canonical::Options as Canonical;
use crate::facts::Transport;
use crate::flow::Question;
use crate::model::interpret::leg::legs;
use crate::model::interpret::scope::canonical_scope;
use crate::model::interpret::tier::{self, Table};
use crate::model::interpret::{STACKS, TIERS};
use crate::model::{Atom, Text};
use crate::registry::WorkloadId;
use crate::verdict::Action;
use crate::world::{CanonicalScope, World};

/// Compares two worlds that share a registry.
#[must_use]
pub fn compare(old: &World, new: &World, options: Options) -> Comparison {
    compare_within(old, new, options, &mut Budget::new(options.budget))
}

/// The same with what is left of a budget.
pub(crate) fn compare_within(old: &World, new: &World, options: Options, budget: &mut Budget) -> Comparison {
    let mut comparison = Comparison::default();
    let mut survey = match Survey::new(vec![old, new], options.direction, options.now, budget) {
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
    let marks = Marks::new(&mut survey.programs.residues);
    let mut variables = Variables::default();
    for (key, entries) in differences {
        let (survey, variables, marks) = (&survey, &mut variables, &marks);
        let mut worker = Worker { survey, variables, marks, options, key: &key, entries: &entries };
        worker.run(budget, &mut comparison);
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
        for sources in survey.sources_of(destination) {
            if sources.first().is_none_or(|source| survey.is_same(*source, destination)) {
                continue;
            }
            survey.between(&sources, destination, &mut |entry| {
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
    let endpoints = |entry: &Entry| {
        let service = survey.destination(entry.destination).and_then(|group| group.end.service)?;
        survey.worlds.first()?.registry().service(service).map(|service| service.endpoints.clone())
    };
    let mut direct: BTreeMap<WorkloadId, Vec<Arc<[usize]>>> = BTreeMap::new();
    for entry in entries.iter() {
        for id in survey.destination(entry.destination).iter().flat_map(|group| &group.workloads) {
            direct.entry(*id).or_default().push(Arc::clone(&entry.sources));
        }
    }
    for entry in entries.iter_mut() {
        let Some(endpoints) = endpoints(entry) else { continue };
        let met = endpoints.iter().filter_map(|id| direct.get(id)).flatten();
        let met: BTreeSet<usize> = met.flat_map(|sources| sources.iter().copied()).collect();
        entry.sources = entry.sources.iter().copied().filter(|source| !met.contains(source)).collect();
    }
    entries.retain(|entry| !entry.sources.is_empty());
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
    marks: &'a Marks,
    options: Options,
    key: &'a Key,
    entries: &'a [Entry],
}

impl Worker<'_, '_> {
    fn run(&mut self, budget: &mut Budget, comparison: &mut Comparison) {
        let reading = match self.entries.first().map(|entry| entry.options.as_slice()) {
            Some([old, new]) => Reading::of(*old, *new),
            _ => Reading::of(Canonical::default(), Canonical::default()),
        };
        let mut found = vec![self.of_both(reading.both, budget)];
        found.extend(reading.alone.iter().map(|alone| self.of_one(alone, budget)));
        found.extend(reading.in_two_ways.iter().map(|which| Err(Undecided::Read(which))));
        for found in found {
            match found {
                Ok(mut changes) => comparison.changes.append(&mut changes),
                Err(why) => self.leave_open(&why, comparison),
            }
        }
    }

    /// What differs of the requests that both sides read alike.
    fn of_both(&mut self, canonical: Canonical, budget: &mut Budget) -> Result<Vec<Change>, Undecided> {
        let programs = &self.survey.programs;
        let mut asked = BTreeSet::new();
        self.key.old.iter().chain(&*self.key.new).for_each(|program| programs.asks(*program, &mut asked));
        let mut requests = Requests::of(programs, &asked, self.key.transport, canonical, self.variables, budget)?;
        let old = requests.allowed(&self.key.old, programs, budget)?;
        let new = requests.allowed(&self.key.new, programs, budget)?;
        let mut found = Vec::new();
        for (kind, before, after) in [(Kind::Allowed, old, new), (Kind::Denied, new, old)] {
            let not_before = requests.diagram.not(before, budget)?;
            let changed = requests.diagram.and(after, not_before, budget)?;
            for (words, example) in regions(&mut requests, changed, budget)? {
                for place in self.places() {
                    let witness = self.witness(&requests, &example, place.3)?;
                    found.push(self.change(kind, &words, witness, place)?);
                }
            }
        }
        Ok(found)
    }

    /// What one side allows of the requests that it alone reads: the other refuses them.
    fn of_one(&mut self, alone: &Alone, budget: &mut Budget) -> Result<Vec<Change>, Undecided> {
        let programs = &self.survey.programs;
        let (own, kind) = if alone.world == 0 { (&self.key.old, Kind::Denied) } else { (&self.key.new, Kind::Allowed) };
        let mut asked = BTreeSet::new();
        own.iter().for_each(|program| programs.asks(*program, &mut asked));
        let mark = self.marks.of(alone.sign);
        mark.iter().for_each(|mark| programs.residues.asks(*mark, &mut asked));
        let mut requests = Requests::of(programs, &asked, self.key.transport, alone.options, self.variables, budget)?;
        let allowed = requests.allowed(own, programs, budget)?;
        let read = match mark {
            Some(mark) => requests.condition(mark, &programs.residues, budget)?.surely,
            None => requests.with_path(budget)?,
        };
        let changed = requests.diagram.and(allowed, read, budget)?;
        let mut found = Vec::new();
        for (words, example) in regions(&mut requests, changed, budget)? {
            let words = format!("{words}, refused without `{}`", alone.written);
            for place in self.places() {
                let mut witness = self.witness(&requests, &example, place.3)?;
                let scopes = [alone.world, 1 - alone.world].map(|world| self.scope(world, place.3));
                let [Some(own), Some(other)] = scopes else { return Err(Undecided::Unconfirmed) };
                if !alone.mark(&mut witness, &own, &other) {
                    continue;
                }
                match self.change(kind, &words, witness, place) {
                    // No rule of the other side looks into requests: it refuses none, and judges all alike.
                    Err(_) if other.opaque => {}
                    change => found.push(change?),
                }
            }
        }
        Ok(found)
    }

    fn scope(&self, world: usize, entry: &Entry) -> Option<CanonicalScope> {
        let (world, direction) = (self.survey.worlds.get(world)?, self.options.direction);
        let (from, to) = (self.survey.source(entry.source())?, self.survey.destination(entry.destination)?);
        let connection = connection(world, &from.end, &to.end, entry.port, entry.transport, direction);
        Some(canonical_scope(world.model(), world.registry(), &connection))
    }

    fn witness(&self, requests: &Requests, example: &BTreeMap<usize, usize>, entry: &Entry) -> Result<Json, Undecided> {
        let Options { now, direction, .. } = self.options;
        let (Some(world), Some(from), Some(to)) = (
            self.survey.worlds.first(),
            self.survey.source(entry.source()),
            self.survey.destination(entry.destination),
        ) else {
            return Err(Undecided::Unconfirmed);
        };
        Ok(witness::request(requests, example, (&from.end, &to.end), entry, world, direction, now))
    }

    /// A witness counts once both sides have judged it.
    fn change(&self, kind: Kind, words: &str, witness: Json, place: Place<'_>) -> Result<Change, Undecided> {
        let [old, new] = self.survey.worlds.as_slice() else { return Err(Undecided::Unconfirmed) };
        let question = Question::from_json(&witness).map_err(|_| Undecided::Unconfirmed)?;
        let judge = |world: &World| question.answer(world, self.options.now).map_err(|_| Undecided::Unconfirmed);
        let (old, new) = (judge(old)?, judge(new)?);
        let allowed = (old.verdict == Action::Allow, new.verdict == Action::Allow);
        if allowed != (kind == Kind::Denied, kind == Kind::Allowed) {
            return Err(Undecided::Unconfirmed);
        }
        let (sources, destinations, ports, entry) = place;
        let transports = vec![entry.transport];
        Ok(Change { kind, sources, destinations, ports, transports, requests: words.to_owned(), witness, old, new })
    }

    /// Who is between whom and on which ports: groups of destinations that the same sources reach on the same ports.
    fn places(&self) -> Vec<Place<'_>> {
        type Ranges = Vec<(u16, u16)>;
        let mut ports: BTreeMap<(usize, &[usize]), Vec<&Entry>> = BTreeMap::new();
        for entry in self.entries {
            ports.entry((entry.destination, &entry.sources)).or_default().push(entry);
        }
        let mut sources: BTreeMap<(usize, Ranges), Vec<&Entry>> = BTreeMap::new();
        for ((destination, _), entries) in ports {
            let ranges = entries.iter().map(|entry| entry.ports).collect();
            sources.entry((destination, ranges)).or_default().extend(entries.first());
        }
        let mut places: BTreeMap<(Vec<usize>, Ranges), Vec<&Entry>> = BTreeMap::new();
        for ((_, ranges), entries) in sources {
            let mut from: Vec<usize> = entries.iter().flat_map(|entry| entry.sources.iter().copied()).collect();
            from.sort_unstable();
            places.entry((from, ranges)).or_default().extend(entries.first());
        }
        places
            .into_iter()
            .filter_map(|((from, ranges), entries)| {
                let names = |members: Vec<&Vec<String>>| members.into_iter().flatten().cloned().collect::<Vec<_>>();
                let from: Vec<&Group> = from.iter().filter_map(|at| self.survey.source(*at)).collect();
                let workloads = from.iter().flat_map(|group| group.workloads.iter().copied()).collect();
                let is_named =
                    |group: &&&Group| !self.survey.worlds.iter().any(|world| group.adds_nothing_to(&workloads, world));
                let from = from.iter().filter(is_named).map(|group| &group.members).collect();
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
        let (Some(from), Some(to)) = (self.survey.source(entry.source()), self.survey.destination(entry.destination))
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
