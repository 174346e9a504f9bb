//! Pods that policies protect, or that ask for a sidecar, and before which no proxy stands.

use std::collections::BTreeMap;

use eastwall_policy::model::{Expr, Mode};
use eastwall_policy::registry::Workload;

use crate::policies::View;
use crate::uncovered::{Lack, Uncovered};

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unprotected<'v> {
    pub(super) workload: &'v Workload,
    pub(super) lack: Lack,
}

/// Those among the pods without a proxy.
pub(super) fn of<'v>(view: &'v View, uncovered: &Uncovered) -> Vec<Unprotected<'v>> {
    let policies = view.compiled.model.policies.iter().filter(|policy| policy.mode == Mode::Enforce);
    let subjects: Vec<&Expr> = policies.map(|policy| &policy.subject).collect();
    let registry = &view.registry;
    let found = uncovered.iter().filter_map(|((namespace, name), lack)| {
        let workload = registry.workload(registry.find_workload(namespace, name)?)?;
        Some(Unprotected { workload, lack: *lack })
    });
    found
        .filter(|Unprotected { workload, lack }| {
            *lack == Lack::NoSidecar || subjects.iter().any(|subject| subject.selects(workload))
        })
        .collect()
}

/// How many there are, by namespace and what they lack.
pub(super) fn counts(unprotected: &[Unprotected<'_>]) -> BTreeMap<(String, &'static str), i64> {
    let mut counts = BTreeMap::new();
    for Unprotected { workload, lack } in unprotected {
        *counts.entry((workload.namespace.to_string(), lack.label())).or_default() += 1;
    }
    counts
}

/// Some of them, for people: `shop/a (no-sidecar), shop/b (not-captured) …`.
pub(super) fn names(unprotected: &[Unprotected<'_>]) -> String {
    let name =
        |one: &Unprotected<'_>| format!("{}/{} ({})", one.workload.namespace, one.workload.name, one.lack.label());
    let first: Vec<String> = unprotected.iter().take(NAMED).map(name).collect();
    let more = if unprotected.len() > first.len() { " …" } else { "" };
    format!("{}{more}", first.join(", "))
}

/// Pods that are named.
const NAMED: usize = 5;
