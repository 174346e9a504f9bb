//! Workloads to ask about where nobody says who is there: one for everybody whom rules or subjects name, and strangers.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::facts::Transport;
use crate::model::{Atom, Expr, Model, PeerAtom, PortAtom, Selector, SelectorOperator};
use crate::registry::{DeclaredPort, Labels, Registry, Service, ServicePort, TargetPort, Workload, WorkloadId};

/// Who a policy speaks of, as far as one conjunction says it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Role {
    namespace: Option<Arc<str>>,
    account: Option<Arc<str>>,
    labels: Labels,
    namespace_labels: Labels,
}

/// A registry with a workload for each role that the models name. Named ports are declared by everybody, under numbers
/// of their own.
#[must_use]
pub fn cast(models: &[&Model]) -> Registry {
    let mut roles: Vec<Role> = Vec::new();
    let mut ports: BTreeMap<Arc<str>, u16> = BTreeMap::new();
    let mut services: Vec<(Arc<str>, Arc<str>)> = Vec::new();
    for glass in models.iter().flat_map(|model| &model.break_glass) {
        roles.extend(roles_of(&glass.subject));
    }
    for policy in models.iter().flat_map(|model| &model.policies) {
        for condition in std::iter::once(&policy.subject).chain(policy.rules.iter().map(|rule| &rule.condition)) {
            roles.extend(roles_of(condition));
            visit(condition, &mut |atom| match atom {
                Atom::Port(PortAtom::Named(name)) => {
                    let next = FIRST_PORT.saturating_add(u16::try_from(ports.len()).unwrap_or(0));
                    ports.entry(Arc::clone(name)).or_insert(next);
                }
                Atom::Peer(PeerAtom::Service { namespace, name })
                | Atom::Located(PeerAtom::Service { namespace, name }) => {
                    services.push((Arc::clone(namespace), Arc::clone(name)));
                }
                _ => {}
            });
        }
    }
    // Labels of a namespace are those of all its workloads.
    let mut of_namespace: BTreeMap<Arc<str>, Labels> = BTreeMap::new();
    let mut workloads: Vec<Workload> = Vec::new();
    roles.push(Role::default());
    roles.sort();
    roles.dedup();
    for role in roles.iter().take(MOST) {
        let namespace: Arc<str> = match (&role.namespace, role.namespace_labels.is_empty()) {
            (Some(namespace), _) => Arc::clone(namespace),
            (None, true) => "elsewhere".into(),
            (None, false) => {
                let words: Vec<&str> = role.namespace_labels.values().map(|value| &**value).collect();
                format!("labelled-{}", words.join("-")).into()
            }
        };
        of_namespace.entry(Arc::clone(&namespace)).or_default().extend(role.namespace_labels.clone());
        let name = match (&role.account, role.labels.values().next()) {
            (Some(account), _) => account.to_string(),
            (None, Some(label)) => label.to_string(),
            (None, None) => "anyone".into(),
        };
        workloads.push(workload(&name, namespace, role, &ports, workloads.len()));
    }
    for workload in &mut workloads {
        if let Some(labels) = of_namespace.get(&workload.namespace) {
            workload.namespace_labels.extend(labels.clone());
        }
        workload.namespace_labels.insert("kubernetes.io/metadata.name".into(), Arc::clone(&workload.namespace));
    }
    services.sort();
    services.dedup();
    let services = services.into_iter().map(|(namespace, name)| service(namespace, name, &workloads)).collect();
    number_names(&mut workloads);
    Registry::new(workloads, services, Vec::new())
}

fn workload(name: &str, namespace: Arc<str>, role: &Role, ports: &BTreeMap<Arc<str>, u16>, index: usize) -> Workload {
    let index = u16::try_from(index).unwrap_or(u16::MAX);
    let [high, low] = index.to_be_bytes();
    let declared = |(name, port): (&Arc<str>, &u16)| DeclaredPort {
        name: Some(Arc::clone(name)),
        port: *port,
        transport: Transport::Tcp,
        application: None,
    };
    let plain = DeclaredPort { name: None, port: PLAIN_PORT, transport: Transport::Tcp, application: None };
    Workload {
        name: name.into(),
        namespace,
        service_account: role.account.clone().unwrap_or_else(|| "default".into()),
        labels: role.labels.clone(),
        namespace_labels: Labels::new(),
        annotations: Labels::new(),
        namespace_annotations: Labels::new(),
        node: None,
        host_network: false,
        netns: None,
        ips: vec![IpAddr::V4(Ipv4Addr::new(10, 254, high, low))],
        ports: std::iter::once(plain).chain(ports.iter().map(declared)).collect(),
        probes: Vec::new(),
    }
}

/// A Service of that name in front of the workloads of its namespace that are called like it, or of all.
fn service(namespace: Arc<str>, name: Arc<str>, workloads: &[Workload]) -> Service {
    let own = (0u32..).zip(workloads).filter(|(_, workload)| workload.namespace == namespace);
    let (alike, others): (Vec<_>, Vec<_>) = own.partition(|(_, workload)| workload.service_account == name);
    let endpoints = if alike.is_empty() { others } else { alike };
    let port =
        ServicePort { name: None, port: PLAIN_PORT, target: TargetPort::Number(PLAIN_PORT), transport: Transport::Tcp };
    Service {
        name,
        namespace,
        ips: Vec::new(),
        ports: vec![port],
        endpoints: endpoints.into_iter().map(|(id, _)| WorkloadId(id)).collect(),
        elsewhere: Vec::new(),
    }
}

/// Of several of one name each but the first gets a number.
fn number_names(workloads: &mut [Workload]) {
    let mut taken: BTreeMap<(Arc<str>, Arc<str>), usize> = BTreeMap::new();
    for workload in workloads {
        let count = taken.entry((Arc::clone(&workload.namespace), Arc::clone(&workload.name))).or_default();
        *count += 1;
        if *count > 1 {
            workload.name = format!("{}-{count}", workload.name).into();
        }
    }
}

/// The roles that a condition names: of alternatives each, of a conjunction what its parts say together.
fn roles_of(condition: &Expr) -> Vec<Role> {
    match condition {
        Expr::True | Expr::False => Vec::new(),
        Expr::Not(inner) => roles_of(inner),
        Expr::Is(Atom::Peer(atom) | Atom::Located(atom) | Atom::Subject(atom)) => of_atom(atom).into_iter().collect(),
        Expr::Is(_) => Vec::new(),
        Expr::Any(parts) => parts.iter().flat_map(roles_of).collect(),
        Expr::All(parts) => {
            let mut whole = Role::default();
            let mut apart = Vec::new();
            for part in parts {
                match part {
                    Expr::Is(Atom::Peer(atom) | Atom::Located(atom) | Atom::Subject(atom)) => {
                        if let Some(role) = of_atom(atom) {
                            whole.namespace = whole.namespace.or(role.namespace);
                            whole.account = whole.account.or(role.account);
                            whole.labels.extend(role.labels);
                            whole.namespace_labels.extend(role.namespace_labels);
                        }
                    }
                    other => apart.extend(roles_of(other)),
                }
            }
            if whole != Role::default() {
                apart.push(whole);
            }
            apart
        }
    }
}

fn of_atom(atom: &PeerAtom) -> Option<Role> {
    match atom {
        PeerAtom::Namespace(name) => Some(Role { namespace: Some(Arc::clone(name)), ..Role::default() }),
        PeerAtom::ServiceAccount(name) => Some(Role { account: Some(Arc::clone(name)), ..Role::default() }),
        PeerAtom::Labels(selector) => Some(Role { labels: satisfying(selector), ..Role::default() }),
        PeerAtom::NamespaceLabels(selector) => Some(Role { namespace_labels: satisfying(selector), ..Role::default() }),
        _ => None,
    }
}

/// Labels that satisfy a selector.
fn satisfying(selector: &Selector) -> Labels {
    let wanted = selector.requirements.iter().filter_map(|requirement| match requirement.operator {
        SelectorOperator::In => Some((Arc::clone(&requirement.key), Arc::clone(requirement.values.first()?))),
        SelectorOperator::Exists => Some((Arc::clone(&requirement.key), "any".into())),
        SelectorOperator::NotIn | SelectorOperator::DoesNotExist => None,
    });
    wanted.collect()
}

fn visit(condition: &Expr, see: &mut impl FnMut(&Atom)) {
    match condition {
        Expr::True | Expr::False => {}
        Expr::Is(atom) => see(atom),
        Expr::All(parts) | Expr::Any(parts) => parts.iter().for_each(|part| visit(part, see)),
        Expr::Not(inner) => visit(inner, see),
    }
}

const PLAIN_PORT: u16 = 8080;
const FIRST_PORT: u16 = 20_000;
/// Roles beyond these are left out: whoever has more has a registry.
const MOST: usize = 2_000;
