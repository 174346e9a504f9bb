//! What one atom asks of a value, as an automaton over the *written form* of that value.
//!
//! A value with several parts is written as one string, so that every question about it is one automaton: a path with
//! its query (`/a?b`), a host with its port (`h:80`), the lines of a header or the values of a parameter with
//! [`NEXT`] between them. How a dialect cuts and combines the parts is in the [`Lift`].

use super::machine::{DEAD, Machine, SURE};

/// Between two lines of a header, two values of a parameter, two elements of a claim.
pub(super) const NEXT: u16 = 256;

/// How a question about parts becomes one about the written form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Lift {
    /// About the whole written form.
    Whole,
    /// About what comes before this byte.
    Before(u8),
    /// About a path (before `?`), with or without one trailing slash.
    EitherSlash,
    /// About a path (before `?`), with and without one trailing slash.
    BothSlashes,
    /// Any value.
    AnyValue,
    /// Every value.
    EveryValue,
    /// All header lines joined with commas.
    Joined,
    /// Any header line, or any trimmed comma part.
    AnyPart,
    /// Every trimmed comma part of every header line.
    EveryPart,
    /// Any of the words between spaces.
    AnyWord,
    /// At least one word, and every one.
    EveryWord,
}

/// State of an element; the meaning of the numbers is the lift's.
pub(super) type State = [u32; 4];

/// See the module. Several machines: a value matches when any of them accepts it (only where a lift says "every").
#[derive(Debug)]
pub(super) struct Element {
    pub(super) lift: Lift,
    pub(super) machines: Vec<Machine>,
    /// States of the union of several machines.
    unions: Vec<Box<[u32]>>,
    numbers: hashbrown::HashMap<Box<[u32]>, u32, foldhash::fast::RandomState>,
}

/// What is known of an element in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outlook {
    /// Never true from here.
    Never,
    /// Always true from here.
    Always,
    /// Depends on what follows.
    Open,
}

impl Element {
    pub(super) fn new(lift: Lift, machines: Vec<Machine>) -> Self {
        Self { lift, machines, unions: Vec::new(), numbers: hashbrown::HashMap::default() }
    }

    pub(super) fn start(&mut self) -> State {
        let start = self.first();
        match self.lift {
            Lift::AnyPart => [start, start, start, 0],
            Lift::EveryPart => [start, start, 0, 0],
            Lift::EitherSlash | Lift::BothSlashes => [start, DEAD, EMPTY, 0],
            Lift::AnyWord | Lift::EveryWord => [start, 0, 0, 0],
            _ => [start, 0, 0, 0],
        }
    }

    pub(super) fn step(&mut self, state: State, symbol: u16) -> State {
        let byte = u8::try_from(symbol).ok();
        let [one, two, three, four] = state;
        match (self.lift, byte) {
            (Lift::Whole, Some(byte)) => [self.next(one, byte), 0, 0, 0],
            (Lift::Before(end), Some(byte)) if byte == end => self.settled(one),
            (Lift::Before(_), Some(byte)) => [self.next(one, byte), 0, 0, 0],
            (Lift::EitherSlash | Lift::BothSlashes, Some(b'?')) => {
                if self.is_true(state) {
                    SETTLED_TRUE
                } else {
                    SETTLED_FALSE
                }
            }
            (Lift::EitherSlash | Lift::BothSlashes, Some(byte)) => {
                let kind = match (three, byte) {
                    (EMPTY, b'/') => ROOT,
                    (_, b'/') => SLASH,
                    _ => OTHER,
                };
                [self.next(one, byte), one, kind, 0]
            }
            (Lift::AnyValue, None) if self.accepts(one) => SETTLED_TRUE,
            (Lift::EveryValue, None) if !self.accepts(one) => SETTLED_FALSE,
            (Lift::AnyValue | Lift::EveryValue, None) => [self.first(), 0, 0, 0],
            (Lift::AnyValue | Lift::EveryValue, Some(byte)) => [self.next(one, byte), 0, 0, 0],
            (Lift::Joined, byte) => [self.next(one, byte.unwrap_or(b',')), 0, 0, 0],
            (Lift::EveryPart, None | Some(b',')) => {
                let first = self.first();
                if self.accepts(two) { [first, first, 0, 0] } else { SETTLED_FALSE }
            }
            (Lift::EveryPart, Some(b' ' | b'\t')) if three == 0 => state,
            (Lift::EveryPart, Some(byte @ (b' ' | b'\t'))) => [self.next(one, byte), two, three, 0],
            (Lift::EveryPart, Some(byte)) => {
                let next = self.next(one, byte);
                [next, next, 1, 0]
            }
            (Lift::AnyPart, None) if self.accepts(one) || self.accepts(three) => SETTLED_TRUE,
            (Lift::AnyPart, None) => self.start(),
            (Lift::AnyPart, Some(b',')) if self.accepts(three) => SETTLED_TRUE,
            (Lift::AnyPart, Some(b',')) => {
                let first = self.first();
                [self.next(one, b','), first, first, 0]
            }
            (Lift::AnyPart, Some(byte @ (b' ' | b'\t'))) => {
                let part = if four == 0 { two } else { self.next(two, byte) };
                [self.next(one, byte), part, three, four]
            }
            (Lift::AnyPart, Some(byte)) => {
                let part = self.next(two, byte);
                [self.next(one, byte), part, part, 1]
            }
            (Lift::AnyWord, None | Some(b' ')) if two != 0 && self.accepts(one) => SETTLED_TRUE,
            (Lift::EveryWord, None | Some(b' ')) if two != 0 && !self.accepts(one) => SETTLED_FALSE,
            (Lift::AnyWord | Lift::EveryWord, None | Some(b' ')) => [self.first(), 0, three | two, 0],
            (Lift::AnyWord | Lift::EveryWord, Some(byte)) => [self.next(one, byte), 1, three, 0],
            // Only lists have a next value.
            (Lift::Whole | Lift::Before(_) | Lift::EitherSlash | Lift::BothSlashes, None) => SETTLED_FALSE,
        }
    }

    /// Whether the value that ends here is what the atom asks for.
    pub(super) fn is_true(&mut self, state: State) -> bool {
        if state == SETTLED_TRUE || state == SETTLED_FALSE {
            return state == SETTLED_TRUE;
        }
        let [one, two, three, _] = state;
        match self.lift {
            Lift::Whole | Lift::Before(_) | Lift::AnyValue | Lift::EveryValue | Lift::Joined => self.accepts(one),
            Lift::EitherSlash | Lift::BothSlashes => {
                let is = self.accepts(one);
                let other = match three {
                    ROOT => is,
                    SLASH => self.accepts(two),
                    _ => {
                        let with = self.next(one, b'/');
                        self.accepts(with)
                    }
                };
                if self.lift == Lift::BothSlashes { is && other } else { is || other }
            }
            Lift::EveryPart => self.accepts(two),
            Lift::AnyPart => self.accepts(one) || self.accepts(three),
            Lift::AnyWord => two != 0 && self.accepts(one),
            Lift::EveryWord => {
                if two == 0 {
                    three != 0
                } else {
                    self.accepts(one)
                }
            }
        }
    }

    pub(super) fn outlook(&self, state: State) -> Outlook {
        match (state, self.lift) {
            (SETTLED_TRUE, _) => Outlook::Always,
            (SETTLED_FALSE, _) => Outlook::Never,
            ([DEAD, ..], Lift::Whole | Lift::Before(_) | Lift::Joined | Lift::BothSlashes | Lift::EveryValue) => {
                Outlook::Never
            }
            ([DEAD, DEAD, ..], Lift::EitherSlash) => Outlook::Never,
            (
                [SURE, ..],
                Lift::Whole | Lift::Before(_) | Lift::Joined | Lift::EitherSlash | Lift::AnyValue | Lift::AnyPart,
            ) => Outlook::Always,
            _ => Outlook::Open,
        }
    }

    fn settled(&self, state: u32) -> State {
        if self.accepts(state) { SETTLED_TRUE } else { SETTLED_FALSE }
    }

    fn first(&mut self) -> u32 {
        match self.machines.as_slice() {
            [] => DEAD,
            [only] => only.start(),
            several => {
                let starts = several.iter().map(Machine::start).collect();
                self.number(starts)
            }
        }
    }

    fn next(&mut self, state: u32, byte: u8) -> u32 {
        match self.machines.as_slice() {
            [] => DEAD,
            [only] => only.step(state, byte),
            several => {
                if state == DEAD || state == SURE {
                    return state;
                }
                let Some(union) = self.unions.get(state as usize) else { return DEAD };
                let next = several.iter().zip(union).map(|(machine, state)| machine.step(*state, byte)).collect();
                self.number(next)
            }
        }
    }

    fn accepts(&self, state: u32) -> bool {
        match self.machines.as_slice() {
            [] => false,
            [only] => only.accepts(state),
            several => {
                state == SURE
                    || self
                        .unions
                        .get(state as usize)
                        .is_some_and(|union| several.iter().zip(union).any(|(machine, state)| machine.accepts(*state)))
            }
        }
    }

    fn number(&mut self, union: Box<[u32]>) -> u32 {
        if union.contains(&SURE) {
            return SURE;
        }
        if union.iter().all(|state| *state == DEAD) {
            return DEAD;
        }
        let next = u32::try_from(self.unions.len()).unwrap_or(DEAD);
        match self.numbers.entry(union) {
            hashbrown::hash_map::Entry::Occupied(held) => *held.get(),
            hashbrown::hash_map::Entry::Vacant(free) => {
                self.unions.push(free.key().clone());
                *free.insert(next)
            }
        }
    }
}

/// What has been read of a path.
const EMPTY: u32 = 0;
const ROOT: u32 = 1;
const SLASH: u32 = 2;
const OTHER: u32 = 3;

const SETTLED_TRUE: State = [SURE, SURE, SURE, SURE];
const SETTLED_FALSE: State = [DEAD, DEAD, DEAD, DEAD];
