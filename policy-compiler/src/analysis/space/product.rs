//! All questions about one value, asked together: which combinations of answers are possible, each with the shortest
//! value that has it.
//!
//! The automata are walked in lockstep from their starts, breadth first, so every reachable combination is found and the
//! first value that reaches it is one of the shortest. An automaton that can only say no (or only yes) from here on is
//! not carried further: of a thousand exact paths a handful is alive at any one place, so the walk costs about the total
//! length of the patterns.

use std::collections::VecDeque;

use super::element::{Element, NEXT, Outlook, State};
use super::{Budget, Undecided};

/// One combination of answers that some value has.
#[derive(Clone, Debug)]
pub(super) struct Class {
    /// The elements that are true of it, ascending.
    pub(super) holds: Box<[u32]>,
    /// A shortest value, in written form.
    pub(super) value: Vec<u16>,
}

/// One place of the walk: where the domain stands, which elements are undecided and where, which are decided to hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    domain: State,
    live: Box<[(u32, State)]>,
    holds: Box<[u32]>,
}

/// Every combination of answers that a value of the domain can have.
///
/// # Errors
/// The budget is used up.
pub(super) fn classes(
    domain: &mut Element,
    elements: &mut [Element],
    list: bool,
    budget: &mut Budget,
) -> Result<Vec<Class>, Undecided> {
    let symbols = symbols(domain, elements, list);
    let mut walk = Walk::default();
    let start = Place {
        domain: domain.start(),
        live: (0u32..).zip(elements.iter_mut()).map(|(index, element)| (index, element.start())).collect(),
        holds: Box::default(),
    };
    walk.visit(settle(start, elements), None, budget)?;
    let mut found: hashbrown::HashMap<Box<[u32]>, usize, foldhash::fast::RandomState> = hashbrown::HashMap::default();
    let mut order = Vec::new();
    while let Some((number, place)) = walk.queue.pop_front() {
        if domain.is_true(place.domain) {
            let mut holds = place.holds.to_vec();
            for (index, state) in &*place.live {
                if elements.get_mut(*index as usize).is_some_and(|element| element.is_true(*state)) {
                    holds.push(*index);
                }
            }
            holds.sort_unstable();
            found.entry(holds.into()).or_insert_with_key(|holds| {
                order.push(Class { holds: holds.clone(), value: walk.value(number) });
                number
            });
        }
        for symbol in &symbols {
            let next_domain = domain.step(place.domain, *symbol);
            if domain.outlook(next_domain) == Outlook::Never {
                continue;
            }
            budget.spend(1 + place.live.len() as u64 / 16)?;
            let mut live = Vec::with_capacity(place.live.len());
            for (index, state) in &*place.live {
                if let Some(element) = elements.get_mut(*index as usize) {
                    live.push((*index, element.step(*state, *symbol)));
                }
            }
            let next = Place { domain: next_domain, live: live.into(), holds: place.holds.clone() };
            walk.visit(settle(next, elements), Some((number, *symbol)), budget)?;
        }
    }
    Ok(order)
}

/// Moves what is decided out of the way.
fn settle(mut place: Place, elements: &[Element]) -> Place {
    let outlook = |index: u32, state: State| {
        elements.get(index as usize).map_or(Outlook::Never, |element| element.outlook(state))
    };
    if place.live.iter().all(|(index, state)| outlook(*index, *state) == Outlook::Open) {
        return place;
    }
    let mut holds = place.holds.to_vec();
    let mut live = Vec::new();
    for (index, state) in &*place.live {
        match outlook(*index, *state) {
            Outlook::Open => live.push((*index, *state)),
            Outlook::Always => holds.push(*index),
            Outlook::Never => {}
        }
    }
    holds.sort_unstable();
    place.holds = holds.into();
    place.live = live.into();
    place
}

/// The places seen so far, and the way to each.
#[derive(Default)]
struct Walk {
    seen: hashbrown::HashSet<Place, foldhash::fast::RandomState>,
    /// Where each place was reached from, and by which symbol.
    from: Vec<Option<(usize, u16)>>,
    queue: VecDeque<(usize, Place)>,
}

impl Walk {
    fn visit(&mut self, place: Place, from: Option<(usize, u16)>, budget: &mut Budget) -> Result<(), Undecided> {
        if self.seen.contains(&place) {
            return Ok(());
        }
        budget.spend(STATE)?;
        self.seen.insert(place.clone());
        self.queue.push_back((self.from.len(), place));
        self.from.push(from);
        Ok(())
    }

    fn value(&self, mut number: usize) -> Vec<u16> {
        let mut value = Vec::new();
        while let Some(Some((from, symbol))) = self.from.get(number) {
            value.push(*symbol);
            number = *from;
        }
        value.reverse();
        value
    }
}

/// One symbol for each class of bytes that no automaton tells apart: the one that reads best. Those that read best come
/// first, so of several shortest values the best to read is found.
fn symbols(domain: &Element, elements: &[Element], list: bool) -> Vec<u16> {
    let mut class = [0u16; 256];
    let mut count = 1;
    let mut refine = |of: &dyn Fn(u8) -> u8| {
        let mut numbers: hashbrown::HashMap<(u16, u8), u16, foldhash::fast::RandomState> =
            hashbrown::HashMap::default();
        let mut next = 0;
        for (byte, held) in (0..=u8::MAX).zip(class.iter_mut()) {
            *held = *numbers.entry((*held, of(byte))).or_insert_with(|| {
                next += 1;
                next - 1
            });
        }
        count = next;
    };
    refine(&|byte| match byte {
        b'/' => 1,
        b'?' => 2,
        b',' => 3,
        b' ' => 4,
        b'\t' => 5,
        b':' => 6,
        _ => 0,
    });
    let mut single = [false; 256];
    for machine in std::iter::once(domain).chain(elements).flat_map(|element| &element.machines) {
        machine.classes(|of| {
            // Most patterns tell one byte from all others, and most of those bytes were told apart before.
            let ones: Vec<u8> = (0..=u8::MAX).filter(|byte| of(*byte) == 1).take(2).collect();
            let is_single = (0..=u8::MAX).all(|byte| of(byte) <= 1);
            match ones.as_slice() {
                [only] if is_single => match single.get_mut(*only as usize) {
                    Some(seen) if *seen => {}
                    Some(seen) => {
                        *seen = true;
                        refine(of);
                    }
                    None => {}
                },
                _ => refine(of),
            }
        });
    }
    let mut taken = vec![false; usize::from(count)];
    let mut symbols = Vec::new();
    for byte in READABLE.iter().copied().chain(0..=u8::MAX) {
        let Some(class) = class.get(byte as usize) else { continue };
        if let Some(taken) = taken.get_mut(usize::from(*class))
            && !*taken
        {
            *taken = true;
            symbols.push(u16::from(byte));
        }
    }
    if list {
        symbols.push(NEXT);
    }
    symbols
}

/// What a place of the walk costs of the budget, beside its steps.
const STATE: u64 = 4;

/// Bytes that read well, the best first.
const READABLE: &[u8] = b"xabcdefghijklmnopqrstuvwyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-_./:=+!@$&'()*~";
