//! Paths by their segments. A place of the trie is found by comparing every byte on the way to it, so what is posted
//! there as exact needs no look at the path again; whatever cannot be placed exactly is placed where it is found by
//! more paths than it matches, never by fewer, and is compared.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::model::{AsciiSet, Pattern, Rest, Segment};
use crate::table::hash::{Seed, extend};

/// A range of postings.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
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
    /// Where its postings start, and how many there are of each [`Reach`], in that order.
    start: u32,
    end: u32,
    below: u32,
    beyond: u32,
    /// The end of the node behind a variable segment.
    variable_end: Span,
    has_literal: bool,
    /// There is more behind a variable segment than an end.
    has_more_behind_variable: bool,
    /// The posting, where all these spans together hold only one.
    ///
    /// PERF: in a large table most nodes hold one, and to look for it elsewhere costs as much as all the rest.
    only: Option<P>,
}

/// Its key and itself.
///
/// PERF: two neighbouring cache lines, the bytes of a segment of usual length included.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
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
        if steps.last() == Some(&Some(b"")) {
            steps.pop();
        } else {
            steps.push(Some(b""));
        }
        if !steps.is_empty() {
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
        let mut nodes: Vec<Node<P>> = (0..).zip(&self.drafts).map(|(number, _)| Node::new(number)).collect();
        for (number, reach, span) in spans {
            if let Some(node) = nodes.get_mut(*number as usize) {
                node.post(*reach, *span);
            }
        }
        for (number, draft) in self.drafts.iter().enumerate() {
            let variable =
                draft.variable.and_then(|child| Some((nodes.get(child as usize)?, self.drafts.get(child as usize)?)));
            let variable = variable.map(|(child, draft)| (child.end(), child.goes_on() || draft.has_children()));
            if let Some(node) = nodes.get_mut(number) {
                node.has_literal = draft.literals > 0;
                (node.variable_end, node.has_more_behind_variable) = variable.unwrap_or_default();
                node.only = node.the_only(postings).copied();
            }
        }
        let (stem, top) = self.stem(&nodes);
        let mut trie = Trie {
            stem: stem.into(),
            top,
            slots: vec![Slot::EMPTY; self.drafts.len().saturating_sub(1) * 2 + 1].into(),
            texts: Box::default(),
        };
        let mut texts = Vec::new();
        for (draft, node) in self.drafts.iter().zip(nodes).skip(1) {
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
                Some(Draft { literals: 1, literal, variable: None, .. }) if !node.goes_on() && node.end == 0 => {
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
        Self {
            number,
            start: 0,
            end: 0,
            below: 0,
            beyond: 0,
            variable_end: Span { start: 0, end: 0 },
            has_literal: false,
            has_more_behind_variable: false,
            only: None,
        }
    }

    /// Postings come by reach, in its order, without a gap.
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

    fn the_only<'p>(&self, postings: &'p [P]) -> Option<&'p P> {
        let own = Span { start: self.start, end: self.start + self.end + self.below + self.beyond };
        match (own.slice(postings), self.variable_end.slice(postings)) {
            ([only], []) | ([], [only]) => Some(only),
            _ => None,
        }
    }

    /// The postings of one of its spans.
    fn postings<'p>(&'p self, span: Span, all: &'p [P]) -> &'p [P] {
        if span.start == span.end {
            return &[];
        }
        match &self.only {
            Some(only) => std::slice::from_ref(only),
            None => span.slice(all),
        }
    }

    /// The postings of paths that end here, or of those that go on. Each span is in order for itself.
    fn spans(&self, goes_on: bool) -> [Span; 2] {
        let below = self.start + self.end;
        let beyond = below + self.below;
        let end = Span { start: self.start, end: below };
        let rest = Span { start: beyond, end: beyond + self.beyond };
        [Span { start: below, end: beyond }, if goes_on { rest } else { end }]
    }

    fn end(&self) -> Span {
        Span { start: self.start, end: self.start + self.end }
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
        self.descend(&self.top, left, seed, &mut |node, span| {
            let postings = node.postings(span, postings);
            if !postings.is_empty() {
                see(postings);
            }
        });
    }

    /// `left` is what comes after the node's segment and a slash; `None` where the path ends.
    ///
    /// INVARIANT: it never goes deeper than the trie, whose depth is bounded when it is built.
    fn descend(&self, node: &Node<P>, left: Option<&[u8]>, seed: &Seed, see: &mut impl FnMut(&Node<P>, Span)) {
        node.spans(left.is_some()).into_iter().for_each(|span| see(node, span));
        let Some(left) = left else { return };
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
            see(node, node.variable_end);
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
