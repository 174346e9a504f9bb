//! What the containers of a Pod declare: ports, and the probes that the kubelet sends.
//!
//! SPEC: a probe's named port is one of its own container. An init container with `restartPolicy: Always` is a sidecar:
//! it runs beside the others and may be probed.

use std::sync::Arc;

use super::field;
use crate::diagnostic::Code;
use crate::facts::Transport;
use crate::registry::load::application_protocol;
use crate::registry::{DeclaredPort, Probe};
use crate::source::{Findings, Node, Value, fields};

/// What all containers declare together.
#[derive(Debug, Default)]
pub(super) struct Containers {
    pub(super) ports: Vec<DeclaredPort>,
    pub(super) probes: Vec<Probe>,
}

/// Of a Pod's spec.
pub(super) fn read(spec: &Node, findings: &mut Findings) -> Containers {
    let mut all = Containers::default();
    let sidecars = field::items(spec, "initContainers", findings).iter();
    let sidecars: Vec<&Node> =
        sidecars.filter(|one| field::text(one, "restartPolicy", findings) == Some("Always")).collect();
    for container in field::items(spec, "containers", findings).iter().chain(sidecars) {
        let own: Vec<DeclaredPort> =
            field::items(container, "ports", findings).iter().filter_map(|port| declared(port, findings)).collect();
        for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
            let Some(written) = field::mapping(container, probe, findings) else { continue };
            let Some(probe) = probe_of(written, &own, findings) else { continue };
            if !all.probes.contains(&probe) {
                all.probes.push(probe);
            }
        }
        for port in own {
            if !all.ports.contains(&port) {
                all.ports.push(port);
            }
        }
    }
    all
}

fn declared(node: &Node, findings: &mut Findings) -> Option<DeclaredPort> {
    let port = field::port(node, "containerPort", findings);
    if port.is_none() && field::member(node, "containerPort").is_none() {
        findings.report(Code::MissingField, node.span, "`containerPort` is missing");
    }
    let name: Option<Arc<str>> = field::text(node, "name", findings).map(Into::into);
    let transport = transport(node, findings)?;
    let application = match (&name, transport) {
        (Some(name), Transport::Tcp) => name.split('-').next().and_then(application_protocol),
        _ => None,
    };
    Some(DeclaredPort { name, port: port?, transport, application })
}

/// `protocol`, TCP where it is left out.
pub(super) fn transport(node: &Node, findings: &mut Findings) -> Option<Transport> {
    let words = [("TCP", Transport::Tcp), ("UDP", Transport::Udp), ("SCTP", Transport::Sctp)];
    match field::member(node, "protocol") {
        None => Some(Transport::Tcp),
        Some(written) => fields::word(written, "`protocol`", &words, findings),
    }
}

/// What the kubelet sends for a probe; nothing for one that runs a command, or that goes to another host.
fn probe_of(probe: &Node, own: &[DeclaredPort], findings: &mut Findings) -> Option<Probe> {
    if let Some(get) = field::mapping(probe, "httpGet", findings) {
        if field::text(get, "host", findings).is_some() {
            return None;
        }
        let path = field::text(get, "path", findings).unwrap_or("/");
        return Some(Probe { port: port(get, own, findings)?, path: Some(path_of(path)), method: "GET".into() });
    }
    if let Some(connect) = field::mapping(probe, "tcpSocket", findings) {
        if field::text(connect, "host", findings).is_some() {
            return None;
        }
        return Some(Probe { port: port(connect, own, findings)?, path: None, method: "GET".into() });
    }
    let call = field::mapping(probe, "grpc", findings)?;
    let path = Some(Arc::from("/grpc.health.v1.Health/Check"));
    Some(Probe { port: port(call, own, findings)?, path, method: "POST".into() })
}

/// The path alone: a query is no part of it, and the kubelet begins every path with a slash.
fn path_of(written: &str) -> Arc<str> {
    let path = written.split(['?', '#']).next().unwrap_or_default();
    if path.starts_with('/') { path.into() } else { format!("/{path}").into() }
}

/// A number, or the name of a port of the same container. A number may be written as text.
fn port(target: &Node, own: &[DeclaredPort], findings: &mut Findings) -> Option<u16> {
    let written = field::member(target, "port")?;
    let Value::Text(name) = &written.value else { return field::port(target, "port", findings) };
    let named = own.iter().find(|port| port.name.as_deref() == Some(&**name)).map(|port| port.port);
    let found = named.or_else(|| name.parse().ok().filter(|number| *number != 0));
    if found.is_none() {
        findings.report_with(
            Code::Suspicious,
            written.span,
            format!("the probe's port `{name}` is none of its container"),
            "the kubelet cannot send this probe: name a port of the same container, or its number",
        );
    }
    found
}
