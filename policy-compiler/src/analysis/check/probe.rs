//! Probes of pods' own specs that the policies would refuse: a pod that is never ready.

use crate::analysis::exposure::from_anyone;
use crate::diagnostic::{Code, Diagnostic, Location};
use crate::facts::{Connection, Direction, End, Fact, Place, Protocol, Request};
use crate::model::Model;
use crate::model::interpret::request_verdict;
use crate::model::position::Positions;
use crate::registry::{NodeId, Probe, Registry, Workload, WorkloadId};
use crate::verdict::Action;

/// A finding for each declared probe that is refused from the pod's own node.
pub(super) fn refused(model: &Model, registry: &Registry, now: i64) -> Vec<Diagnostic> {
    let positions = Positions::of(model);
    let mut findings = Vec::new();
    for (index, workload) in (0u32..).zip(&registry.workloads) {
        let Some(node) = node_of(workload, registry) else { continue };
        for probe in &workload.probes {
            let connection =
                Connection { source: node, port: probe.port, ..from_anyone(WorkloadId(index), Direction::Inbound) };
            let verdict = request_verdict(model, registry, &connection, &request(probe, now));
            if verdict.action == Action::Allow {
                continue;
            }
            let what = match &probe.path {
                Some(path) => format!("{} {path}", probe.method),
                None => "connect".into(),
            };
            let message = format!(
                "the probe `{what}` on port {} of `{}/{}` is refused: {}",
                probe.port,
                workload.namespace,
                workload.name,
                verdict.reason.in_words()
            );
            let by = verdict.rule.and_then(|id| positions.named(id, model));
            let location = by.map(|rule| rule.location.clone()).unwrap_or_else(|| Location {
                file: "workloads".into(),
                line: 1,
                column: 1,
            });
            let help = "allow it from the node, or the kubelet will never find the pod ready";
            let mut finding = Diagnostic::new(Code::ProbeRefused, location, message).help(help);
            finding.policy = by.map(|rule| rule.policy.to_string());
            findings.push(finding);
        }
    }
    findings
}

/// The node that a workload runs on, as a source; `None` where nobody knows its address.
fn node_of(workload: &Workload, registry: &Registry) -> Option<End<'static>> {
    let name = workload.node.as_ref()?;
    let (id, node) = (0u32..).zip(&registry.nodes).find(|(_, node)| node.name == *name)?;
    let family = |ip: &&std::net::IpAddr| workload.ips.first().is_none_or(|own| own.is_ipv4() == ip.is_ipv4());
    let address = node.ips.iter().find(family).or_else(|| node.ips.first())?;
    Some(End { address: Some(*address), place: Place::Node(Some(NodeId(id))), principal: None })
}

/// The probe as the kubelet sends it.
fn request(probe: &Probe, now: i64) -> Request<'_> {
    let Some(target) = &probe.path else { return Request::opaque(Fact::Known(Protocol::Tcp), now) };
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Fact::Known(query.as_bytes())),
        None => (&**target, Fact::Absent),
    };
    Request { query, ..Request::bare(Protocol::Http, probe.method.as_bytes(), path.as_bytes(), now) }
}
