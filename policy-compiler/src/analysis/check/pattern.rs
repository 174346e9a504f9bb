//! Path patterns that say more, or are said with more, than is meant.

use std::sync::Arc;

use regex_syntax::hir::{Class, Hir, HirKind};

use super::{about, acting, visit_positive};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{Atom, Effect, Pattern, Policy, Stack, Text};

/// Prefixes without a boundary in allow rules, and expressions that only spell a prefix or a whole path.
pub(super) fn paths(policies: &[Arc<Policy>]) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    for (policy, rule) in acting(policies) {
        visit_positive(&rule.condition, &mut |atom| {
            let Atom::Text { of: Text::Path | Text::PathEitherSlash | Text::PathAndQuery, is, .. } = atom else {
                return;
            };
            for pattern in is {
                let Some(spelled) = spelled(pattern) else { continue };
                if rule.effect == Effect::Allow
                    && let Some(prefix) = spelled.loose_prefix()
                {
                    let message = format!("the prefix `{prefix}` of rule `{}` also matches `{prefix}x`", rule.name);
                    let help = "end it at a boundary: the path itself, and `/` with everything below";
                    findings.push(about(Code::LoosePrefix, policy, rule, message, help));
                }
                // Elsewhere a path can be said in no other way.
                if matches!(pattern, Pattern::Regex { .. })
                    && policy.stack == Stack::Native
                    && let Some(instead) = spelled.instead()
                {
                    let message = format!("a regular expression of rule `{}` only spells `{instead}`", rule.name);
                    let help = format!("write `{instead}`: it is matched by segments and needs no expression");
                    findings.push(about(Code::NeedlessRegex, policy, rule, message, help));
                }
            }
        });
    }
    findings
}

/// A literal, and whether anything may follow it.
struct Spelled {
    literal: String,
    open: bool,
}

impl Spelled {
    fn loose_prefix(&self) -> Option<&str> {
        (self.open && self.literal.len() > 1 && !self.literal.ends_with('/')).then_some(&self.literal)
    }

    fn instead(&self) -> Option<String> {
        match self.literal.strip_suffix('/') {
            _ if !self.literal.starts_with('/') => None,
            Some(path) if self.open => Some(format!("{path}/**")),
            _ if self.open => None,
            _ => Some(self.literal.clone()),
        }
    }
}

fn spelled(pattern: &Pattern) -> Option<Spelled> {
    match pattern {
        Pattern::Prefix(bytes) => Some(Spelled { literal: String::from_utf8(bytes.to_vec()).ok()?, open: true }),
        Pattern::Regex { source, .. } => {
            let mut parser =
                regex_syntax::ParserBuilder::new().utf8(false).unicode(false).dot_matches_new_line(true).build();
            of_expression(&parser.parse(source).ok()?)
        }
        _ => None,
    }
}

/// What an expression spells if it is a literal, or a literal and then anything. Anchors say nothing here: the whole
/// value has to match anyway.
fn of_expression(hir: &Hir) -> Option<Spelled> {
    let parts = match hir.kind() {
        HirKind::Concat(parts) => parts.as_slice(),
        _ => std::slice::from_ref(hir),
    };
    let mut said: Vec<&Hir> = parts.iter().filter(|part| !matches!(part.kind(), HirKind::Look(_))).collect();
    let open = said.last().is_some_and(|last| is_anything(last));
    if open {
        said.pop();
    }
    let [only] = said.as_slice() else { return None };
    let HirKind::Literal(literal) = only.kind() else { return None };
    Some(Spelled { literal: String::from_utf8(literal.0.to_vec()).ok()?, open })
}

/// `.*` over bytes.
fn is_anything(hir: &Hir) -> bool {
    let HirKind::Repetition(repetition) = hir.kind() else { return false };
    let every = match repetition.sub.kind() {
        HirKind::Class(Class::Bytes(class)) => class.ranges().iter().map(|range| range.len()).sum::<usize>() >= 255,
        HirKind::Class(Class::Unicode(class)) => {
            class.ranges().iter().map(|range| range.len()).sum::<usize>() >= 0xFFFF
        }
        _ => false,
    };
    every && repetition.min == 0 && repetition.max.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_expression_spells() {
        for (source, literal, open) in
            [("/api/.*", "/api/", true), ("^/api.*$", "/api", true), ("/api", "/api", false), (r"/a\.b", "/a.b", false)]
        {
            let spelled = of_expression(&regex_syntax::parse(source).unwrap()).unwrap();
            assert_eq!((spelled.literal.as_str(), spelled.open), (literal, open), "{source}");
        }
        for source in ["/a[0-9]", "/a|/b", "/a.*/b", "/a.+", ".*"] {
            assert!(of_expression(&regex_syntax::parse(source).unwrap()).is_none(), "{source}");
        }
    }
}
