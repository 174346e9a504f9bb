//! Paths by their segments. A place of the trie is found by comparing every byte on the way to it, so what is posted
//! there as exact needs no look at the path again; whatever cannot be placed exactly is placed where it is found by
//! more paths than it matches, never by fewer, and is compared.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::model::{AsciiSet, Pattern, Rest, Segment};
use crate::pace;
use crate::table::hash::{Seed, extend};

/// A range of postings.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The postings themselves.
    pub(super) fn slice<P>(self, postings: &[P]) -> &[P] {
        postings.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// Where a pattern is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// At a node, by its number.
    Node(u32, Reach),
    /// Nowhere in particular: always tried.
    Anywhere,
}

/// By which paths a posting at a node is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// Those that end there.
    End,
    /// Those that end there or go on.
    Below,
    /// Those that go on, be it by one slash.
    Beyond,
}

/// Whether paths that lead to a place still have to be compared with the pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exactness {
    /// They match.
    Exact,
    /// They match if they are made of slashes and this set.
    Of(AsciiSet),
    /// They may match.
    Candidate,
}

/// One node.
#[derive(Clone, Copy, Debug)]
struct Node<P> {
    number: u32,
    has_literal: bool,
    /// There is more behind a variable segment than an end.
    has_more_behind_variable: bool,
    lists: Lists<P>,
}

/// The postings of a node.
///
/// PERF: in a large table most nodes have one, and to look for it elsewhere costs as much as all the rest.
#[derive(Clone, Copy, Debug)]
enum Lists<P> {
    /// One in all.
    One(P, At),
    /// Any number.
    Many(Spans),
}

/// At which of its lists a node has its only posting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Own(Reach),
    VariableEnd,
}

const LISTS: [At; 4] = [At::Own(Reach::End), At::Own(Reach::Below), At::Own(Reach::Beyond), At::VariableEnd];

/// Where the postings of a node stand among all.
#[derive(Clone, Copy, Debug, Default)]
struct Spans {
    /// Where its own start, and how many there are of each [`Reach`], in that order.
    start: u32,
    end: u32,
    below: u32,
    beyond: u32,
    /// Those of the end of the node behind a variable segment.
    variable_end: Span,
}

/// Its key and itself.
///
/// PERF: one cache line, the bytes of a segment of usual length included.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Slot<P> {
    node: Node<P>,
    /// Number of the node that it hangs from, or [`NONE`] in an empty slot.
    parent: u32,
    /// Length of the segment, or [`NONE`] for a variable one.
    length: u32,
    /// The segment, or where a longer one starts in [`Trie::texts`].
    segment: [u8; INLINE],
}

/// The nodes, found by the number of their parent and their segment. A posting is a `P`.
#[derive(Clone, Debug)]
pub(super) struct Trie<P> {
    /// What all paths start with, and the node there.
    stem: Box<[u8]>,
    top: Node<P>,
    /// Open addressing; half of it is empty.
    slots: Box<[Slot<P>]>,
    texts: Box<[u8]>,
}

/// Collects places.
#[derive(Debug)]
pub(super) struct TrieBuilder {
    drafts: Vec<Draft>,
    children: HashTable<u32>,
}

/// A node that is not finished.
#[derive(Debug, Default)]
struct Draft {
    parent: u32,
    /// `None` is any segment that is not empty.
    segment: Option<Box<[u8]>>,
    literals: u32,
    /// A literal one of its children.
    literal: u32,
    variable: Option<u32>,
}

const NONE: u32 = u32::MAX;
const ROOT: u32 = 0;
const INLINE: usize = 20;
/// Segments beyond this many are left to the comparison.
const DEPTH: usize = 32;
const VARIABLE: u64 = 0x7B76_6172_6961_626C;

fn key(parent: u32, segment: Option<&[u8]>, seed: &Seed) -> u64 {
    extend(u64::from(parent), segment.map_or(VARIABLE, |segment| seed.bytes(segment)))
}

// === impl TrieBuilder ===

impl Default for TrieBuilder {
    fn default() -> Self {
        Self { drafts: vec![Draft::default()], children: HashTable::new() }
    }
}

impl TrieBuilder {
    /// Every place at which a pattern has to be looked for; `either_slash`: the path with and without one slash at its
    /// end.
    pub(super) fn places(&mut self, pattern: &Pattern, either_slash: bool, seed: &Seed) -> (Vec<Place>, Exactness) {
        match pattern {
            Pattern::Exact(path) => match path.strip_prefix(b"/") {
                Some(path) => {
                    let steps = path.split(|byte| *byte == b'/').map(Some).collect();
                    self.ends(steps, either_slash, Exactness::Exact, seed)
                }
                None => anywhere(),
            },
            Pattern::Segments { segments, rest: Rest::Nothing } if segments.is_empty() => {
                self.ends(vec![Some(b"")], either_slash, Exactness::Exact, seed)
            }
            Pattern::Segments { segments, rest } => {
                let steps = segments.iter().map(|segment| match segment {
                    Segment::Literal(bytes) => Some(&**bytes),
                    Segment::Variable | Segment::Of(_) => None,
                });
                let exactness = exactness(segments, *rest);
                match rest {
                    Rest::Nothing => self.ends(steps.collect(), either_slash, exactness, seed),
                    Rest::Below => self.reaches(steps.collect(), Reach::Below, either_slash, exactness, seed),
                    Rest::Of(_) => self.reaches(steps.collect(), Reach::Beyond, either_slash, exactness, seed),
                }
            }
            Pattern::Prefix(prefix) => self.starts(prefix, either_slash, seed),
            Pattern::Regex { source, .. } => {
                (self.starts(plain_start(source), either_slash, seed).0, Exactness::Candidate)
            }
            _ => anywhere(),
        }
    }

    /// Paths of these segments.
    fn ends(
        &mut self,
        mut steps: Vec<Option<&[u8]>>,
        either_slash: bool,
        exactness: Exactness,
        seed: &Seed,
    ) -> (Vec<Place>, Exactness) {
        if steps.len() > DEPTH {
            return self.reaches(steps, Reach::Below, either_slash, Exactness::Candidate, seed);
        }
        let mut found = vec![Place::Node(self.plant(&steps, seed), Reach::End)];
        if !either_slash {
            return (found, exactness);
        }
        steps.push(Some(b""));
        found.push(Place::Node(self.plant(&steps, seed), Reach::End));
        steps.pop();
        if steps.pop() == Some(Some(b"")) && !steps.is_empty() {
            found.push(Place::Node(self.plant(&steps, seed), Reach::End));
        }
        (found, Exactness::Candidate)
    }

    /// Paths that begin with these segments.
    fn reaches(
        &mut self,
        mut steps: Vec<Option<&[u8]>>,
        mut reach: Reach,
        either_slash: bool,
        mut exactness: Exactness,
        seed: &Seed,
    ) -> (Vec<Place>, Exactness) {
        if steps.len() > DEPTH {
            steps.truncate(DEPTH);
            (reach, exactness) = (Reach::Below, Exactness::Candidate);
        }
        if either_slash {
            // Without its trailing slash a path ends one empty segment earlier.
            (reach, exactness) = (Reach::Below, Exactness::Candidate);
            while steps.last() == Some(&Some(b"")) {
                steps.pop();
            }
        }
        if steps.is_empty() {
            return anywhere();
        }
        (vec![Place::Node(self.plant(&steps, seed), reach)], exactness)
    }

    /// Paths that start with these bytes: they lie under the whole segments among them.
    fn starts(&mut self, start: &[u8], either_slash: bool, seed: &Seed) -> (Vec<Place>, Exactness) {
        let Some(start) = start.strip_prefix(b"/") else { return anywhere() };
        let mut steps: Vec<Option<&[u8]>> = start.split(|byte| *byte == b'/').map(Some).collect();
        // The last one may be the beginning of a longer segment.
        let exactness = if steps.pop() == Some(Some(b"")) { Exactness::Exact } else { Exactness::Candidate };
        self.reaches(steps, Reach::Beyond, either_slash, exactness, seed)
    }

    /// Makes the nodes along these segments, and names the last.
    fn plant(&mut self, steps: &[Option<&[u8]>], seed: &Seed) -> u32 {
        let mut node = ROOT;
        for step in steps {
            node = self.child(node, *step, seed);
        }
        node
    }

    fn child(&mut self, parent: u32, segment: Option<&[u8]>, seed: &Seed) -> u32 {
        let Self { drafts, children } = self;
        let held = |number: &u32| drafts.get(*number as usize);
        let same = |number: &u32| {
            held(number).is_some_and(|draft| draft.parent == parent && draft.segment.as_deref() == segment)
        };
        let hash = |number: &u32| held(number).map_or(0, |draft| key(draft.parent, draft.segment.as_deref(), seed));
        match children.entry(key(parent, segment, seed), same, hash) {
            Entry::Occupied(found) => *found.get(),
            Entry::Vacant(free) => {
                let number = u32::try_from(drafts.len()).unwrap_or(NONE);
                free.insert(number);
                if let Some(draft) = drafts.get_mut(parent as usize) {
                    match segment {
                        Some(_) => (draft.literals, draft.literal) = (draft.literals + 1, number),
                        None => draft.variable = Some(number),
                    }
                }
                drafts.push(Draft { parent, segment: segment.map(Into::into), ..Draft::default() });
                number
            }
        }
    }

    /// The finished trie. `spans` are the postings of each node: by its number, then by reach, without a gap.
    pub(super) fn finish<P: Copy>(self, spans: &[(u32, Reach, Span)], postings: &[P], seed: &Seed) -> Trie<P> {
        let mut found = vec![Spans::default(); self.drafts.len()];
        for (number, reach, span) in spans {
            if let Some(held) = found.get_mut(*number as usize) {
                held.post(*reach, *span);
            }
        }
        let nodes: Vec<Node<P>> = (0u32..)
            .zip(self.drafts.iter().zip(&found))
            .map(|(number, (draft, spans))| {
                pace::tick();
                let child = draft
                    .variable
                    .and_then(|child| Some((self.drafts.get(child as usize)?, found.get(child as usize)?)));
                let variable_end = child.map(|(_, spans)| spans.own(Reach::End)).unwrap_or_default();
                Node {
                    number,
                    has_literal: draft.literals > 0,
                    has_more_behind_variable: child
                        .is_some_and(|(draft, spans)| draft.has_children() || spans.goes_on()),
                    lists: Lists::of(Spans { variable_end, ..*spans }, postings),
                }
            })
            .collect();
        let (stem, top) = self.stem(&nodes);
        let mut trie = Trie {
            stem: stem.into(),
            top,
            slots: vec![Slot::EMPTY; self.drafts.len().saturating_sub(1) * 2 + 1].into(),
            texts: Box::default(),
        };
        let mut texts = Vec::new();
        for (draft, node) in self.drafts.iter().zip(nodes).skip(1) {
            pace::tick();
            trie.insert(Slot::of(draft, node, &mut texts), key(draft.parent, draft.segment.as_deref(), seed));
        }
        trie.texts = texts.into();
        trie
    }

    /// The segments that all paths begin with, and the node behind them.
    fn stem<P: Copy>(&self, nodes: &[Node<P>]) -> (Vec<u8>, Node<P>) {
        let mut stem = Vec::new();
        let mut number = ROOT;
        loop {
            let node = nodes.get(number as usize).copied().unwrap_or(Node::new(number));
            match self.drafts.get(number as usize) {
                Some(Draft { literals: 1, literal, variable: None, .. }) if node.lists.is_empty() => {
                    let segment = self.drafts.get(*literal as usize).and_then(|draft| draft.segment.as_deref());
                    stem.push(b'/');
                    stem.extend_from_slice(segment.unwrap_or_default());
                    number = *literal;
                }
                _ => return (stem, node),
            }
        }
    }
}

impl Draft {
    fn has_children(&self) -> bool {
        self.literals > 0 || self.variable.is_some()
    }
}

fn anywhere() -> (Vec<Place>, Exactness) {
    (vec![Place::Anywhere], Exactness::Candidate)
}

/// How exactly the nodes say what these segments say: nodes know literal segments and any other.
fn exactness(segments: &[Segment], rest: Rest) -> Exactness {
    let sets = segments.iter().filter_map(|segment| match segment {
        Segment::Of(set) => Some(*set),
        Segment::Literal(_) | Segment::Variable => None,
    });
    let rest_of = if let Rest::Of(set) = rest { Some(set) } else { None };
    let mut sets = sets.chain(rest_of);
    let Some(set) = sets.next() else { return Exactness::Exact };
    let is_of_set = |segment: &Segment| match segment {
        Segment::Literal(bytes) => bytes.iter().all(|byte| set.contains(*byte)),
        Segment::Of(_) => true,
        Segment::Variable => false,
    };
    let is_one = sets.all(|other| other == set) && segments.iter().all(is_of_set) && rest != Rest::Below;
    if is_one { Exactness::Of(set) } else { Exactness::Candidate }
}

/// The bytes that every match of an expression starts with, as far as they can be read off without doubt.
fn plain_start(source: &str) -> &[u8] {
    let source = source.as_bytes();
    // An alternative would have a start of its own.
    if source.contains(&b'|') {
        return b"";
    }
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_');
    let length = source.iter().take_while(|byte| is_plain(byte)).count();
    let repeated = matches!(source.get(length), Some(b'?' | b'*' | b'+' | b'{'));
    source.get(..length.saturating_sub(usize::from(repeated))).unwrap_or_default()
}

// === impl Node ===

impl<P> Node<P> {
    const fn new(number: u32) -> Self {
        let spans = Spans { start: 0, end: 0, below: 0, beyond: 0, variable_end: Span { start: 0, end: 0 } };
        Self { number, has_literal: false, has_more_behind_variable: false, lists: Lists::Many(spans) }
    }
}

// === impl Lists ===

impl<P: Copy> Lists<P> {
    fn of(spans: Spans, postings: &[P]) -> Self {
        let mut held = LISTS.into_iter().filter(|at| !spans.at(*at).is_empty());
        match (held.next(), held.next()) {
            (Some(at), None) => match spans.at(at).slice(postings) {
                [only] => Self::One(*only, at),
                _ => Self::Many(spans),
            },
            _ => Self::Many(spans),
        }
    }
}

impl<P> Lists<P> {
    fn is_empty(&self) -> bool {
        matches!(self, Self::Many(spans) if LISTS.into_iter().all(|at| spans.at(at).is_empty()))
    }

    /// The postings of one list, where it has any.
    fn each(&self, at: At, all: &[P], see: &mut impl FnMut(&[P])) {
        match self {
            Self::One(only, held) if *held == at => see(std::slice::from_ref(only)),
            Self::One(..) => {}
            Self::Many(spans) => {
                let span = spans.at(at);
                if !span.is_empty() {
                    see(span.slice(all));
                }
            }
        }
    }
}

// === impl Spans ===

impl Spans {
    fn post(&mut self, reach: Reach, span: Span) {
        if self.end + self.below + self.beyond == 0 {
            self.start = span.start;
        }
        let count = span.end - span.start;
        match reach {
            Reach::End => self.end = count,
            Reach::Below => self.below = count,
            Reach::Beyond => self.beyond = count,
        }
    }

    fn own(&self, reach: Reach) -> Span {
        let below = self.start + self.end;
        let beyond = below + self.below;
        match reach {
            Reach::End => Span { start: self.start, end: below },
            Reach::Below => Span { start: below, end: beyond },
            Reach::Beyond => Span { start: beyond, end: beyond + self.beyond },
        }
    }

    fn at(&self, at: At) -> Span {
        match at {
            At::Own(reach) => self.own(reach),
            At::VariableEnd => self.variable_end,
        }
    }

    fn goes_on(&self) -> bool {
        self.below + self.beyond > 0
    }
}

// === impl Slot ===

impl<P> Slot<P> {
    const EMPTY: Self = Self { node: Node::new(NONE), parent: NONE, length: 0, segment: [0; INLINE] };

    fn of(draft: &Draft, node: Node<P>, texts: &mut Vec<u8>) -> Self {
        let Some(bytes) = &draft.segment else {
            return Self { node, parent: draft.parent, length: NONE, ..Self::EMPTY };
        };
        let mut segment = [0; INLINE];
        match segment.get_mut(..bytes.len()) {
            Some(space) => space.copy_from_slice(bytes),
            None => {
                let start = u32::try_from(texts.len()).unwrap_or(NONE).to_le_bytes();
                segment.iter_mut().zip(start).for_each(|(space, byte)| *space = byte);
                texts.extend_from_slice(bytes);
            }
        }
        Self { node, parent: draft.parent, length: u32::try_from(bytes.len()).unwrap_or(NONE - 1), segment }
    }

    fn is_empty(&self) -> bool {
        self.parent == NONE
    }

    fn holds(&self, parent: u32, segment: Option<&[u8]>, texts: &[u8]) -> bool {
        let Some(wanted) = segment else { return self.parent == parent && self.length == NONE };
        if self.parent != parent || self.length as usize != wanted.len() {
            return false;
        }
        match self.segment.get(..wanted.len()) {
            Some(held) => held == wanted,
            None => {
                let [a, b, c, d, ..] = self.segment;
                let start = u32::from_le_bytes([a, b, c, d]) as usize;
                texts.get(start..).is_some_and(|texts| texts.starts_with(wanted))
            }
        }
    }
}

// === impl Trie ===

impl<P> Trie<P> {
    fn insert(&mut self, slot: Slot<P>, hash: u64) {
        let mut at = self.position(hash);
        while self.slots.get(at).is_some_and(|held| !held.is_empty()) {
            at = self.after(at);
        }
        if let Some(free) = self.slots.get_mut(at) {
            *free = slot;
        }
    }

    /// INVARIANT: it ends, because some slot is empty.
    fn child(&self, parent: u32, segment: Option<&[u8]>, seed: &Seed) -> Option<&Node<P>> {
        let mut at = self.position(key(parent, segment, seed));
        loop {
            let slot = self.slots.get(at)?;
            if slot.is_empty() {
                return None;
            }
            if slot.holds(parent, segment, &self.texts) {
                return Some(&slot.node);
            }
            at = self.after(at);
        }
    }

    fn position(&self, hash: u64) -> usize {
        let scaled = u128::from(hash) * self.slots.len() as u128;
        usize::try_from(scaled >> 64).unwrap_or_default()
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 == self.slots.len() { 0 } else { at + 1 }
    }

    /// Hands over all postings at places to which a path leads. `postings` are those that it was finished with.
    pub(super) fn visit(&self, path: &[u8], postings: &[P], seed: &Seed, see: &mut impl FnMut(&[P])) {
        let Some(left) = path.strip_prefix(&*self.stem) else { return };
        let left = match left {
            [] => None,
            [b'/', left @ ..] => Some(left),
            _ => return,
        };
        self.descend(&self.top, left, seed, &mut |node, at| node.lists.each(at, postings, see));
    }

    /// `left` is what comes after the node's segment and a slash; `None` where the path ends.
    ///
    /// INVARIANT: it never goes deeper than the trie, whose depth is bounded when it is built.
    fn descend(&self, node: &Node<P>, left: Option<&[u8]>, seed: &Seed, see: &mut impl FnMut(&Node<P>, At)) {
        see(node, At::Own(Reach::Below));
        let Some(left) = left else { return see(node, At::Own(Reach::End)) };
        see(node, At::Own(Reach::Beyond));
        let (segment, left) = cut(left);
        if node.has_literal
            && let Some(child) = self.child(node.number, Some(segment), seed)
        {
            self.descend(child, left, seed, see);
        }
        if segment.is_empty() {
            return;
        }
        if node.has_more_behind_variable {
            if let Some(child) = self.child(node.number, None, seed) {
                self.descend(child, left, seed, see);
            }
        } else if left.is_none() {
            see(node, At::VariableEnd);
        }
    }

    /// Bytes of the heap.
    pub(super) fn bytes(&self) -> usize {
        self.stem.len() + size_of_val(&*self.slots) + self.texts.len()
    }
}

/// Up to the first slash, and what comes behind it.
fn cut(path: &[u8]) -> (&[u8], Option<&[u8]>) {
    match path.iter().position(|byte| *byte == b'/') {
        Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..)),
        None => (path, None),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::model::interpret::pattern::matches;

    const SET: AsciiSet = AsciiSet::alphanumeric_and(b"");

    fn segment() -> impl Strategy<Value = Segment> {
        let literal = prop::sample::select(vec!["a", "b", "", "a-segment-that-is-too-long-for-a-slot", "a+b"]);
        prop_oneof![
            3 => literal.prop_map(|text| Segment::Literal(text.as_bytes().into())),
            1 => Just(Segment::Variable),
            1 => Just(Segment::Of(SET)),
        ]
    }

    fn pattern() -> impl Strategy<Value = Pattern> {
        let segments = || prop::collection::vec(segment(), 0..4);
        let rest = prop::sample::select(vec![Rest::Nothing, Rest::Below, Rest::Of(SET)]);
        prop_oneof![
            3 => (segments(), rest).prop_map(|(segments, rest)| Pattern::Segments { segments, rest }),
            1 => path().prop_map(|path| Pattern::Exact(path.into())),
            1 => path().prop_map(|path| Pattern::Prefix(path.into())),
            1 => prop::sample::select(vec![b"*".as_slice(), b"a", b"/"]).prop_map(|bytes| Pattern::Prefix(bytes.into())),
            1 => Just(Pattern::Suffix(b"/a"[..].into())),
            // Deeper than the trie.
            1 => Just(Pattern::Exact("/a".repeat(DEPTH + 1).into_bytes().into())),
        ]
    }

    fn path() -> impl Strategy<Value = Vec<u8>> {
        let names = vec!["a", "b", "", "c", "a-segment-that-is-too-long-for-a-slot", "a+b"];
        let shallow = prop::collection::vec(prop::sample::select(names), 1..5);
        let path = shallow.prop_map(|segments| format!("/{}", segments.join("/")).into_bytes());
        prop_oneof![9 => path, 1 => Just("/a".repeat(DEPTH + 1).into_bytes())]
    }

    fn is_of(set: AsciiSet, path: &[u8]) -> bool {
        path.iter().all(|byte| *byte == b'/' || set.contains(*byte))
    }

    proptest! {
        #[test]
        fn a_path_leads_to_every_pattern_that_it_matches(
            patterns in prop::collection::vec((pattern(), any::<bool>()), 1..8),
            paths in prop::collection::vec(path(), 1..8),
        ) {
            let seed = Seed::default();
            let mut builder = TrieBuilder::default();
            let mut placed: Vec<(Place, usize)> = Vec::new();
            let mut exactness = Vec::new();
            for (number, (pattern, either_slash)) in patterns.iter().enumerate() {
                let (places, how) = builder.places(pattern, *either_slash, &seed);
                placed.extend(places.into_iter().map(|place| (place, number)));
                exactness.push(how);
            }
            placed.sort_unstable();
            let postings: Vec<usize> = placed.iter().map(|(_, number)| *number).collect();
            let anywhere = placed.iter().filter(|(place, _)| *place == Place::Anywhere).map(|(_, number)| *number);
            let anywhere: BTreeSet<usize> = anywhere.collect();
            let mut spans = Vec::new();
            let mut start = 0;
            for group in placed.chunk_by(|(one, _), (other, _)| one == other) {
                let end = start + group.len() as u32;
                if let Place::Node(node, reach) = group[0].0 {
                    spans.push((node, reach, Span { start, end }));
                }
                start = end;
            }
            let trie = builder.finish(&spans, &postings, &seed);
            for path in &paths {
                let mut seen = anywhere.clone();
                trie.visit(path, &postings, &seed, &mut |found| seen.extend(found));
                let other = match path.strip_suffix(b"/") {
                    Some(without) => without.to_vec(),
                    None => [path, &b"/"[..]].concat(),
                };
                for (number, (pattern, either_slash)) in patterns.iter().enumerate() {
                    let expected = matches(pattern, path) || (*either_slash && matches(pattern, &other));
                    let shown = String::from_utf8_lossy(path);
                    match exactness[number] {
                        Exactness::Exact => prop_assert_eq!(seen.contains(&number), expected, "{:?} {}", pattern, shown),
                        Exactness::Of(set) => {
                            let is_met = seen.contains(&number) && is_of(set, path);
                            prop_assert_eq!(is_met, expected, "{:?} {}", pattern, shown);
                        }
                        Exactness::Candidate => prop_assert!(!expected || seen.contains(&number), "{:?} {}", pattern, shown),
                    }
                }
            }
        }
    }

    #[test]
    fn a_slash_more_or_less_is_looked_for_on_both_sides_of_a_pattern_that_ends_in_one() {
        let seed = Seed::default();
        let mut builder = TrieBuilder::default();
        let (mut places, _) = builder.places(&Pattern::Exact(b"/a/"[..].into()), true, &seed);
        places.sort_unstable();
        let spans = (0..).zip(&places).map(|(start, place)| match place {
            Place::Node(node, reach) => (*node, *reach, Span { start, end: start + 1 }),
            Place::Anywhere => panic!("placed nowhere"),
        });
        let trie = builder.finish(&spans.collect::<Vec<_>>(), &places, &seed);
        let found = [b"/".as_slice(), b"/a", b"/a/", b"/a//", b"/a///"].map(|path| {
            let mut found = 0;
            trie.visit(path, &places, &seed, &mut |postings| found += postings.len());
            found
        });
        assert_eq!(found, [0, 1, 1, 1, 0]);
    }

    #[test]
    fn a_slot_is_one_cache_line() {
        assert_eq!(size_of::<Slot<[u32; 3]>>(), 64);
    }

    #[test]
    fn the_start_of_an_expression_is_never_longer_than_what_all_matches_share() {
        for (source, expected) in [
            ("/api/v[0-9]+", "/api/v"),
            ("/api/v?", "/api/"),
            ("/a*", "/"),
            ("/a{2}", "/"),
            ("/a|/b", ""),
            ("(?i)/a", ""),
            ("/a.b", "/a"),
            ("^/a", ""),
            ("/plain", "/plain"),
        ] {
            assert_eq!(plain_start(source), expected.as_bytes(), "{source}");
        }
    }
}
