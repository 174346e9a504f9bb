//! The allow rules, or the deny rules, of one unit, indexed: the hot path of a decision.
//!
//! A clause is posted wherever it has to be looked for: at a node of the trie of paths, under a host, or among those
//! without such a key. Each of these places is sorted by gate, so the few gates that are open for a connection are found
//! in it by search, however many rules share the place.

use hashbrown::HashMap;

use crate::facts::Fact;
use crate::model::{AsciiSet, Pattern, Rule, Text};
use crate::pace;
use crate::table::asked::Asked;
use crate::table::clause::{Clause, KeyText, clauses};
use crate::table::gate::{Gates, GatesBuilder};
use crate::table::hash::{HashedMap, Seed};
use crate::table::heap;
use crate::table::need::Need;
use crate::table::normal::{Normal, hash_pattern};
use crate::table::residue::Residue;
use crate::table::state::Methods;
use crate::table::text;
use crate::table::trie::{Exactness, Place, Span, Trie, TrieBuilder};
use crate::table::unit::Runs;

/// A clause at one place.
///
/// PERF: what many clauses have in common is kept once, where it stays in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Posting {
    gate: u32,
    /// Number of the rule among those of the unit.
    rule: u32,
    /// Index of a [`Form`].
    form: u32,
}

/// What is asked of a request where a clause was found and its gate is open. Clauses that ask the same share it.
#[derive(Clone, Debug)]
struct Form {
    /// Method states that are accepted.
    methods: u64,
    /// Protocol states that are accepted.
    protocols: u16,
    comparison: Comparison,
    residue: Residue,
    /// The first second in which the rule is gone.
    expires: i64,
}

/// What is left to compare of the key where the posting was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Comparison {
    /// Nothing.
    Nothing,
    /// The path is made of slashes and this set.
    Of(AsciiSet),
    /// All, with this of [`Bank::patterns`].
    Pattern(u32),
}

/// Rules of one effect.
#[derive(Clone, Debug)]
pub(super) struct Bank {
    trie: Trie<Posting>,
    /// Clauses without a key.
    unkeyed: Span,
    anywhere: Span,
    /// Clauses with another text as key: by hash, and once each for a text that cannot be seen.
    others: Box<[(KeyText, HashedMap<Span>, Span)]>,
    forms: Box<[Form]>,
    postings: Box<[Posting]>,
    need: Need,
    patterns: Box<[(KeyText, Pattern)]>,
    /// Clauses with a path as key, once each, for a path that cannot be seen.
    by_path: Span,
    gates: Gates,
    clauses: usize,
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
    forms: Vec<Form>,
    form_numbers: HashMap<FormKey, u32, foldhash::fast::RandomState>,
    clauses: usize,
    patterns: Vec<(KeyText, Pattern)>,
    pattern_numbers: HashMap<u64, Vec<u32>, foldhash::fast::RandomState>,
    trie: TrieBuilder,
}

/// Methods, protocols, comparison, residue and expiry.
type FormKey = (u64, u16, Comparison, Normal, i64);

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
            forms: Vec::new(),
            form_numbers: HashMap::default(),
            clauses: 0,
            patterns: Vec::new(),
            pattern_numbers: HashMap::default(),
            trie: TrieBuilder::default(),
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
        self.clauses += 1;
        let Clause { methods, protocols, key, residue, .. } = clause;
        let form = self.form((methods, protocols, Comparison::Nothing, residue.clone(), expires));
        let whole = Posting { gate, rule, form };
        let Some(key) = key else {
            self.slots.push((Slot::Unkeyed, whole));
            return;
        };
        let is_path = matches!(key.of, KeyText::Path | KeyText::PathEitherSlash);
        self.slots.push((if is_path { Slot::EveryPath } else { Slot::EveryText(key.of) }, whole));
        for pattern in key.is {
            let (slots, comparison) = self.slots_of(key.of, &pattern, seed);
            let form = match comparison {
                Comparison::Nothing => whole.form,
                _ => self.form((methods, protocols, comparison, residue.clone(), expires)),
            };
            self.slots.extend(slots.into_iter().map(|slot| (slot, Posting { gate, rule, form })));
        }
    }

    /// Where a key is found that must match a pattern, and what is left to compare there.
    fn slots_of(&mut self, of: KeyText, pattern: &Pattern, seed: &Seed) -> (Vec<Slot>, Comparison) {
        if !matches!(of, KeyText::Path | KeyText::PathEitherSlash) {
            let (Pattern::Exact(text) | Pattern::ExactIgnoreCase(text)) = pattern else {
                // INVARIANT: other texts are keys by whole texts alone.
                return (Vec::new(), Comparison::Nothing);
            };
            let slot = Slot::Text(of, seed.caseless(text));
            return (vec![slot], Comparison::Pattern(self.pattern(of, pattern, seed)));
        }
        let (places, exactness) = self.trie.places(pattern, of == KeyText::PathEitherSlash, seed);
        let comparison = match exactness {
            Exactness::Exact => Comparison::Nothing,
            Exactness::Of(set) => Comparison::Of(set),
            Exactness::Candidate => Comparison::Pattern(self.pattern(of, pattern, seed)),
        };
        (places.into_iter().map(Slot::Path).collect(), comparison)
    }

    /// The number of a form: the same for those that ask the same.
    fn form(&mut self, key: FormKey) -> u32 {
        let Self { form_numbers, forms, gates, .. } = self;
        *form_numbers.entry(key).or_insert_with_key(|(methods, protocols, comparison, residue, expires)| {
            let (methods, protocols, comparison, expires) = (*methods, *protocols, *comparison, *expires);
            forms.push(Form { methods, protocols, comparison, residue: Residue::of(residue.clone(), gates), expires });
            index(forms.len() - 1)
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
        if self.clauses == 0 {
            return None;
        }
        pace::sort(&mut self.slots);
        self.slots.dedup();
        let (mut unkeyed, mut by_path, mut anywhere) = (Span::default(), Span::default(), Span::default());
        let mut nodes = Vec::new();
        let mut others: Vec<(KeyText, HashedMap<Span>, Span)> = Vec::new();
        let mut start = 0;
        for group in self.slots.chunk_by(|(one, _), (other, _)| one == other) {
            pace::tick();
            let span = Span { start, end: start + index(group.len()) };
            start = span.end;
            match group.first().map(|(slot, _)| *slot) {
                None => {}
                Some(Slot::Unkeyed) => unkeyed = span,
                Some(Slot::EveryPath) => by_path = span,
                Some(Slot::Path(Place::Anywhere)) => anywhere = span,
                Some(Slot::Path(Place::Node(number, reach))) => nodes.push((number, reach, span)),
                // The order of slots puts the list of all before the single ones.
                Some(Slot::EveryText(of)) => others.push((of, HashedMap::default(), span)),
                Some(Slot::Text(of, hash)) => {
                    if let Some((_, map, _)) = others.iter_mut().find(|(held, ..)| *held == of) {
                        map.insert(hash, span);
                    }
                }
            }
        }
        let postings: Box<[Posting]> = self.slots.iter().map(|(_, posting)| *posting).collect();
        Some(Bank {
            need: self.need,
            gates: self.gates.finish(seed),
            forms: self.forms.into(),
            patterns: self.patterns.into(),
            unkeyed,
            by_path,
            anywhere,
            trie: self.trie.finish(&nodes, &postings, seed),
            postings,
            others: others.into(),
            clauses: self.clauses,
        })
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
    pub(super) fn find(&self, open: &[u32], asked: &Asked<'_>, rules: &Runs) -> Option<u32> {
        let mut search = Search { bank: self, open, asked, rules, best: NOTHING };
        search.visit(self.slice(self.unkeyed));
        match asked.request.path {
            Fact::Known(path) => {
                search.visit(self.slice(self.anywhere));
                self.trie.visit(path, &self.postings, asked.seed, &mut |postings| search.visit(postings));
            }
            Fact::Unknown if self.need == Need::Possibly => search.visit(self.slice(self.by_path)),
            Fact::Unknown | Fact::Absent => {}
        }
        for (of, by_hash, every) in &self.others {
            match text_of(*of, asked) {
                Fact::Known(text) => {
                    if let Some(span) = by_hash.get(&asked.seed.caseless(text)) {
                        search.visit(self.slice(*span));
                    }
                }
                Fact::Unknown if self.need == Need::Possibly => search.visit(self.slice(*every)),
                Fact::Unknown | Fact::Absent => {}
            }
        }
        (search.best != NOTHING).then_some(search.best)
    }

    /// The first rule that acts on every request of a connection with these gates open.
    pub(super) fn find_certain(&self, open: &[u32], now: i64, rules: &Runs) -> Option<u32> {
        self.leading(open, now, rules)
            .filter(|posting| {
                let is_any =
                    |form: &Form| form.methods == u64::MAX && form.protocols == u16::MAX && form.residue.is_empty();
                self.form(posting).is_some_and(is_any) && self.slice(self.unkeyed).binary_search(posting).is_ok()
            })
            .map(|posting| posting.rule)
            .min()
    }

    /// The first rule that might act on some request of a connection with these gates open.
    pub(super) fn first_live(&self, open: &[u32], now: i64, rules: &Runs) -> Option<u32> {
        self.leading(open, now, rules).map(|posting| posting.rule).min()
    }

    /// Clauses whose gate is open and whose rule is neither gone nor expired, once each.
    fn leading(&self, open: &[u32], now: i64, rules: &Runs) -> impl Iterator<Item = &Posting> {
        let every = self.others.iter().map(|(_, _, span)| *span);
        let spans = [self.unkeyed, self.by_path].into_iter().chain(every);
        spans.flat_map(move |span| {
            open.iter()
                .flat_map(move |gate| {
                    let postings = self.slice(span);
                    let from = postings.partition_point(|posting| posting.gate < *gate);
                    postings.get(from..).unwrap_or_default().iter().take_while(|posting| posting.gate == *gate)
                })
                .filter(move |posting| self.form(posting).is_some_and(|form| now < form.expires))
                .filter(|posting| rules.has(posting.rule))
        })
    }

    fn form(&self, posting: &Posting) -> Option<&Form> {
        self.forms.get(posting.form as usize)
    }

    fn slice(&self, span: Span) -> &[Posting] {
        span.slice(&self.postings)
    }

    /// Bytes of the heap, for `--stats`.
    pub(super) fn bytes(&self) -> usize {
        let patterns = self.patterns.iter().map(|(_, pattern)| heap::of_pattern(pattern)).sum::<usize>();
        let residues = self.forms.iter().map(|form| heap::of_residue(&form.residue)).sum::<usize>();
        let maps = self.others.iter().map(|(_, map, _)| map.capacity() * (size_of::<(u64, Span)>() + 1));
        size_of_val(&*self.postings)
            + size_of_val(&*self.forms)
            + size_of_val(&*self.patterns)
            + size_of_val(&*self.others)
            + patterns
            + residues
            + maps.sum::<usize>()
            + self.trie.bytes()
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
    rules: &'a Runs,
    best: u32,
}

impl Search<'_> {
    fn visit(&mut self, postings: &[Posting]) {
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
        let Some(form) = self.bank.form(posting) else { return false };
        form.methods & self.asked.method != 0
            && form.protocols & self.asked.protocol != 0
            && self.matches(form.comparison)
            && self.asked.request.now < form.expires
            && form.residue.is_met(self.asked, self.open, self.bank.need)
            && self.rules.has(posting.rule)
    }

    /// Whether the key is what the pattern says, as far as the place where it was found leaves that open.
    fn matches(&self, comparison: Comparison) -> bool {
        match comparison {
            Comparison::Nothing => true,
            Comparison::Of(set) => match self.asked.request.path {
                Fact::Known(path) => path.iter().all(|byte| *byte == b'/' || set.contains(*byte)),
                Fact::Absent | Fact::Unknown => false,
            },
            Comparison::Pattern(pattern) => self.matches_pattern(pattern),
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
