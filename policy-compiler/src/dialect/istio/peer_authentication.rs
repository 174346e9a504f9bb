//! `PeerAuthentication` to the model: STRICT refuses plaintext before any authorization.
//!
//! SPEC: mesh (root namespace, no selector) < namespace < workload selector < port. At each level the oldest wins,
//! UNSET inherits, and PERMISSIVE is the default. In the root namespace a selector makes the policy void.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::findings::Findings;
use super::schema;
use super::{code, subject};
use crate::diagnostic::Location;
use crate::facts::{Direction, Transport};
use crate::model::{Atom, Directions, Effect, Expr, Mode, PeerAtom, Policy, PolicyName, PortAtom, Rule, Stack, Tier};

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
    created: String,
    selected: Option<Expr>,
    mode: MutualTls,
    ports: BTreeMap<u16, MutualTls>,
}

/// Reads one document; `None` after an error.
pub(super) fn read(
    document: &schema::Document<schema::PeerAuthentication>,
    name: PolicyName,
    findings: &mut Findings<'_>,
) -> Option<PeerAuthentication> {
    let nothing = schema::PeerAuthentication::default();
    let spec = document.spec.as_ref().unwrap_or(&nothing);
    let errors = findings.errors();
    let has_labels = |selector: &serde_saphyr::Spanned<schema::WorkloadSelector>| {
        selector.value.match_labels.as_ref().is_some_and(|labels| !labels.is_empty())
    };
    let selected = spec
        .selector
        .as_ref()
        .filter(|selector| has_labels(selector))
        .map(|selector| subject::labels(Some(selector), findings));
    let mode = spec.mtls.as_ref().map_or(MutualTls::Unset, |mtls| mode(mtls, findings));
    let mut ports = BTreeMap::new();
    if let Some(levels) = &spec.port_level_mtls {
        if selected.is_none() {
            findings.error_at(
                Some(levels),
                code::VALUE,
                "`portLevelMtls` needs a `selector` with labels",
                "ports are those of the selected workloads",
            );
        }
        if levels.value.is_empty() {
            findings.error_at(Some(levels), code::EMPTY, "`portLevelMtls` is empty", "leave it out");
        }
        for (port, level) in &levels.value {
            match port.parse::<u16>() {
                Ok(number) if number != 0 => {
                    ports.insert(number, self::mode(&level.value, findings));
                }
                _ => findings.error_at(
                    Some(level),
                    code::VALUE,
                    format!("`{port}` is not a port from 1 to 65535"),
                    "ports are the workload's own, by number",
                ),
            }
        }
    }
    (findings.errors() == errors).then(|| PeerAuthentication {
        location: findings.start(),
        created: document.metadata.creation_timestamp.clone().unwrap_or_default(),
        name,
        selected,
        mode,
        ports,
    })
}

fn mode(mtls: &schema::MutualTls, findings: &mut Findings<'_>) -> MutualTls {
    match mtls.mode.as_ref().map(|mode| (mode, mode.value.as_str())) {
        None | Some((_, "UNSET")) => MutualTls::Unset,
        Some((_, "PERMISSIVE" | "DISABLE")) => MutualTls::Optional,
        Some((_, "STRICT")) => MutualTls::Strict,
        Some((mode, other)) => {
            findings.error_at(
                Some(mode),
                code::VALUE,
                format!("unknown mode `{other}`"),
                "one of `UNSET`, `DISABLE`, `PERMISSIVE`, `STRICT`",
            );
            MutualTls::Strict
        }
    }
}

/// All documents together: what each of them refuses.
pub(super) fn policies(mut all: Vec<PeerAuthentication>, root_namespace: &str) -> Vec<Policy> {
    // The oldest first; without timestamps (files have none) by name.
    all.sort_by(|a, b| (&a.created, &a.name.name).cmp(&(&b.created, &b.name.name)));
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
            let differing = one.ports.iter().filter(|(_, level)| {
                (effective(**level) == MutualTls::Strict) != (base == MutualTls::Strict)
            });
            let differing = Expr::any(differing.map(|(number, _)| port(number)));
            let ports = if base == MutualTls::Strict { !differing } else { differing };
            if ports != Expr::False {
                policies.push(strict(one, subject, ports));
            }
        }
    }
    policies
}

fn strict(one: &PeerAuthentication, subject: Expr, ports: Expr) -> Policy {
    let plaintext = !Expr::Is(Atom::Peer(PeerAtom::Proven));
    Policy {
        name: one.name.clone(),
        location: one.location.clone(),
        stack: Stack::Istio,
        tier: Tier::Admin,
        mode: Mode::Enforce,
        replaces: Vec::new(),
        subject,
        closes: Directions::default(),
        rules: vec![Rule {
            name: "strict".into(),
            location: one.location.clone(),
            direction: Direction::Inbound,
            effect: Effect::Deny,
            condition: Expr::all([Expr::Is(Atom::Transport(Transport::Tcp)), plaintext, ports]),
            expires: None,
        }],
        http_options: Vec::new(),
        broken: false,
    }
}
