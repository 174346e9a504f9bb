//! Pods, and the templates that Deployments and their like make Pods of.

use std::net::IpAddr;

use super::field::{self, Name};
use super::{Place, Pod, container};
use crate::diagnostic::Code;
use crate::registry::Workload;
use crate::source::{Document, Findings, Node};

/// A Pod. One that has ended has no address any more: another may have it by now.
pub(super) fn read(document: &Document, name: Name, findings: &mut Findings) -> Option<Pod> {
    let spec = required(&document.root, "spec", findings)?;
    let status = field::mapping(&document.root, "status", findings);
    let phase = status.and_then(|status| field::text(status, "phase", findings));
    let has_ended = matches!(phase, Some("Succeeded" | "Failed")) || was_stopped(&document.root, spec, findings);
    let ips = match status {
        Some(status) if !has_ended => addresses(status, findings),
        _ => Vec::new(),
    };
    let is_ready = status.is_none_or(|status| {
        !field::items(status, "conditions", findings).iter().any(|condition| {
            field::text(condition, "type", findings) == Some("Ready")
                && field::text(condition, "status", findings) != Some("True")
        })
    });
    let workload = workload(name, &document.root, spec, ips, findings);
    Some(Pod { workload, ready: is_ready && !has_ended, place: Place::of(document) })
}

/// What the Pods of a Deployment, StatefulSet, DaemonSet, ReplicaSet, Job or CronJob will be: a workload at no address.
pub(super) fn template(document: &Document, name: Name, findings: &mut Findings) -> Option<Pod> {
    let mut spec = required(&document.root, "spec", findings)?;
    if document.kind == "CronJob" {
        spec = required(required(spec, "jobTemplate", findings)?, "spec", findings)?;
    }
    let template = required(spec, "template", findings)?;
    let spec = required(template, "spec", findings)?;
    let workload = workload(name, template, spec, Vec::new(), findings);
    Some(Pod { workload, ready: true, place: Place::of(document) })
}

/// Whether it is being deleted and none of its containers runs any more. A container of which nothing is told may run.
fn was_stopped(root: &Node, spec: &Node, findings: &mut Findings) -> bool {
    let metadata = field::mapping(root, "metadata", findings);
    let is_deleted = metadata.is_some_and(|metadata| field::member(metadata, "deletionTimestamp").is_some());
    let Some(status) = field::mapping(root, "status", findings).filter(|_| is_deleted) else { return false };
    let sorts = [
        ("containers", "containerStatuses"),
        ("initContainers", "initContainerStatuses"),
        ("ephemeralContainers", "ephemeralContainerStatuses"),
    ];
    sorts.into_iter().all(|(declared, told)| {
        let told = field::items(status, told, findings);
        told.len() >= field::items(spec, declared, findings).len()
            && told.iter().all(|one| {
                let state = field::mapping(one, "state", findings);
                state.is_some_and(|state| field::member(state, "running").is_none())
            })
    })
}

fn required<'n>(node: &'n Node, name: &str, findings: &mut Findings) -> Option<&'n Node> {
    let found = field::mapping(node, name, findings);
    if found.is_none() && field::member(node, name).is_none() {
        findings.report(Code::MissingField, node.span, format!("`{name}` is missing"));
    }
    found
}

fn workload(name: Name, object: &Node, spec: &Node, ips: Vec<IpAddr>, findings: &mut Findings) -> Workload {
    let metadata = field::mapping(object, "metadata", findings);
    let mut of_metadata =
        |member: &str| metadata.map(|metadata| field::labels(metadata, member, findings)).unwrap_or_default();
    let (labels, annotations) = (of_metadata("labels"), of_metadata("annotations"));
    let account = field::text(spec, "serviceAccountName", findings);
    // The older name of the same.
    let account = account.or_else(|| field::text(spec, "serviceAccount", findings));
    let containers = container::read(spec, findings);
    Workload {
        name: name.name,
        namespace: name.namespace,
        service_account: account.unwrap_or("default").into(),
        labels,
        namespace_labels: super::Labels::new(),
        annotations,
        namespace_annotations: super::Labels::new(),
        node: field::text(spec, "nodeName", findings).map(Into::into),
        host_network: field::flag(spec, "hostNetwork", false, findings),
        netns: None,
        ips,
        ports: containers.ports,
        probes: containers.probes,
    }
}

/// `podIPs`, one a family; clusters before them have `podIP` alone.
fn addresses(status: &Node, findings: &mut Findings) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    addresses.extend(field::address(status, "podIP", findings));
    for item in field::items(status, "podIPs", findings) {
        if let Some(address) = field::address(item, "ip", findings)
            && !addresses.contains(&address)
        {
            addresses.push(address);
        }
    }
    addresses
}
