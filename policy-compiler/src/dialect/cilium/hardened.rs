//! `compatibility: Hardened`: within one `spec`, a rule for layer 4 does not empty a rule for layer 7.
//!
//! A rule that looks into requests claims its peers and ports: there, a rule that does not look says nothing. It can
//! only turn an allow into a deny.

use super::section::Entry;
use crate::model::Expr;

/// Peers and ports that rules for layer 7 speak for.
pub(super) fn claims<'e>(entries: impl Iterator<Item = &'e Entry>) -> Vec<Expr> {
    let deep = |entry: &'e Entry| {
        let ports = entry.ports.iter().flatten().filter(|rule| rule.content.is_some());
        ports.map(|rule| Expr::all([entry.peers.clone(), rule.ports.clone()]))
    };
    entries.flat_map(deep).collect()
}

/// The condition of an allow rule, without what is claimed where it does not look into requests.
pub(super) fn narrow(condition: Expr, entry: &Entry, claims: &[Expr]) -> Expr {
    let plain = |rule: &super::l7::PortRule| rule.content.is_none();
    let (shallow, deep): (Vec<_>, Vec<_>) = entry.ports.iter().flatten().partition(|rule| plain(rule));
    if claims.is_empty() || (shallow.is_empty() && entry.ports.is_some()) {
        return condition;
    }
    let unclaimed = claims.iter().map(|claim| !claim.clone());
    if deep.is_empty() {
        return Expr::all(std::iter::once(condition).chain(unclaimed));
    }
    // Items of both kinds in one rule: each says for itself.
    let looked = deep.iter().map(|rule| Expr::all([rule.ports.clone(), rule.content.clone().unwrap_or(Expr::True)]));
    let plain = Expr::any(shallow.iter().map(|rule| rule.ports.clone()));
    let plain = Expr::all(std::iter::once(plain).chain(unclaimed));
    Expr::all([entry.peers.clone(), Expr::any(looked.chain([plain]))])
}
