//! A rule's condition as clauses: a disjunction of conjunctions, each conjunction cut into the dimensions that an index
//! can use.
//!
//! Only one disjunction of a rule is always opened up (there a clause stands for each branch, so their number is that
//! of the branches); others are while the product stays small, and are left whole in the residue else. Lists inside one
//! dimension (a thousand peers, a thousand paths) are never multiplied.

use crate::model::{Atom, Each, Pattern, Text};
use crate::table::need::Need;
use crate::table::normal::Normal;
use crate::table::state::{Methods, protocol_mask};

/// One conjunction.
#[derive(Clone, Debug)]
pub(super) struct Clause {
    /// What is fixed for the life of a connection.
    pub(super) gate: Normal,
    /// Method states that are accepted.
    pub(super) methods: u64,
    /// Protocol states that are accepted.
    pub(super) protocols: u16,
    /// The text by which the clause is found.
    pub(super) key: Option<Key>,
    /// Whatever is left.
    pub(super) residue: Normal,
}

/// A text that must match one of a list of patterns.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// Which text.
    pub(super) of: KeyText,
    /// Any of these.
    pub(super) is: Vec<Pattern>,
}

/// The texts that clauses can be found by, the most telling first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum KeyText {
    /// The canonical path.
    Path,
    /// The same with and without one trailing slash.
    PathEitherSlash,
    /// Name asked for in DNS.
    Qname,
    /// Host without port.
    Host,
    /// Server name.
    Sni,
}

/// Beyond this many clauses a further disjunction of the same rule stays whole.
const PRODUCT: usize = 64;

/// The clauses of a condition, in the order in which it lists them.
pub(super) fn clauses(condition: Normal, methods: &Methods, need: Need) -> Vec<Clause> {
    let mut found = Vec::new();
    split(condition.into_conjuncts(), 1, methods, need, &mut found);
    found
}

fn split(conjuncts: Vec<Normal>, width: usize, methods: &Methods, need: Need, found: &mut Vec<Clause>) {
    let mut branching: Option<(usize, usize)> = None;
    for (index, conjunct) in conjuncts.iter().enumerate() {
        let Normal::Any(branches) = conjunct else { continue };
        if is_one_dimension(conjunct, methods, need) || !branches.iter().any(|branch| is_useful(branch, methods, need))
        {
            continue;
        }
        let weight = branches.iter().filter(|branch| has_key(branch)).count();
        if branching.is_none_or(|(_, held)| weight > held) {
            branching = Some((index, weight));
        }
    }
    let mut conjuncts = conjuncts;
    if let Some((index, _)) = branching
        && let Some(Normal::Any(branches)) = conjuncts.get(index)
        && (width == 1 || width.saturating_mul(branches.len()) <= PRODUCT)
    {
        let wider = width.saturating_mul(branches.len());
        let Normal::Any(branches) = conjuncts.remove(index) else { return };
        for branch in branches {
            let mut parts = conjuncts.clone();
            parts.extend(branch.into_conjuncts());
            split(parts, wider, methods, need, found);
        }
        return;
    }
    found.extend(clause(conjuncts, methods, need));
}

/// One conjunction; `None` if no request can meet it.
fn clause(conjuncts: Vec<Normal>, methods: &Methods, need: Need) -> Option<Clause> {
    let mut gate = Vec::new();
    let mut residue = Vec::new();
    let mut keys: Vec<(KeyText, Normal)> = Vec::new();
    let (mut method_states, mut protocol_states) = (u64::MAX, u16::MAX);
    for conjunct in conjuncts {
        if conjunct.is_of_connection() {
            gate.push(conjunct);
        } else if let Some(mask) = methods.mask(&conjunct, need) {
            method_states &= mask;
        } else if let Some(mask) = protocol_mask(&conjunct, need) {
            protocol_states &= mask;
        } else if let Some(of) = key(&conjunct) {
            keys.push((of, conjunct));
        } else {
            residue.push(conjunct);
        }
    }
    let best = keys.iter().enumerate().min_by_key(|(_, (of, _))| *of).map(|(index, _)| index);
    let mut chosen = None;
    for (index, (of, conjunct)) in keys.into_iter().enumerate() {
        if Some(index) == best {
            chosen = Some(Key { of, is: patterns(conjunct) });
        } else {
            residue.push(conjunct);
        }
    }
    let (gate, residue) = (Normal::all(gate), Normal::all(residue));
    let never = gate == Normal::False || residue == Normal::False || method_states == 0 || protocol_states == 0;
    (!never).then_some(Clause { gate, methods: method_states, protocols: protocol_states, key: chosen, residue })
}

/// Whether a disjunction lies in one dimension, so that nothing is won by opening it up.
fn is_one_dimension(condition: &Normal, methods: &Methods, need: Need) -> bool {
    condition.is_of_connection()
        || methods.mask(condition, need).is_some()
        || protocol_mask(condition, need).is_some()
        || key(condition).is_some()
}

/// Whether some conjunct of a branch lies in a dimension of the index.
fn is_useful(branch: &Normal, methods: &Methods, need: Need) -> bool {
    is_one_dimension(branch, methods, need)
        || match branch {
            Normal::All(parts) | Normal::Any(parts) => parts.iter().any(|part| is_useful(part, methods, need)),
            Normal::True | Normal::False | Normal::Literal { .. } => false,
        }
}

fn has_key(branch: &Normal) -> bool {
    key(branch).is_some()
        || match branch {
            Normal::All(parts) => parts.iter().any(has_key),
            Normal::Any(parts) => parts.iter().all(has_key),
            Normal::True | Normal::False | Normal::Literal { .. } => false,
        }
}

/// Which text it is, where a condition says no more than that one text matches one of a list of patterns.
fn key(condition: &Normal) -> Option<KeyText> {
    match condition {
        Normal::Literal { atom: Atom::Text { of, each, is }, negated: false } => {
            match (of, each) {
                (Text::Path, _) => Some(KeyText::Path),
                // Of the two values any one suffices, unless the rule wants every one.
                (Text::PathEitherSlash, Each::Some | Each::Joined | Each::Line) => Some(KeyText::PathEitherSlash),
                (Text::Host, _) if is.iter().all(is_whole) => Some(KeyText::Host),
                (Text::Sni, _) if is.iter().all(is_whole) => Some(KeyText::Sni),
                (Text::Qname, _) if is.iter().all(is_whole) => Some(KeyText::Qname),
                _ => None,
            }
        }
        Normal::Any(branches) => {
            let mut branches = branches.iter();
            let first = key(branches.next()?)?;
            branches.all(|branch| key(branch) == Some(first)).then_some(first)
        }
        _ => None,
    }
}

/// The patterns of a condition that is a [`key`].
fn patterns(condition: Normal) -> Vec<Pattern> {
    match condition {
        Normal::Literal { atom: Atom::Text { is, .. }, .. } => is,
        Normal::Any(branches) => branches.into_iter().flat_map(patterns).collect(),
        // INVARIANT: nothing else is a key.
        _ => Vec::new(),
    }
}

fn is_whole(pattern: &Pattern) -> bool {
    matches!(pattern, Pattern::Exact(_) | Pattern::ExactIgnoreCase(_))
}
