//! One pattern as an automaton over bytes. Its states are numbers; [`DEAD`] can never match again, [`SURE`] always will.

use std::sync::Arc;

use regex_automata::dfa::{Automaton as _, StartKind, dense};
use regex_automata::util::primitives::StateID;
use regex_automata::util::{start, syntax};
use regex_automata::{Anchored, MatchKind, nfa::thompson};

use super::Undecided;
use crate::model::{AsciiSet, Pattern, Rest, Segment};

/// No continuation matches.
pub(super) const DEAD: u32 = u32::MAX;
/// Every continuation matches.
pub(super) const SURE: u32 = u32::MAX - 1;

/// See the module.
#[derive(Clone, Debug)]
pub(super) enum Machine {
    /// These bytes, or (`open`) whatever begins with them.
    Text { bytes: Arc<[u8]>, fold: bool, open: bool },
    /// Whatever ends with these bytes: Knuth, Morris and Pratt's automaton, by the length of the longest border.
    End { bytes: Arc<[u8]>, fold: bool, borders: Vec<usize> },
    /// At least one byte.
    NonEmpty,
    /// Anything.
    Anything,
    /// See [`Pattern::Segments`].
    Segments { segments: Vec<Segment>, rest: Rest },
    /// One label before `.` and these bytes.
    OneLabel(Arc<[u8]>),
    /// A regular expression.
    Expression(Box<dense::DFA<Vec<u32>>>),
}

impl Machine {
    /// # Errors
    /// An expression whose automaton would be too large.
    pub(super) fn of(pattern: &Pattern) -> Result<Self, Undecided> {
        let text = |bytes: &Arc<[u8]>, fold, open| Self::Text { bytes: Arc::clone(bytes), fold, open };
        let end = |bytes: &Arc<[u8]>, fold| Self::End { borders: borders(bytes, fold), bytes: Arc::clone(bytes), fold };
        Ok(match pattern {
            Pattern::Exact(bytes) => text(bytes, false, false),
            Pattern::ExactIgnoreCase(bytes) => text(bytes, true, false),
            Pattern::Prefix(bytes) => text(bytes, false, true),
            Pattern::PrefixIgnoreCase(bytes) => text(bytes, true, true),
            Pattern::Suffix(bytes) => end(bytes, false),
            Pattern::SuffixIgnoreCase(bytes) => end(bytes, true),
            Pattern::NonEmpty => Self::NonEmpty,
            Pattern::Anything => Self::Anything,
            Pattern::Segments { segments, rest } => Self::Segments { segments: segments.clone(), rest: *rest },
            Pattern::OneLabel(parent) => Self::OneLabel(parent.strip_prefix(b".").unwrap_or(parent).into()),
            Pattern::Regex { expression, source, .. } => {
                Self::expression(expression).map_err(|()| Undecided::Expression(Arc::clone(source)))?
            }
        })
    }

    /// An expression over bytes whose first match must cover the whole value.
    pub(super) fn expression(expression: &str) -> Result<Self, ()> {
        let config = dense::Config::new()
            .start_kind(StartKind::Anchored)
            .match_kind(MatchKind::LeftmostFirst)
            .dfa_size_limit(Some(LARGEST))
            .determinize_size_limit(Some(4 * LARGEST));
        let dfa = dense::Builder::new()
            .configure(config)
            .syntax(syntax::Config::new().unicode(false).utf8(false).dot_matches_new_line(true))
            .thompson(thompson::Config::new().utf8(false))
            .build(expression)
            .map_err(|_| ())?;
        Ok(Self::Expression(Box::new(dfa)))
    }

    pub(super) fn start(&self) -> u32 {
        match self {
            Self::Text { bytes, open, .. } if *open && bytes.is_empty() => SURE,
            Self::End { bytes, .. } if bytes.is_empty() => SURE,
            Self::Anything => SURE,
            Self::Expression(dfa) => {
                dfa.start_state(&start::Config::new().anchored(Anchored::Yes)).map_or(DEAD, |state| number(dfa, state))
            }
            _ => 0,
        }
    }

    pub(super) fn step(&self, state: u32, byte: u8) -> u32 {
        if state == DEAD || state == SURE {
            return state;
        }
        match self {
            Self::Text { bytes, fold, open } => {
                let at = state as usize;
                match bytes.get(at) {
                    Some(expected) if same(*expected, byte, *fold) => {
                        if *open && at + 1 == bytes.len() {
                            SURE
                        } else {
                            state + 1
                        }
                    }
                    _ => DEAD,
                }
            }
            Self::End { bytes, fold, borders } => longer(bytes, *fold, borders, state as usize, byte),
            Self::NonEmpty | Self::Anything => SURE,
            Self::Segments { segments, rest } => segment_step(segments, *rest, state, byte),
            Self::OneLabel(parent) => match (state, byte) {
                (0, b'.') => DEAD,
                (1, b'.') => 2,
                (0 | 1, _) => 1,
                (at, byte) if parent.get(at as usize - 2) == Some(&byte) => at + 1,
                _ => DEAD,
            },
            Self::Expression(dfa) => {
                StateID::new(state as usize).map_or(DEAD, |state| number(dfa, dfa.next_state(state, byte)))
            }
        }
    }

    pub(super) fn accepts(&self, state: u32) -> bool {
        if state == DEAD || state == SURE {
            return state == SURE;
        }
        let at = state as usize;
        match self {
            Self::Text { bytes, .. } | Self::End { bytes, .. } => at == bytes.len(),
            Self::NonEmpty | Self::Anything => false,
            Self::Segments { segments, rest } => segment_accepts(segments, *rest, state),
            Self::OneLabel(parent) => at == parent.len() + 2,
            Self::Expression(dfa) => StateID::new(at).is_ok_and(|state| dfa.is_match_state(dfa.next_eoi_state(state))),
        }
    }

    /// Bytes that this automaton may tell from others, each with the class that it is in; bytes of one class are alike.
    pub(super) fn classes(&self, mut tell: impl FnMut(&dyn Fn(u8) -> u8)) {
        let mut single = |byte: u8| tell(&move |other| u8::from(other == byte));
        match self {
            Self::Text { bytes, fold, .. } | Self::End { bytes, fold, .. } => {
                for byte in bytes.iter().copied() {
                    single(byte);
                    if *fold && byte.is_ascii_alphabetic() {
                        single(byte ^ 0x20);
                    }
                }
            }
            Self::NonEmpty | Self::Anything => {}
            Self::Segments { segments, rest } => {
                single(b'/');
                for segment in segments {
                    if let Segment::Literal(bytes) = segment {
                        bytes.iter().copied().for_each(&mut single);
                    }
                }
                let mut member = |set: &AsciiSet| tell(&|byte| u8::from(set.contains(byte)));
                segments.iter().for_each(|segment| {
                    if let Segment::Of(set) = segment {
                        member(set)
                    }
                });
                if let Rest::Of(set) = rest {
                    member(set);
                }
            }
            Self::OneLabel(parent) => {
                single(b'.');
                parent.iter().copied().for_each(&mut single);
            }
            Self::Expression(dfa) => tell(&|byte| dfa.byte_classes().get(byte)),
        }
    }
}

fn number(dfa: &dense::DFA<Vec<u32>>, state: StateID) -> u32 {
    if dfa.is_dead_state(state) { DEAD } else { u32::try_from(state.as_usize()).unwrap_or(DEAD) }
}

fn same(expected: u8, byte: u8, fold: bool) -> bool {
    expected == byte || (fold && expected.eq_ignore_ascii_case(&byte))
}

/// Length of the longest proper border of each prefix, by the prefix's length.
fn borders(bytes: &[u8], fold: bool) -> Vec<usize> {
    let mut borders = vec![0; bytes.len() + 1];
    let mut length = 0;
    for (at, byte) in bytes.iter().enumerate().skip(1) {
        while length > 0 && bytes.get(length).is_none_or(|next| !same(*next, *byte, fold)) {
            length = borders.get(length).copied().unwrap_or_default();
        }
        if bytes.get(length).is_some_and(|next| same(*next, *byte, fold)) {
            length += 1;
        }
        if let Some(border) = borders.get_mut(at + 1) {
            *border = length;
        }
    }
    borders
}

fn longer(bytes: &[u8], fold: bool, borders: &[usize], mut length: usize, byte: u8) -> u32 {
    loop {
        if bytes.get(length).is_some_and(|next| same(*next, byte, fold)) {
            return u32::try_from(length + 1).unwrap_or(DEAD);
        }
        if length == 0 {
            return 0;
        }
        length = borders.get(length).copied().unwrap_or_default();
    }
}

/// State 0: before the first slash; else 1 + (segment, place in it).
fn segment_state(segment: usize, place: usize) -> u32 {
    u32::try_from(1 + (segment << 16 | place)).unwrap_or(DEAD)
}

fn segment_step(segments: &[Segment], rest: Rest, state: u32, byte: u8) -> u32 {
    if state == 0 {
        return match (byte, segments.is_empty(), rest) {
            (b'/', true, Rest::Below) => SURE,
            (b'/', _, _) => segment_state(0, 0),
            _ => DEAD,
        };
    }
    let (index, place) = ((state as usize - 1) >> 16, (state as usize - 1) & 0xFFFF);
    let Some(segment) = segments.get(index) else {
        return match rest {
            Rest::Of(set) if byte == b'/' || set.contains(byte) => state,
            _ => DEAD,
        };
    };
    if byte == b'/' {
        return match (is_whole(segment, place), index + 1 == segments.len(), rest) {
            (true, false, _) | (true, true, Rest::Of(_)) => segment_state(index + 1, 0),
            (true, true, Rest::Below) => SURE,
            _ => DEAD,
        };
    }
    match segment {
        Segment::Of(set) if !set.contains(byte) => DEAD,
        Segment::Of(_) => segment_state(index, 1),
        Segment::Variable => segment_state(index, 1),
        Segment::Literal(bytes) if bytes.get(place) == Some(&byte) => segment_state(index, place + 1),
        Segment::Literal(_) => DEAD,
    }
}

fn segment_accepts(segments: &[Segment], rest: Rest, state: u32) -> bool {
    if state == 0 {
        return false;
    }
    let (index, place) = ((state as usize - 1) >> 16, (state as usize - 1) & 0xFFFF);
    match segments.get(index) {
        None => matches!(rest, Rest::Of(_)) || segments.is_empty() && rest == Rest::Nothing,
        Some(segment) => index + 1 == segments.len() && is_whole(segment, place) && !matches!(rest, Rest::Of(_)),
    }
}

fn is_whole(segment: &Segment, place: usize) -> bool {
    match segment {
        Segment::Literal(bytes) => place == bytes.len(),
        Segment::Variable | Segment::Of(_) => place > 0,
    }
}

/// Bytes of the automaton of one expression; what is larger is left undecided.
const LARGEST: usize = 8 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::interpret::pattern;

    fn bytes(text: &str) -> Arc<[u8]> {
        text.as_bytes().into()
    }

    fn expression(text: &str) -> Pattern {
        let syntax = syntax::Config::new().unicode(false).utf8(false).dot_matches_new_line(true);
        let regex = regex_automata::meta::Regex::builder().syntax(syntax).build(text).unwrap();
        Pattern::Regex { source: text.into(), expression: text.into(), regex }
    }

    fn patterns() -> Vec<Pattern> {
        let literal = |text: &str| Segment::Literal(bytes(text));
        let mut all = vec![Pattern::NonEmpty, Pattern::Anything];
        for text in ["", "a", "ab", "aab", "abab", "/a/", "A.b"] {
            all.extend([
                Pattern::Exact(bytes(text)),
                Pattern::ExactIgnoreCase(bytes(text)),
                Pattern::Prefix(bytes(text)),
                Pattern::PrefixIgnoreCase(bytes(text)),
                Pattern::Suffix(bytes(text)),
                Pattern::SuffixIgnoreCase(bytes(text)),
                Pattern::OneLabel(bytes(text)),
            ]);
        }
        let letters = AsciiSet::alphanumeric_and(b".");
        for rest in [Rest::Nothing, Rest::Below, Rest::Of(letters)] {
            all.extend([
                Pattern::Segments { segments: vec![], rest },
                Pattern::Segments { segments: vec![literal("a")], rest },
                Pattern::Segments { segments: vec![literal("a"), Segment::Variable], rest },
                Pattern::Segments { segments: vec![Segment::Variable, literal("")], rest },
                Pattern::Segments { segments: vec![Segment::Of(AsciiSet::alphanumeric_and(b"")), literal("a")], rest },
            ]);
        }
        all.extend(["^(?:a|ab)$", "^(?:a|ab)", "^(?:a*b)?$", "^(?:/a|/aab)", ".*", "a{2,}b"].map(expression));
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3_000))]

        #[test]
        fn an_automaton_accepts_what_its_pattern_matches(value in "[abAB./]{0,7}") {
            for held in patterns() {
                let machine = Machine::of(&held).unwrap();
                let end = value.bytes().fold(machine.start(), |state, byte| machine.step(state, byte));
                let expected = pattern::matches(&held, value.as_bytes());
                prop_assert_eq!(machine.accepts(end), expected, "{:?} {:?}", held, value);
            }
        }
    }
}
