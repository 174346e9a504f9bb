//! GET without HEAD: every client that may read a page may ask for its head, and some do first.

use std::sync::Arc;

use super::{about, acting, visit_positive};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{Atom, Effect, Pattern, Policy, Rule, Text};

/// Allow rules that name GET and no HEAD.
pub(super) fn missing(policies: &[Arc<Policy>]) -> Vec<Diagnostic> {
    let lacking = acting(policies).filter(|(_, rule)| rule.effect == Effect::Allow && lacks_head(rule));
    lacking
        .map(|(policy, rule)| {
            let message = format!("rule `{}` allows GET and not HEAD", rule.name);
            about(Code::NoHead, policy, rule, message, "add HEAD beside GET, unless its clients never send it")
        })
        .collect()
}

fn lacks_head(rule: &Rule) -> bool {
    let (mut get, mut head) = (false, false);
    visit_positive(&rule.condition, &mut |atom| {
        if let Atom::Text { of: Text::Method, is, .. } = atom {
            let names =
                |method: &[u8]| is.iter().any(|pattern| matches!(pattern, Pattern::Exact(name) if **name == *method));
            get |= names(b"GET");
            head |= names(b"HEAD") || is.iter().any(|pattern| !matches!(pattern, Pattern::Exact(_)));
        }
    });
    get && !head
}
