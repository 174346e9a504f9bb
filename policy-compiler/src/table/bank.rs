//! The allow rules, or the deny rules, of one unit, indexed: the hot path of a decision.
//!
//! A clause is posted wherever it has to be looked for: under its whole path, at a node of the tree of segments, under
//! a host, or among those without such a key. Each of these places is sorted by gate, so the few gates that are open
//! for a connection are found in it by search, however many rules share the place.

use hashbrown::HashMap;

use crate::facts::Fact;
use crate::model::{Pattern, Rule, Text};
use crate::table::asked::Asked;
use crate::table::clause::{Clause, KeyText, clauses};
use crate::table::gate::{Gates, GatesBuilder};
use crate::table::hash::{HashedMap, Seed};
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Posting {
    gate: u32,
    clause: u32,
    /// What the key must match; [`NOTHING`]: nothing is left to compare.
    pattern: u32,
    shape: u32,
}

/// Method and protocol states that a clause accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Shape {
    methods: u64,
    protocols: u16,
}

/// What is looked at only when everything else fits.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Position of the rule among all rules of the model.
    rule: u32,
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
    ways: Ways,
}

/// Rules of one effect.
#[derive(Clone, Debug)]
pub(super) struct Bank {
    need: Need,
    gates: Gates,
    postings: Box<[Posting]>,
    shapes: Box<[Shape]>,
    entries: Box<[Entry]>,
    patterns: Box<[(KeyText, Pattern)]>,
    residues: Box<[Residue]>,
    /// Clauses without a key.
    unkeyed: Span,
    /// Clauses with a path as key, once each, for a path that cannot be seen.
    by_path: Span,
    anywhere: Span,
    whole: HashedMap<Span>,
    tree: HashedMap<Node>,
    /// Clauses with another text as key: by hash, and once each for a text that cannot be seen.
    texts: Box<[(KeyText, HashedMap<Span>, Span)]>,
}

const NOTHING: u32 = u32::MAX;
/// Places up to this size are walked.
const SHORT: usize = 12;

/// Collects the clauses of rules.
#[derive(Debug)]
pub(super) struct BankBuilder {
    need: Need,
    gates: GatesBuilder,
    slots: Vec<(Slot, Posting)>,
    shapes: Vec<Shape>,
    shape_numbers: HashMap<Shape, u32, foldhash::fast::RandomState>,
    entries: Vec<Entry>,
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
            shapes: Vec::new(),
            shape_numbers: HashMap::default(),
            entries: Vec::new(),
            patterns: Vec::new(),
            pattern_numbers: HashMap::default(),
            residues: Vec::new(),
            ways: HashedMap::default(),
        }
    }

    /// Adds a rule; rules come in the order of the model.
    pub(super) fn add(&mut self, position: u32, rule: &Rule, methods: &Methods, seed: &Seed) {
        // A Deny never expires.
        let expires = if self.need == Need::Surely { rule.expires.unwrap_or(i64::MAX) } else { i64::MAX };
        for clause in clauses(Normal::of(&rule.condition, false), methods, self.need) {
            self.add_clause(position, expires, clause, seed);
        }
    }

    fn add_clause(&mut self, rule: u32, expires: i64, clause: Clause, seed: &Seed) {
        let gate = self.gates.number(clause.gate);
        let shape = self.shape(Shape { methods: clause.methods, protocols: clause.protocols });
        let residue = if clause.residue == Normal::True {
            NOTHING
        } else {
            self.residues.push(Residue::of(clause.residue, &mut self.gates));
            index(self.residues.len() - 1)
        };
        let number = index(self.entries.len());
        self.entries.push(Entry { rule, residue, expires });
        let posting = Posting { gate, clause: number, pattern: NOTHING, shape };
        let Some(key) = clause.key else {
            self.slots.push((Slot::Unkeyed, posting));
            return;
        };
        let is_path = matches!(key.of, KeyText::Path | KeyText::PathEitherSlash);
        self.slots.push((if is_path { Slot::EveryPath } else { Slot::EveryText(key.of) }, posting));
        for pattern in key.is {
            let posting = Posting { pattern: self.pattern(key.of, &pattern, seed), ..posting };
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

    fn shape(&mut self, shape: Shape) -> u32 {
        *self.shape_numbers.entry(shape).or_insert_with(|| {
            self.shapes.push(shape);
            index(self.shapes.len() - 1)
        })
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
        if self.entries.is_empty() {
            return None;
        }
        self.slots.sort_unstable();
        self.slots.dedup();
        let mut bank = Bank {
            need: self.need,
            gates: self.gates.finish(seed),
            postings: self.slots.iter().map(|(_, posting)| *posting).collect(),
            shapes: self.shapes.into(),
            entries: self.entries.into(),
            patterns: self.patterns.into(),
            residues: self.residues.into(),
            unkeyed: Span::default(),
            by_path: Span::default(),
            anywhere: Span::default(),
            whole: HashedMap::default(),
            tree: self.ways.into_iter().map(|(hash, ways)| (hash, Node { ways, ..Node::default() })).collect(),
            texts: Box::default(),
        };
        let mut texts: Vec<(KeyText, HashedMap<Span>, Span)> = Vec::new();
        let mut start = 0;
        for group in self.slots.chunk_by(|(one, _), (other, _)| one == other) {
            let span = Span { start, end: start + index(group.len()) };
            start = span.end;
            match group.first().map(|(slot, _)| *slot) {
                None => {}
                Some(Slot::Unkeyed) => bank.unkeyed = span,
                Some(Slot::EveryPath) => bank.by_path = span,
                Some(Slot::Path(Place::Anywhere)) => bank.anywhere = span,
                Some(Slot::Path(Place::Whole(hash))) => {
                    bank.whole.insert(hash, span);
                }
                Some(Slot::Path(Place::End(hash))) => bank.tree.entry(hash).or_default().end = span,
                Some(Slot::Path(Place::Below(hash))) => bank.tree.entry(hash).or_default().below = span,
                // The order of slots puts the list of all before the single ones.
                Some(Slot::EveryText(of)) => texts.push((of, HashedMap::default(), span)),
                Some(Slot::Text(of, hash)) => {
                    if let Some((_, map, _)) = texts.iter_mut().find(|(held, ..)| *held == of) {
                        map.insert(hash, span);
                    }
                }
            }
        }
        bank.whole.shrink_to_fit();
        bank.tree.shrink_to_fit();
        bank.texts = texts.into();
        Some(bank)
    }
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
        for (of, by_hash, every) in &self.texts {
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
        self.entries.get(search.best as usize).map(|entry| entry.rule)
    }

    /// The first rule that acts on every request of a connection with these gates open.
    pub(super) fn find_certain(&self, open: &[u32], now: i64) -> Option<u32> {
        self.leading(open, now)
            .filter(|(posting, entry)| {
                let all = |shape: &Shape| shape.methods == u64::MAX && shape.protocols == u16::MAX;
                let keyless = self.slice(self.unkeyed).binary_search(posting).is_ok();
                keyless && entry.residue == NOTHING && self.shapes.get(posting.shape as usize).is_some_and(all)
            })
            .map(|(_, entry)| entry.rule)
            .min()
    }

    /// Whether some rule might act on some request of a connection with these gates open.
    pub(super) fn is_live(&self, open: &[u32], now: i64) -> bool {
        self.leading(open, now).next().is_some()
    }

    /// Clauses whose gate is open and whose rule has not expired, once each.
    fn leading(&self, open: &[u32], now: i64) -> impl Iterator<Item = (&Posting, &Entry)> {
        let every = self.texts.iter().map(|(_, _, span)| *span);
        let spans = [self.unkeyed, self.by_path].into_iter().chain(every);
        spans.flat_map(move |span| {
            open.iter()
                .flat_map(move |gate| {
                    let postings = self.slice(span);
                    let from = postings.partition_point(|posting| posting.gate < *gate);
                    postings.get(from..).unwrap_or_default().iter().take_while(|posting| posting.gate == *gate)
                })
                .filter_map(move |posting| {
                    let entry = self.entries.get(posting.clause as usize)?;
                    (now < entry.expires).then_some((posting, entry))
                })
        })
    }

    fn slice(&self, span: Span) -> &[Posting] {
        self.postings.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    /// Gates, clauses and postings, for `--stats`.
    pub(super) fn size(&self) -> (usize, usize, usize) {
        (self.gates.len(), self.entries.len(), self.postings.len())
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
        if let Some(span) = bank.whole.get(&self.asked.path) {
            self.visit(*span);
        }
        self.visit(bank.anywhere);
        if let Some(below) = path.strip_prefix(b"/")
            && let Some(node) = bank.tree.get(&path::root())
        {
            self.descend(path::root(), node, Some(below));
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
        let (segment, left) = match memchr::memchr(b'/', left) {
            Some(at) => (left.get(..at).unwrap_or_default(), left.get(at + 1..)),
            None => (left, None),
        };
        if node.ways.literal {
            let hash = path::literal(hash, segment, self.asked.seed);
            if let Some(node) = self.bank.tree.get(&hash) {
                self.descend(hash, node, left);
            }
        }
        if node.ways.variable && !segment.is_empty() {
            let hash = path::variable(hash);
            if let Some(node) = self.bank.tree.get(&hash) {
                self.descend(hash, node, left);
            }
        }
    }

    fn visit(&mut self, span: Span) {
        let postings = self.bank.slice(span);
        if postings.len() <= SHORT {
            for posting in postings {
                if posting.clause < self.best && self.open.contains(&posting.gate) && self.admits(posting) {
                    self.best = posting.clause;
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
            // Within a gate clauses ascend: the first that fits is the first of all.
            for posting in left.iter().take_while(|posting| posting.gate == *gate && posting.clause < self.best) {
                if self.admits(posting) {
                    self.best = posting.clause;
                    break;
                }
            }
        }
    }

    fn admits(&self, posting: &Posting) -> bool {
        let Some(shape) = self.bank.shapes.get(posting.shape as usize) else { return false };
        if shape.methods & self.asked.method == 0 || shape.protocols & self.asked.protocol == 0 {
            return false;
        }
        if posting.pattern != NOTHING && !self.matches(posting.pattern) {
            return false;
        }
        let Some(entry) = self.bank.entries.get(posting.clause as usize) else { return false };
        self.asked.request.now < entry.expires
            && (entry.residue == NOTHING
                || self
                    .bank
                    .residues
                    .get(entry.residue as usize)
                    .is_some_and(|residue| residue.is_met(self.asked, self.open, self.bank.need)))
    }

    /// Whether the key really is what the pattern says: it was found by hash.
    fn matches(&self, pattern: u32) -> bool {
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
