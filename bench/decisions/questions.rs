//! The questions: distinct (source, path, method), drawn uniformly from a fixed seed, half of them denied. The answer of
//! each is known from how it was drawn, so that every engine is held to it.

use std::collections::HashSet;
use std::io::Write as _;

use crate::rules::{METHODS, Rules, Shape};

/// One question, small enough that a million of them are not what is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    pub(crate) rule: u32,
    pub(crate) source: u32,
    pub(crate) method: u8,
    /// The path is beside the rule's, not below it.
    beside: bool,
    /// What makes the path another one; 0 where the path has no such part.
    salt: u32,
    pub(crate) allowed: bool,
}

/// Draws `count` questions. No two have the same source, path and method.
pub(crate) fn draw(rules: &Rules, count: usize) -> Vec<Question> {
    let mut random = Random(rules.count as u64 | 1);
    let mut seen = HashSet::with_capacity(count);
    let mut questions = Vec::with_capacity(count);
    while questions.len() < count {
        // Tossed once a question, outside the redraws: few rules have few exact paths, and those are soon used up.
        let allowed = questions.len() % 2 == 0;
        let question = loop {
            let question = one(rules, allowed, &mut random);
            if seen.insert(question) {
                break question;
            }
        };
        questions.push(question);
    }
    // Allowed and denied in no order that a branch predictor could learn.
    for index in (1..questions.len()).rev() {
        questions.swap(index, random.below(index + 1));
    }
    questions
}

fn one(rules: &Rules, allowed: bool, random: &mut Random) -> Question {
    let rule = random.below(rules.count);
    let salt = 1 + random.below(1 << 30) as u32;
    let has_salt = Rules::shape(rule) != Shape::Exact;
    let question = Question {
        rule: rule as u32,
        source: rules.source(rule) as u32,
        method: Rules::method(rule) as u8,
        beside: false,
        salt: if has_salt { salt } else { 0 },
        allowed,
    };
    if allowed {
        return question;
    }
    // Asked as another caller, with another method, or for a path that differs late.
    match random.below(3) {
        0 => {
            let other = 1 + random.below(rules.sources() - 1);
            Question { source: ((rules.source(rule) + other) % rules.sources()) as u32, ..question }
        }
        1 => {
            let other = 1 + random.below(METHODS.len() - 1);
            Question { method: ((Rules::method(rule) + other) % METHODS.len()) as u8, ..question }
        }
        _ => Question { beside: true, salt, ..question },
    }
}

impl Question {
    pub(crate) fn path(&self, path: &mut Vec<u8>) {
        path.clear();
        let (rule, salt) = (self.rule, self.salt);
        let written = match (Rules::shape(rule as usize), self.beside) {
            (Shape::Exact, false) => write!(path, "/api/v1/exact-{rule}"),
            (Shape::Tree, false) => write!(path, "/api/v1/tree-{rule}/{salt}/leaf"),
            (Shape::Items, false) => write!(path, "/api/v1/items-{rule}/{salt}"),
            (Shape::Exact, true) => write!(path, "/api/v1/exact-{rule}/{salt}"),
            (Shape::Tree, true) => write!(path, "/api/v1/tree-{rule}-{salt}/leaf"),
            (Shape::Items, true) => write!(path, "/api/v1/items-{rule}/{salt}/more"),
        };
        assert!(written.is_ok(), "a buffer takes what is written to it");
    }

    pub(crate) fn method(&self) -> &'static str {
        METHODS[usize::from(self.method)]
    }
}

/// A small generator, so that runs repeat (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}
