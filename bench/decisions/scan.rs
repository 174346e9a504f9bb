//! The plain answer: every rule in turn, no index.

use crate::questions::Question;
use crate::rules::{Rules, Shape};

/// One rule as a struct. Sources and destinations are numbers, as they are for a proxy that resolved a connection.
struct Rule {
    destination: u32,
    source: u32,
    method: &'static str,
    path: Path,
}

enum Path {
    Exact(Box<[u8]>),
    /// The prefix itself and everything below it.
    Tree(Box<[u8]>),
    /// One segment behind the prefix, which ends in a slash.
    Items(Box<[u8]>),
}

pub(crate) struct Scan {
    rules: Vec<Rule>,
}

impl Scan {
    pub(crate) fn new(rules: &Rules) -> Self {
        let rule = |rule: usize| Rule {
            destination: rules.destination(rule) as u32,
            source: rules.source(rule) as u32,
            method: crate::rules::METHODS[Rules::method(rule)],
            path: match Rules::shape(rule) {
                Shape::Exact => Path::Exact(format!("/api/v1/exact-{rule}").into_bytes().into()),
                Shape::Tree => Path::Tree(format!("/api/v1/tree-{rule}").into_bytes().into()),
                Shape::Items => Path::Items(format!("/api/v1/items-{rule}/").into_bytes().into()),
            },
        };
        Self { rules: (0..rules.count).map(rule).collect() }
    }

    pub(crate) fn allows(&self, destination: u32, question: &Question, path: &[u8]) -> bool {
        let method = question.method();
        self.rules.iter().any(|rule| {
            rule.destination == destination
                && rule.source == question.source
                && rule.method == method
                && rule.path.matches(path)
        })
    }
}

impl Path {
    fn matches(&self, path: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => **exact == *path,
            Self::Tree(prefix) => {
                path.strip_prefix(&**prefix).is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
            }
            Self::Items(prefix) => {
                path.strip_prefix(&**prefix).is_some_and(|rest| !rest.is_empty() && !rest.contains(&b'/'))
            }
        }
    }
}
