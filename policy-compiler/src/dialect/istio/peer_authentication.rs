//! `PeerAuthentication` to the model: STRICT refuses plaintext before any authorization.
//!
//! SPEC: mesh (root namespace, no selector) < namespace < workload selector < port. At each level the oldest wins,
//! UNSET inherits, and PERMISSIVE is the default. In the root namespace a selector makes the policy void.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::subject;
use crate::diagnostic::{Code, Location};
use crate::facts::{Direction, Transport};
use crate::model::{Atom, Directions, Effect, Expr, Mode, PeerAtom, Policy, PolicyName, PortAtom, Rule, Stack, Tier};
use crate::source::{Document, Fields, Findings, Node, Value, fields};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MutualTls {
    Unset,
    Optional,
    Strict,
}

/// One document, read; which of several acts on a workload is decided by [`policies`].
#[derive(Debug)]
pub(super) struct PeerAuthentication {
    name: PolicyName,
    location: Location,
    created: Option<i64>,
    selected: Option<Expr>,
    mode: MutualTls,
    ports: BTreeMap<u16, MutualTls>,
}

/// Reads one document; `None` after an error.
pub(super) fn read(
    document: &Document,
    name: PolicyName,
    root_namespace: &str,
    findings: &mut Findings,
) -> Option<PeerAuthentication> {
    let mut top = super::top(document, findings)?;
    let spec = super::optional(&mut top, "spec", findings);
    top.finish(findings);
    let mut selected = None;
    let mut base = MutualTls::Unset;
    let mut ports = BTreeMap::new();
    if let Some(spec) = spec {
        let mut spec = Fields::of(spec, "`spec`", findings)?;
        let selector = super::optional(&mut spec, "selector", findings);
        selected = subject::labels(selector, findings);
        if let Some(selector) = selector.filter(|_| selected.is_some() && *name.namespace == *root_namespace) {
            let message = "in the root namespace a `PeerAuthentication` with labels acts on nothing";
            let help = "remove the `selector`, or move the policy to the namespace of its workloads";
            findings.report_with(Code::NotEnforced, selector.span, message, help);
        }
        if let Some(mtls) = super::optional(&mut spec, "mtls", findings) {
            base = mode(mtls, "`mtls`", findings)?;
        }
        if let Some(levels) = super::optional(&mut spec, "portLevelMtls", findings) {
            ports = port_levels(levels, selected.is_some(), findings)?;
        }
        spec.finish(findings);
    }
    (!findings.has_errors()).then(|| PeerAuthentication {
        location: document.location.clone(),
        created: document.created,
        name,
        selected,
        mode: base,
        ports,
    })
}

fn port_levels(levels: &Node, has_selector: bool, findings: &mut Findings) -> Option<BTreeMap<u16, MutualTls>> {
    if !has_selector {
        findings.report_with(
            Code::Conflict,
            levels.span,
            "`portLevelMtls` needs a `selector` with labels",
            "ports are those of the selected workloads",
        );
    }
    let Value::Map(entries) = &levels.value else {
        Fields::of(levels, "`portLevelMtls`", findings);
        return None;
    };
    if entries.is_empty() {
        findings.report_with(Code::BadValue, levels.span, "`portLevelMtls` is empty", "leave it out");
    }
    let mut ports = BTreeMap::new();
    for (port, level) in entries {
        match port.text.parse::<u16>() {
            Ok(number) if number != 0 => {
                ports.insert(number, mode(level, "a level of `portLevelMtls`", findings)?);
            }
            _ => {
                findings.report_with(
                    Code::OutOfRange,
                    port.span,
                    format!("`{}` is not a port from 1 to 65535", port.text),
                    "ports are the workload's own, by number",
                );
            }
        }
    }
    Some(ports)
}

fn mode(mtls: &Node, what: &str, findings: &mut Findings) -> Option<MutualTls> {
    let mut fields = Fields::of(mtls, what, findings)?;
    let mode = super::optional(&mut fields, "mode", findings);
    fields.finish(findings);
    match mode {
        Some(mode) => fields::word(mode, "`mode`", &MODES, findings),
        None => Some(MutualTls::Unset),
    }
}

const MODES: [(&str, MutualTls); 4] = [
    ("UNSET", MutualTls::Unset),
    ("DISABLE", MutualTls::Optional),
    ("PERMISSIVE", MutualTls::Optional),
    ("STRICT", MutualTls::Strict),
];

/// All documents together: what each of them refuses.
pub(super) fn policies(mut all: Vec<PeerAuthentication>, root_namespace: &str) -> Vec<Policy> {
    // The oldest first, by seconds as Kubernetes keeps them; of one age, or without timestamps, by name.
    all.sort_by(|a, b| (&a.created, &a.name.name).cmp(&(&b.created, &b.name.name)));
    let names: Vec<(PolicyName, Location)> = all.iter().map(|one| (one.name.clone(), one.location.clone())).collect();
    let mut mesh: Option<PeerAuthentication> = None;
    let mut namespaces: BTreeMap<Arc<str>, PeerAuthentication> = BTreeMap::new();
    let mut workloads: BTreeMap<Arc<str>, Vec<PeerAuthentication>> = BTreeMap::new();
    for one in all {
        let in_root = *one.name.namespace == *root_namespace;
        match (in_root, &one.selected) {
            (true, Some(_)) => {}
            (true, None) => {
                mesh.get_or_insert(one);
            }
            (false, Some(_)) => workloads.entry(one.name.namespace.clone()).or_default().push(one),
            (false, None) => {
                namespaces.entry(one.name.namespace.clone()).or_insert(one);
            }
        }
    }

    let mut policies = Vec::new();
    let selected_in = |namespace: &str| {
        let selected = workloads.get(namespace).into_iter().flatten().filter_map(|one| one.selected.clone());
        Expr::all([subject::namespace(namespace), Expr::any(selected)])
    };
    if let Some(mesh) = mesh.as_ref().filter(|mesh| mesh.mode == MutualTls::Strict) {
        let overriding = namespaces.iter().filter(|(_, own)| own.mode != MutualTls::Unset);
        let elsewhere = overriding.map(|(namespace, _)| subject::namespace(namespace));
        let selected = workloads.keys().map(|namespace| selected_in(namespace));
        policies.push(strict(mesh, !Expr::any(elsewhere.chain(selected)), Expr::True));
    }
    for (namespace, own) in namespaces.iter().filter(|(_, own)| own.mode == MutualTls::Strict) {
        let subject = Expr::all([subject::namespace(namespace), !selected_in(namespace)]);
        policies.push(strict(own, subject, Expr::True));
    }
    for (namespace, list) in &workloads {
        let own = namespaces.get(namespace).map_or(MutualTls::Unset, |own| own.mode);
        let inherited = match own {
            MutualTls::Unset => mesh.as_ref().map_or(MutualTls::Optional, |mesh| mesh.mode),
            own => own,
        };
        let mut older: Vec<Expr> = Vec::new();
        for one in list {
            let Some(selected) = one.selected.clone() else { continue };
            let subject =
                Expr::all([subject::namespace(namespace), selected.clone(), !Expr::any(older.iter().cloned())]);
            older.push(selected);
            let base = if one.mode == MutualTls::Unset { inherited } else { one.mode };
            let effective = |level: MutualTls| if level == MutualTls::Unset { base } else { level };
            let port = |port: &u16| Expr::Is(Atom::Port(PortAtom::Range(*port, *port)));
            let differing = one
                .ports
                .iter()
                .filter(|(_, level)| (effective(**level) == MutualTls::Strict) != (base == MutualTls::Strict));
            let differing = Expr::any(differing.map(|(number, _)| port(number)));
            let ports = if base == MutualTls::Strict { !differing } else { differing };
            if ports != Expr::False {
                policies.push(strict(one, subject, ports));
            }
        }
    }
    // A document that refuses nothing is remembered all the same: it is the last good version of what comes after it.
    let refusing_something: BTreeSet<PolicyName> = policies.iter().map(|policy| policy.name.clone()).collect();
    let others = names.into_iter().filter(|(name, _)| !refusing_something.contains(name));
    policies.extend(others.map(|(name, location)| refusing(name, location, Expr::False, Vec::new())));
    policies
}

fn strict(one: &PeerAuthentication, subject: Expr, ports: Expr) -> Policy {
    let plaintext = !Expr::Is(Atom::Peer(PeerAtom::Proven));
    let rule = Rule {
        name: "strict".into(),
        location: one.location.clone(),
        direction: Direction::Inbound,
        effect: Effect::Deny,
        condition: Expr::all([Expr::Is(Atom::Transport(Transport::Tcp)), plaintext, ports]),
        expires: None,
    };
    refusing(one.name.clone(), one.location.clone(), subject, vec![rule])
}

/// The tier is the one of `AuthorizationPolicy`, where a deny comes first too: Istio rewrites declared probes so that
/// `STRICT` lets them pass, and nothing but an admin tier stands before them here.
fn refusing(name: PolicyName, location: Location, subject: Expr, rules: Vec<Rule>) -> Policy {
    Policy {
        name,
        location,
        stack: Stack::Istio,
        tier: Tier::Application,
        priority: 0,
        mode: Mode::Enforce,
        replaces: Vec::new(),
        subject,
        closes: Directions::default(),
        rules,
        http_options: Vec::new(),
        jwt_rules: Vec::new(),
        broken: false,
    }
}
