//! GET without HEAD: every client that may read a page may ask for its head, and some do first.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{about, acting, visit_positive};
use crate::diagnostic::{Code, Diagnostic, Location};
use crate::model::{Atom, Effect, Pattern, Policy, Rule, Text};

/// Allow rules that name GET and no HEAD. What one written rule became, a rule for each of its matches, is one here.
pub(super) fn missing(policies: &[Arc<Policy>]) -> Vec<Diagnostic> {
    type Written<'p> = (&'p Policy, &'p Rule, Methods);
    let mut written: BTreeMap<(&Location, &str), Written<'_>> = BTreeMap::new();
    for (policy, rule) in acting(policies).filter(|(_, rule)| rule.effect == Effect::Allow) {
        let key = (&rule.location, &*rule.name);
        written.entry(key).or_insert((policy, rule, Methods::default())).2.add(rule);
    }
    let lacking = written.into_values().filter(|(.., methods)| methods.get && !methods.head);
    lacking
        .map(|(policy, rule, _)| {
            let message = format!("rule `{}` allows GET and not HEAD", rule.name);
            about(Code::NoHead, policy, rule, message, "add HEAD beside GET, unless its clients never send it")
        })
        .collect()
}

#[derive(Default)]
struct Methods {
    get: bool,
    head: bool,
}

impl Methods {
    fn add(&mut self, rule: &Rule) {
        visit_positive(&rule.condition, &mut |atom| {
            if let Atom::Text { of: Text::Method, is, .. } = atom {
                let names = |method: &[u8]| {
                    is.iter().any(|pattern| matches!(pattern, Pattern::Exact(name) if **name == *method))
                };
                self.get |= names(b"GET");
                self.head |= names(b"HEAD") || is.iter().any(|pattern| !matches!(pattern, Pattern::Exact(_)));
            }
        });
    }
}
