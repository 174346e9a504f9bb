//! What one side of a connection does with each request: the rules that are left of its policies, stack by stack and
//! tier by tier, in the interpreter's order.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::residue::{Ask, FALSE, Residue, Residues, TRUE, UNKNOWN};
use crate::facts::{Direction, Fact, Protocol, Request, Truth};
use crate::model::interpret::leg::Leg;
use crate::model::interpret::tier::{self, Table};
use crate::model::interpret::{STACKS, TIERS, may_be_probe, probe, truth};
use crate::model::{Atom, Each, Effect, Expr, Pattern, Text, Tier, content};
use crate::registry::Probe;

type Map<K, V> = hashbrown::HashMap<K, V, foldhash::fast::RandomState>;

/// An interned program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Program(pub(super) u32);

/// One side of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Steps {
    /// A Service without a ready endpoint, closed: denied whatever the request.
    pub(super) dead: bool,
    /// The workload takes proven peers alone, and this is none: probes pass, and nothing else.
    pub(super) lacks_proof: bool,
    /// Requests that pass as declared probes unless an Admin Deny matches.
    pub(super) probe: Residue,
    /// Tiers of each stack that say anything.
    pub(super) stacks: Box<[Box<[TierSteps]>]>,
}

/// One tier of one stack.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct TierSteps {
    pub(super) tier: Tier,
    pub(super) ordered: bool,
    pub(super) rules: Box<[(Effect, Residue)]>,
    pub(super) close: Close,
}

/// Whether a tier closes the direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Close {
    Open,
    Closed,
    /// By a policy with an error.
    Broken,
}

/// The policies that judge one workload in one direction, made ready for any number of connections.
#[derive(Debug)]
pub(super) struct Side {
    tiers: Vec<Ready>,
    /// Questions about who the ends are, each once.
    who: Vec<Atom>,
    /// Questions about port and transport, each once.
    whereto: Vec<Atom>,
    /// Whether any stack closes the direction.
    closes: bool,
    asks_probes: bool,
    programs: Map<Key, Program>,
}

#[derive(Debug, PartialEq)]
struct Ready {
    stack: usize,
    tier: Tier,
    ordered: bool,
    rules: Vec<(Effect, Tree)>,
    close: Close,
}

/// A condition whose questions about the connection are numbered.
#[derive(Debug, PartialEq)]
enum Tree {
    Left(Residue),
    Who(usize),
    Whereto(usize),
    Probe,
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    who: Arc<[u8]>,
    whereto: Box<[u8]>,
    probe: Residue,
    declared: Residue,
    dead: bool,
    lacks_proof: bool,
}

/// Every program of one comparison.
#[derive(Debug, Default)]
pub(super) struct Programs {
    steps: Vec<Steps>,
    numbers: Map<Steps, Program>,
    pub(super) residues: Residues,
}

impl Programs {
    pub(super) fn steps(&self, of: Program) -> Option<&Steps> {
        self.steps.get(of.0 as usize)
    }

    /// The questions that a program depends on.
    pub(super) fn asks(&self, of: Program, into: &mut BTreeSet<Ask>) {
        let Some(steps) = self.steps(of) else { return };
        self.residues.asks(steps.probe, into);
        for tier in steps.stacks.iter().flatten() {
            tier.rules.iter().for_each(|(_, rule)| self.residues.asks(*rule, into));
        }
    }

    fn number(&mut self, steps: Steps) -> Program {
        if let Some(held) = self.numbers.get(&steps) {
            return *held;
        }
        let number = Program(u32::try_from(self.steps.len()).unwrap_or(u32::MAX));
        self.steps.push(steps.clone());
        self.numbers.insert(steps, number);
        number
    }
}

impl Steps {
    /// Allows everything.
    pub(super) fn is_open(&self) -> bool {
        !self.dead && !self.lacks_proof && self.stacks.is_empty()
    }
}

// === impl Side ===

impl Side {
    /// The policies that judge the leg's subject in the leg's direction, at this time.
    pub(super) fn of(leg: &Leg<'_>, now: i64, residues: &mut Residues) -> Self {
        let mut side = Self {
            tiers: Vec::new(),
            who: Vec::new(),
            whereto: Vec::new(),
            closes: false,
            asks_probes: false,
            programs: Map::default(),
        };
        let mut seen = Map::default();
        for (number, stack) in STACKS.into_iter().enumerate() {
            for tier in TIERS {
                let policies = tier::selecting(leg, Table::Enforced, stack, tier);
                let close = match tier::closer(&policies, leg) {
                    Some(policy) if policy.broken => Close::Broken,
                    Some(_) => Close::Closed,
                    None => Close::Open,
                };
                side.closes |= close != Close::Open;
                let rules: Vec<_> = tier::rules_of(&policies, leg)
                    .filter(|(_, rule)| !tier::is_expired(rule, now))
                    .map(|(_, rule)| (rule.effect, side.tree(&rule.condition, &mut seen, residues)))
                    .collect();
                if close != Close::Open || !rules.is_empty() {
                    side.tiers.push(Ready { stack: number, tier, ordered: tier.is_ordered(stack), rules, close });
                }
            }
        }
        side
    }

    /// Nothing is asked and nothing closed.
    pub(super) fn is_open(&self) -> bool {
        self.tiers.is_empty()
    }

    /// The same rules in the same order: no connection can tell the two apart. (The reverse does not hold.)
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.tiers == other.tiers && self.who == other.who && self.whereto == other.whereto
    }

    /// The ranges of ports that questions tell apart: bounds of each.
    pub(super) fn port_bounds(&self, into: &mut BTreeSet<u32>) {
        use crate::model::PortAtom;
        for atom in &self.whereto {
            if let Atom::Port(PortAtom::Range(low, high)) = atom {
                into.insert(u32::from(*low));
                into.insert(u32::from(*high) + 1);
            }
        }
    }

    /// Keys of the annotations that questions about ports read.
    pub(super) fn annotations(&self) -> impl Iterator<Item = &str> {
        use crate::model::PortAtom;
        self.whereto.iter().filter_map(|atom| match atom {
            Atom::Port(PortAtom::Annotated(key)) => Some(&**key),
            _ => None,
        })
    }

    /// What is known of the ends of a connection, for [`Self::program`].
    pub(super) fn who(&self, leg: &Leg<'_>) -> Arc<[u8]> {
        self.who.iter().map(|atom| value(atom, leg)).collect()
    }

    /// What is left of the policies for one connection. `lacks_proof`: as [`Steps::lacks_proof`].
    pub(super) fn program(
        &mut self,
        leg: &Leg<'_>,
        who: &Arc<[u8]>,
        lacks_proof: bool,
        programs: &mut Programs,
    ) -> Program {
        let key = Key {
            who: Arc::clone(who),
            whereto: self.whereto.iter().map(|atom| value(atom, leg)).collect(),
            probe: if may_be_probe(leg) { passing_probes(leg, &mut programs.residues) } else { FALSE },
            declared: if self.asks_probes { declared_probes(leg, &mut programs.residues) } else { FALSE },
            dead: leg.destination.port.is_none() && self.closes,
            lacks_proof,
        };
        if let Some(held) = self.programs.get(&key) {
            return *held;
        }
        let program = self.build(&key, programs);
        self.programs.insert(key, program);
        program
    }

    fn build(&self, key: &Key, programs: &mut Programs) -> Program {
        if key.dead {
            let dead = Steps { dead: true, lacks_proof: false, probe: FALSE, stacks: Box::default() };
            return programs.number(dead);
        }
        let mut stacks: Vec<Box<[TierSteps]>> = Vec::new();
        for stack in 0..STACKS.len() {
            let mut tiers = Vec::new();
            for ready in self.tiers.iter().filter(|ready| ready.stack == stack) {
                let steps = ready.steps(key, &mut programs.residues);
                if steps.close == Close::Open && steps.rules.is_empty() {
                    continue;
                }
                let passes = steps.rules.iter().any(|(effect, _)| *effect == Effect::Pass);
                let surely = |effect| steps.rules.first().is_some_and(|rule| *rule == (effect, TRUE));
                let ends = steps.close != Close::Open && !passes || surely(Effect::Deny) || surely(Effect::Allow);
                tiers.push(steps);
                if ends {
                    break;
                }
            }
            if !opens(&tiers) {
                stacks.push(tiers.into());
            }
        }
        let probe = if stacks.is_empty() && !key.lacks_proof { FALSE } else { key.probe };
        programs.number(Steps { dead: false, lacks_proof: key.lacks_proof, probe, stacks: stacks.into() })
    }

    fn tree(&mut self, condition: &Expr, seen: &mut Map<[u8; 32], usize>, residues: &mut Residues) -> Tree {
        match condition {
            Expr::True => Tree::Left(TRUE),
            Expr::False => Tree::Left(FALSE),
            Expr::Not(inner) => Tree::Not(Box::new(self.tree(inner, seen, residues))),
            Expr::All(parts) => Tree::All(parts.iter().map(|part| self.tree(part, seen, residues)).collect()),
            Expr::Any(parts) => Tree::Any(parts.iter().map(|part| self.tree(part, seen, residues)).collect()),
            Expr::Is(atom) => match atom {
                Atom::Subject(_)
                | Atom::Peer(_)
                | Atom::Located(_)
                | Atom::Present(Text::PeerPrincipal)
                | Atom::Text { of: Text::PeerPrincipal, .. } => Tree::Who(numbered(atom, &mut self.who, seen)),
                Atom::Port(_) | Atom::Transport(_) => Tree::Whereto(numbered(atom, &mut self.whereto, seen)),
                Atom::DeclaredProbe => {
                    self.asks_probes = true;
                    Tree::Probe
                }
                Atom::Protocol(_) | Atom::Text { .. } | Atom::Present(_) | Atom::RemoteIp(_) => {
                    Tree::Left(residues.ask(atom))
                }
            },
        }
    }
}

/// One tier that lets everything pass.
fn opens(tiers: &[TierSteps]) -> bool {
    match tiers {
        [] => true,
        [first, ..] => first.rules.first().is_some_and(|rule| *rule == (Effect::Allow, TRUE)),
    }
}

fn numbered(atom: &Atom, list: &mut Vec<Atom>, seen: &mut Map<[u8; 32], usize>) -> usize {
    *seen.entry(content::of_atom(atom)).or_insert_with(|| {
        list.push(atom.clone());
        list.len() - 1
    })
}

fn value(atom: &Atom, leg: &Leg<'_>) -> u8 {
    let truth = truth::connection(atom, leg).unwrap_or_else(|| {
        // About the peer's principal: a request adds nothing.
        truth::of(&Expr::Is(atom.clone()), leg, &Request::opaque(Fact::Unknown, 0))
    });
    match truth {
        Truth::False => 0,
        Truth::Unknown => 1,
        Truth::True => 2,
    }
}

impl Ready {
    fn steps(&self, key: &Key, residues: &mut Residues) -> TierSteps {
        let left = self.rules.iter().map(|(effect, tree)| (*effect, tree.left(key, residues)));
        let rules = if self.ordered { in_order(left) } else { by_strength(left) };
        TierSteps { tier: self.tier, ordered: self.ordered, rules: rules.into(), close: self.close }
    }
}

/// Rules that can act, up to the first that always does.
fn in_order(rules: impl Iterator<Item = (Effect, Residue)>) -> Vec<(Effect, Residue)> {
    let mut left = Vec::new();
    for (effect, residue) in rules {
        let never = residue == FALSE || (residue == UNKNOWN && effect == Effect::Allow);
        if never {
            continue;
        }
        left.push((effect, residue));
        if residue == TRUE || (residue == UNKNOWN && effect == Effect::Deny) {
            break;
        }
    }
    match left.first() {
        Some((Effect::Deny, TRUE | UNKNOWN)) => vec![(Effect::Deny, TRUE)],
        _ => left,
    }
}

/// Denies, then Allows, each once; nothing beside one that always acts.
fn by_strength(rules: impl Iterator<Item = (Effect, Residue)>) -> Vec<(Effect, Residue)> {
    let (mut denies, mut allows) = (Vec::new(), Vec::new());
    for (effect, residue) in rules {
        match (effect, residue) {
            (_, FALSE) | (Effect::Allow, UNKNOWN) | (Effect::Pass, _) => {}
            (Effect::Deny, TRUE | UNKNOWN) => return vec![(Effect::Deny, TRUE)],
            (Effect::Deny, other) => denies.push(other),
            (Effect::Allow, other) => allows.push(other),
        }
    }
    if allows.contains(&TRUE) {
        allows = vec![TRUE];
    }
    let each = |effect: Effect, mut list: Vec<Residue>| {
        list.sort_unstable();
        list.dedup();
        list.into_iter().map(move |residue| (effect, residue))
    };
    each(Effect::Deny, denies).chain(each(Effect::Allow, allows)).collect()
}

impl Tree {
    fn left(&self, key: &Key, residues: &mut Residues) -> Residue {
        match self {
            Self::Left(residue) => *residue,
            Self::Who(at) => known(key.who.get(*at)),
            Self::Whereto(at) => known(key.whereto.get(*at)),
            Self::Probe => key.declared,
            Self::Not(inner) => {
                let inner = inner.left(key, residues);
                residues.not(inner)
            }
            Self::All(parts) => {
                let parts = parts.iter().map(|part| part.left(key, residues)).collect();
                residues.all(parts)
            }
            Self::Any(parts) => {
                let parts = parts.iter().map(|part| part.left(key, residues)).collect();
                residues.any(parts)
            }
        }
    }
}

fn known(value: Option<&u8>) -> Residue {
    Residues::known(match value {
        Some(0) => Truth::False,
        Some(2) => Truth::True,
        _ => Truth::Unknown,
    })
}

/// The probes that pass without a rule: HTTP ones, and bytes of no known protocol on the port of a TCP one.
fn passing_probes(leg: &Leg<'_>, residues: &mut Residues) -> Residue {
    let Some(subject) = leg.workload().filter(|_| leg.direction == Direction::Inbound) else { return FALSE };
    let on_port: Vec<&Probe> = subject.probes.iter().filter(|probe| leg.destination.port == Some(probe.port)).collect();
    let each = on_port
        .iter()
        .map(|probe| match &probe.path {
            Some(target) => http_probe(&probe.method, target, residues),
            None => residues.ask(&Atom::Protocol(vec![Protocol::Tcp])),
        })
        .collect();
    residues.any(each)
}

fn declared_probes(leg: &Leg<'_>, residues: &mut Residues) -> Residue {
    let Some((workload, port)) = probe::on(leg) else { return FALSE };
    let on_port: Vec<&Probe> = workload.probes.iter().filter(|probe| probe.port == port).collect();
    let each =
        on_port.iter().filter_map(|probe| Some(http_probe(&probe.method, probe.path.as_ref()?, residues))).collect();
    residues.any(each)
}

/// Exactly this request: a path holds no `?`, so path and query are its target as it is written.
fn http_probe(method: &Arc<str>, target: &Arc<str>, residues: &mut Residues) -> Residue {
    let is = |of, text: &str| Atom::Text { of, each: Each::Line, is: vec![Pattern::Exact(text.as_bytes().into())] };
    let upgrade = residues.ask(&Atom::Present(Text::Upgrade));
    let parts = vec![
        residues.ask(&Atom::Protocol(vec![Protocol::Http, Protocol::Http2, Protocol::Grpc])),
        residues.ask(&is(Text::Method, method)),
        residues.ask(&is(Text::PathAndQuery, target)),
        residues.not(upgrade),
    ];
    residues.all(parts)
}
