//! The allow rules, or the deny rules, of one unit, indexed: the hot path of a decision.
//!
//! A clause is posted wherever it has to be looked for: under its whole path, at a node of the tree of segments, under
//! a host, or among those without such a key. Each of these places is sorted by gate, so the few gates that are open
//! for a connection are found in it by search, however many rules share the place.

use hashbrown::HashMap;

use crate::facts::Fact;
use crate::model::{AsciiSet, Pattern, Rest, Rule, Segment, Text};
use crate::table::asked::Asked;
use crate::table::clause::{Clause, KeyText, clauses};
use crate::table::flat::Flat;
use crate::table::gate::{Gates, GatesBuilder};
use crate::table::hash::{HashedMap, Seed};
use crate::table::heap;
use crate::table::need::Need;
use crate::table::normal::{Normal, hash_pattern};
use crate::table::path::{self, Place, Ways};
use crate::table::residue::Residue;
use crate::table::state::Methods;
use crate::table::text;

/// A range of postings.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: u32,
    end: u32,
}

/// A clause at one place.
///
/// PERF: everything that most decisions need of a clause is here, in half a cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Posting {
    gate: u32,
    /// Number of the rule among those of the unit.
    rule: u32,
    /// Index of an [`Extra`], or [`NOTHING`].
    extra: u32,
    /// Where what the key must match starts in [`Bank::texts`], or its index in [`Bank::patterns`].
    text: u32,
    /// Method states that it accepts.
    methods: u64,
    /// Protocol states that it accepts.
    protocols: u16,
    length: u16,
    comparison: Comparison,
}

/// How the key is compared. Whatever was found by hash is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Comparison {
    /// Nothing is left to compare.
    Nothing,
    /// The path is the text.
    Whole,
    /// The path has the segments of the text, see [`spelling`].
    Segments,
    /// The same, and it may go on.
    Below,
    /// By a pattern.
    Pattern,
}

/// What few clauses have.
#[derive(Clone, Copy, Debug)]
struct Extra {
    /// Index of a residue, or [`NOTHING`].
    residue: u32,
    /// The first second in which the rule is gone.
    expires: i64,
}

/// One node of the tree of segments.
#[derive(Clone, Copy, Debug, Default)]
struct Node {
    end: Span,
    below: Span,
    has_literal: bool,
    has_variable: bool,
}

/// Rules of one effect.
#[derive(Clone, Debug)]
pub(super) struct Bank {
    need: Need,
    gates: Gates,
    postings: Box<[Posting]>,
    /// The bytes of paths.
    texts: Box<[u8]>,
    /// What the segments of paths may be made of, by the number in [`spelling`].
    sets: Box<[AsciiSet]>,
    extras: Box<[Extra]>,
    patterns: Box<[(KeyText, Pattern)]>,
    residues: Box<[Residue]>,
    /// Clauses without a key.
    unkeyed: Span,
    /// Clauses with a path as key, once each, for a path that cannot be seen.
    by_path: Span,
    anywhere: Span,
    whole: Flat<Span>,
    /// What all paths of the tree start with, and the node behind it.
    stem: Box<[u8]>,
    stem_node: u64,
    tree: Flat<Node>,
    /// Clauses with another text as key: by hash, and once each for a text that cannot be seen.
    others: Box<[(KeyText, HashedMap<Span>, Span)]>,
    clauses: usize,
}

const NOTHING: u32 = u32::MAX;
/// Places up to this size are walked.
const SHORT: usize = 12;

/// How the segments of a path that are not literal stand in [`Bank::texts`]: one of these bytes, and the number of the
/// set where there is one. A literal that holds one of them is compared the long way.
mod spelling {
    /// Any segment that is not empty.
    pub(super) const VARIABLE: u8 = 0;
    /// A segment made of a set.
    pub(super) const OF: u8 = 1;
    /// Whatever is left, made of a set and slashes.
    pub(super) const REST: u8 = 2;
}

/// Collects the clauses of rules.
#[derive(Debug)]
pub(super) struct BankBuilder {
    need: Need,
    gates: GatesBuilder,
    slots: Vec<(Slot, Posting)>,
    texts: Vec<u8>,
    sets: Vec<AsciiSet>,
    extras: Vec<Extra>,
    clauses: usize,
    patterns: Vec<(KeyText, Pattern)>,
    pattern_numbers: HashMap<u64, Vec<u32>, foldhash::fast::RandomState>,
    residues: Vec<Residue>,
    ways: HashedMap<Ways>,
}

/// Where a posting goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    Unkeyed,
    EveryPath,
    Path(Place),
    EveryText(KeyText),
    Text(KeyText, u64),
}

// === impl BankBuilder ===

impl BankBuilder {
    /// Nothing collected.
    pub(super) fn new(need: Need) -> Self {
        Self {
            need,
            gates: GatesBuilder::default(),
            slots: Vec::new(),
            texts: Vec::new(),
            sets: Vec::new(),
            extras: Vec::new(),
            clauses: 0,
            patterns: Vec::new(),
            pattern_numbers: HashMap::default(),
            residues: Vec::new(),
            ways: HashedMap::default(),
        }
    }

    /// Adds a rule, by its number; rules come in the order of the model.
    pub(super) fn add(&mut self, number: u32, rule: &Rule, methods: &Methods, seed: &Seed) {
        // A Deny never expires.
        let expires = if self.need == Need::Surely { rule.expires.unwrap_or(i64::MAX) } else { i64::MAX };
        for clause in clauses(Normal::of(&rule.condition, false), methods, self.need) {
            self.add_clause(number, expires, clause, seed);
        }
    }

    fn add_clause(&mut self, rule: u32, expires: i64, clause: Clause, seed: &Seed) {
        let gate = self.gates.number(clause.gate);
        let residue = if clause.residue == Normal::True {
            NOTHING
        } else {
            self.residues.push(Residue::of(clause.residue, &mut self.gates));
            index(self.residues.len() - 1)
        };
        let extra = if residue == NOTHING && expires == i64::MAX {
            NOTHING
        } else {
            self.extras.push(Extra { residue, expires });
            index(self.extras.len() - 1)
        };
        self.clauses += 1;
        let Clause { methods, protocols, key, .. } = clause;
        let posting =
            Posting { gate, rule, extra, text: 0, methods, protocols, length: 0, comparison: Comparison::Nothing };
        let Some(key) = key else {
            self.slots.push((Slot::Unkeyed, posting));
            return;
        };
        let is_path = matches!(key.of, KeyText::Path | KeyText::PathEitherSlash);
        self.slots.push((if is_path { Slot::EveryPath } else { Slot::EveryText(key.of) }, posting));
        for pattern in key.is {
            let (comparison, text, length) = self.comparison(key.of, &pattern, seed);
            let posting = Posting { comparison, text, length, ..posting };
            if is_path {
                let either_slash = key.of == KeyText::PathEitherSlash;
                for place in path::places(&pattern, either_slash, seed, &mut self.ways) {
                    self.slots.push((Slot::Path(place), posting));
                }
            } else if let Pattern::Exact(bytes) | Pattern::ExactIgnoreCase(bytes) = &pattern {
                self.slots.push((Slot::Text(key.of, seed.caseless(bytes)), posting));
            }
        }
    }

    /// How a key is compared with a pattern, and with which text.
    fn comparison(&mut self, of: KeyText, pattern: &Pattern, seed: &Seed) -> (Comparison, u32, u16) {
        let start = self.texts.len();
        let comparison = match (of, pattern) {
            (KeyText::Path, Pattern::Exact(path)) => {
                self.texts.extend_from_slice(path);
                Comparison::Whole
            }
            (KeyText::Path, Pattern::Segments { segments, rest })
                if !segments.is_empty() && self.spell(segments, *rest).is_some() =>
            {
                if *rest == Rest::Below {
                    Comparison::Below
                } else {
                    Comparison::Segments
                }
            }
            _ => return (Comparison::Pattern, self.pattern(of, pattern, seed), 0),
        };
        match (u32::try_from(start), u16::try_from(self.texts.len() - start)) {
            (Ok(start), Ok(length)) => (comparison, start, length),
            _ => {
                self.texts.truncate(start);
                (Comparison::Pattern, self.pattern(of, pattern, seed), 0)
            }
        }
    }

    /// Writes the segments of a path behind the other texts; `None`, and nothing is written, if they have no spelling.
    fn spell(&mut self, segments: &[Segment], rest: Rest) -> Option<()> {
        let mut text = Vec::new();
        for segment in segments {
            text.push(b'/');
            match segment {
                Segment::Literal(bytes) if bytes.iter().any(|byte| *byte <= spelling::REST || *byte == b'/') => {
                    return None;
                }
                Segment::Literal(bytes) => text.extend_from_slice(bytes),
                Segment::Variable => text.push(spelling::VARIABLE),
                Segment::Of(set) => text.extend([spelling::OF, self.set(*set)?]),
            }
        }
        if let Rest::Of(set) = rest {
            text.extend([b'/', spelling::REST, self.set(set)?]);
        }
        self.texts.append(&mut text);
        Some(())
    }

    /// The number of a set; no number is a slash.
    fn set(&mut self, set: AsciiSet) -> Option<u8> {
        let number = self.sets.iter().position(|held| *held == set).unwrap_or(self.sets.len());
        let spelled = u8::try_from(number).ok().filter(|number| *number < b'/')?;
        if number == self.sets.len() {
            self.sets.push(set);
        }
        Some(spelled)
    }

    fn pattern(&mut self, of: KeyText, pattern: &Pattern, seed: &Seed) -> u32 {
        let hash = seed.of(Hashed(of, pattern));
        let same = self.pattern_numbers.entry(hash).or_default();
        let known = |number: &&u32| {
            self.patterns.get(**number as usize).is_some_and(|(other, held)| *other == of && held == pattern)
        };
        if let Some(number) = same.iter().find(known) {
            return *number;
        }
        let number = index(self.patterns.len());
        self.patterns.push((of, pattern.clone()));
        same.push(number);
        number
    }

    /// The finished bank; `None` if no rule can ever match.
    pub(super) fn finish(mut self, seed: &Seed) -> Option<Bank> {
        if self.clauses == 0 {
            return None;
        }
        self.slots.sort_unstable();
        self.slots.dedup();
        let (mut unkeyed, mut by_path, mut anywhere) = (Span::default(), Span::default(), Span::default());
        let mut whole: Vec<(u64, Span)> = Vec::new();
        let mut tree: HashedMap<Node> = HashedMap::default();
        let mut others: Vec<(KeyText, HashedMap<Span>, Span)> = Vec::new();
        let mut start = 0;
        for group in self.slots.chunk_by(|(one, _), (other, _)| one == other) {
            let span = Span { start, end: start + index(group.len()) };
            start = span.end;
            match group.first().map(|(slot, _)| *slot) {
                None => {}
                Some(Slot::Unkeyed) => unkeyed = span,
                Some(Slot::EveryPath) => by_path = span,
                Some(Slot::Path(Place::Anywhere)) => anywhere = span,
                Some(Slot::Path(Place::Whole(hash))) => whole.push((hash, span)),
                Some(Slot::Path(Place::End(hash))) => tree.entry(hash).or_default().end = span,
                Some(Slot::Path(Place::Below(hash))) => tree.entry(hash).or_default().below = span,
                // The order of slots puts the list of all before the single ones.
                Some(Slot::EveryText(of)) => others.push((of, HashedMap::default(), span)),
                Some(Slot::Text(of, hash)) => {
                    if let Some((_, map, _)) = others.iter_mut().find(|(held, ..)| *held == of) {
                        map.insert(hash, span);
                    }
                }
            }
        }
        let (stem, stem_node) = stem(&self.ways, &tree, seed);
        let nodes: Vec<(u64, Node)> = self
            .ways
            .iter()
            .map(|(hash, ways)| {
                let Node { end, below, .. } = tree.get(hash).copied().unwrap_or_default();
                (*hash, Node { end, below, has_literal: ways.literals > 0, has_variable: ways.variable })
            })
            .collect();
        Some(Bank {
            need: self.need,
            gates: self.gates.finish(seed),
            postings: self.slots.iter().map(|(_, posting)| *posting).collect(),
            texts: self.texts.into(),
            sets: self.sets.into(),
            extras: self.extras.into(),
            patterns: self.patterns.into(),
            residues: self.residues.into(),
            unkeyed,
            by_path,
            anywhere,
            whole: Flat::new(&whole),
            stem: stem.into(),
            stem_node,
            tree: Flat::new(&nodes),
            others: others.into(),
            clauses: self.clauses,
        })
    }
}

/// The segments that all patterns of the tree begin with, and the node behind them.
fn stem(ways: &HashedMap<Ways>, tree: &HashedMap<Node>, seed: &Seed) -> (Vec<u8>, u64) {
    let mut node = path::root();
    let mut stem = Vec::new();
    while let Some(held) = ways.get(&node)
        && held.literals == 1
        && !held.variable
        && !tree.contains_key(&node)
    {
        stem.push(b'/');
        stem.extend_from_slice(&held.only);
        node = path::literal(node, &held.only, seed);
    }
    (stem, node)
}

struct Hashed<'a>(KeyText, &'a Pattern);

impl std::hash::Hash for Hashed<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
        hash_pattern(self.1, state);
    }
}

fn index(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

// === impl Bank ===

impl Bank {
    /// The distinct conditions over a connection.
    pub(super) fn gates(&self) -> &Gates {
        &self.gates
    }

    /// What its rules need.
    pub(super) fn need(&self) -> Need {
        self.need
    }

    /// The first rule, in the order of the model, that acts on a request whose connection has these gates open.
    pub(super) fn find(&self, open: &[u32], asked: &Asked<'_>) -> Option<u32> {
        let mut search = Search { bank: self, open, asked, best: NOTHING };
        search.visit(self.unkeyed);
        match asked.request.path {
            Fact::Known(path) => search.visit_paths(path),
            Fact::Unknown if self.need == Need::Possibly => search.visit(self.by_path),
            Fact::Unknown | Fact::Absent => {}
        }
        for (of, by_hash, every) in &self.others {
            match text_of(*of, asked) {
                Fact::Known(text) => {
                    if let Some(span) = by_hash.get(&asked.seed.caseless(text)) {
                        search.visit(*span);
                    }
                }
                Fact::Unknown if self.need == Need::Possibly => search.visit(*every),
                Fact::Unknown | Fact::Absent => {}
            }
        }
        (search.best != NOTHING).then_some(search.best)
    }

    /// The first rule that acts on every request of a connection with these gates open.
    pub(super) fn find_certain(&self, open: &[u32], now: i64) -> Option<u32> {
        self.leading(open, now)
            .filter(|posting| {
                let all = posting.methods == u64::MAX && posting.protocols == u16::MAX;
                let residue = self.extras.get(posting.extra as usize).map_or(NOTHING, |extra| extra.residue);
                all && residue == NOTHING && self.slice(self.unkeyed).binary_search(posting).is_ok()
            })
            .map(|posting| posting.rule)
            .min()
    }

    /// The first rule that might act on some request of a connection with these gates open.
    pub(super) fn first_live(&self, open: &[u32], now: i64) -> Option<u32> {
        self.leading(open, now).map(|posting| posting.rule).min()
    }

    /// Clauses whose gate is open and whose rule has not expired, once each.
    fn leading(&self, open: &[u32], now: i64) -> impl Iterator<Item = &Posting> {
        let every = self.others.iter().map(|(_, _, span)| *span);
        let spans = [self.unkeyed, self.by_path].into_iter().chain(every);
        spans.flat_map(move |span| {
            open.iter()
                .flat_map(move |gate| {
                    let postings = self.slice(span);
                    let from = postings.partition_point(|posting| posting.gate < *gate);
                    postings.get(from..).unwrap_or_default().iter().take_while(|posting| posting.gate == *gate)
                })
                .filter(move |posting| self.extras.get(posting.extra as usize).is_none_or(|extra| now < extra.expires))
        })
    }

    fn slice(&self, span: Span) -> &[Posting] {
        self.postings.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    /// Bytes of the heap, for `--stats`.
    pub(super) fn bytes(&self) -> usize {
        let patterns = self.patterns.iter().map(|(_, pattern)| heap::of_pattern(pattern)).sum::<usize>();
        let residues = self.residues.iter().map(heap::of_residue).sum::<usize>();
        let maps = self.others.iter().map(|(_, map, _)| map.capacity() * (size_of::<(u64, Span)>() + 1));
        size_of_val(&*self.postings)
            + self.texts.len()
            + size_of_val(&*self.sets)
            + self.stem.len()
            + size_of_val(&*self.extras)
            + size_of_val(&*self.patterns)
            + size_of_val(&*self.residues)
            + size_of_val(&*self.others)
            + patterns
            + residues
            + maps.sum::<usize>()
            + self.whole.bytes()
            + self.tree.bytes()
            + self.gates.bytes()
    }

    /// Gates, clauses and postings, for `--stats`.
    pub(super) fn size(&self) -> (usize, usize, usize) {
        (self.gates.len(), self.clauses, self.postings.len())
    }
}

fn text_of<'a>(of: KeyText, asked: &Asked<'a>) -> Fact<&'a [u8]> {
    match of {
        KeyText::Path | KeyText::PathEitherSlash => asked.request.path,
        KeyText::Qname => asked.request.qname,
        KeyText::Host => asked.request.host,
        KeyText::Sni => asked.request.sni,
    }
}

/// One decision in one bank. It goes through every place at which the request could be, and keeps the first rule.
struct Search<'a> {
    bank: &'a Bank,
    open: &'a [u32],
    asked: &'a Asked<'a>,
    best: u32,
}

impl Search<'_> {
    fn visit_paths(&mut self, path: &[u8]) {
        let bank = self.bank;
        if let Some(span) = bank.whole.get(self.asked.path) {
            self.visit(*span);
        }
        self.visit(bank.anywhere);
        let Some(left) = path.strip_prefix(&*bank.stem) else { return };
        let left = match left {
            [] => None,
            [b'/', left @ ..] => Some(left),
            _ => return,
        };
        if let Some(node) = bank.tree.get(bank.stem_node) {
            self.descend(bank.stem_node, node, left);
        }
    }

    /// `left` is what comes after the node's segment and a slash; `None` where the path ends.
    ///
    /// INVARIANT: it never goes deeper than the tree, whose depth is bounded when it is built.
    fn descend(&mut self, hash: u64, node: &Node, left: Option<&[u8]>) {
        self.visit(node.below);
        let Some(left) = left else {
            self.visit(node.end);
            return;
        };
        let (segment, left) = cut(left);
        if node.has_literal {
            let hash = path::literal(hash, segment, self.asked.seed);
            if let Some(node) = self.bank.tree.get(hash) {
                self.descend(hash, node, left);
            }
        }
        if node.has_variable && !segment.is_empty() {
            let hash = path::variable(hash);
            if let Some(node) = self.bank.tree.get(hash) {
                self.descend(hash, node, left);
            }
        }
    }

    fn visit(&mut self, span: Span) {
        let postings = self.bank.slice(span);
        if postings.len() <= SHORT {
            for posting in postings {
                if posting.rule < self.best && self.open.contains(&posting.gate) && self.admits(posting) {
                    self.best = posting.rule;
                }
            }
            return;
        }
        let mut left = postings;
        for gate in self.open {
            let from = gallop(left, *gate);
            left = left.get(from..).unwrap_or_default();
            let Some(first) = left.first() else { return };
            if first.gate != *gate {
                continue;
            }
            // Within a gate rules ascend: the first that fits is the first of all.
            for posting in left.iter().take_while(|posting| posting.gate == *gate && posting.rule < self.best) {
                if self.admits(posting) {
                    self.best = posting.rule;
                    break;
                }
            }
        }
    }

    fn admits(&self, posting: &Posting) -> bool {
        if posting.methods & self.asked.method == 0 || posting.protocols & self.asked.protocol == 0 {
            return false;
        }
        if !self.matches(posting) {
            return false;
        }
        if posting.extra == NOTHING {
            return true;
        }
        let Some(extra) = self.bank.extras.get(posting.extra as usize) else { return false };
        let met = |residue: &Residue| residue.is_met(self.asked, self.open, self.bank.need);
        self.asked.request.now < extra.expires
            && (extra.residue == NOTHING || self.bank.residues.get(extra.residue as usize).is_some_and(met))
    }

    /// Whether the key really is what the pattern says: it was found by hash.
    fn matches(&self, posting: &Posting) -> bool {
        let start = posting.text as usize;
        let text = || self.bank.texts.get(start..start + usize::from(posting.length)).unwrap_or_default();
        let path = || match self.asked.request.path {
            Fact::Known(path) => path,
            Fact::Absent | Fact::Unknown => b"",
        };
        match posting.comparison {
            Comparison::Nothing => true,
            Comparison::Whole => text() == path(),
            Comparison::Segments => self.fits(text(), false, path()),
            Comparison::Below => self.fits(text(), true, path()),
            Comparison::Pattern => self.matches_pattern(posting.text),
        }
    }

    /// Whether a path has the segments of a text, and, where it may go on, no others than below them.
    fn fits(&self, text: &[u8], may_go_on: bool, path: &[u8]) -> bool {
        let (Some(mut text), Some(mut path)) = (text.strip_prefix(b"/"), path.strip_prefix(b"/")) else { return false };
        let contains = |set: u8, byte: u8| self.bank.sets.get(usize::from(set)).is_some_and(|set| set.contains(byte));
        loop {
            let (segment, more) = cut(text);
            let (held, left) = cut(path);
            let is_met = match *segment {
                [spelling::VARIABLE] => !held.is_empty(),
                [spelling::OF, set] => !held.is_empty() && held.iter().all(|byte| contains(set, *byte)),
                [spelling::REST, set] => return path.iter().all(|byte| *byte == b'/' || contains(set, *byte)),
                _ => segment == held,
            };
            match (is_met, more, left) {
                (true, None, left) => return may_go_on || left.is_none(),
                (true, Some(more), Some(left)) => (text, path) = (more, left),
                _ => return false,
            }
        }
    }

    fn matches_pattern(&self, pattern: u32) -> bool {
        let Some((of, pattern)) = self.bank.patterns.get(pattern as usize) else { return false };
        let Fact::Known(value) = text_of(*of, self.asked) else { return false };
        match of {
            KeyText::Path => text::applies(&Text::Path, pattern, value),
            KeyText::PathEitherSlash => {
                let applies = |value: &[u8]| text::applies(&Text::PathEitherSlash, pattern, value);
                applies(value) || text::with_other_slash(value, applies).unwrap_or(false)
            }
            KeyText::Qname => text::applies(&Text::Qname, pattern, value),
            KeyText::Host => text::applies(&Text::Host, pattern, value),
            KeyText::Sni => text::applies(&Text::Sni, pattern, value),
        }
    }
}

/// Up to the first slash, and what comes behind it.
fn cut(path: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'/', path) {
        Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..)),
        None => (path, None),
    }
}

/// The first posting that is not before a gate: doubling steps, then a search, so that near ones are found fast.
fn gallop(postings: &[Posting], gate: u32) -> usize {
    let mut bound = 1;
    while postings.get(bound).is_some_and(|posting| posting.gate < gate) {
        bound *= 2;
    }
    let low = bound / 2;
    let window = postings.get(low..postings.len().min(bound + 1)).unwrap_or_default();
    low + window.partition_point(|posting| posting.gate < gate)
}
