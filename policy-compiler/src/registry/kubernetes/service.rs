//! Services, and the EndpointSlices that say who is behind them.

use std::sync::Arc;

use super::field::{self, Name};
use super::{Endpoint, Exposed, Place, Slice, container};
use crate::diagnostic::Code;
use crate::registry::load::application_protocol;
use crate::registry::{ApplicationProtocol, Labels, Service, ServicePort, TargetPort};
use crate::source::{Document, Findings, Node, Value};

/// A Service. One of type `ExternalName` is a name in DNS: it has neither an address nor endpoints.
pub(super) fn read(document: &Document, name: Name, findings: &mut Findings) -> Option<Exposed> {
    let spec = field::mapping(&document.root, "spec", findings)?;
    let is_alias = field::text(spec, "type", findings) == Some("ExternalName");
    let mut ips = Vec::new();
    if !is_alias {
        let first = field::text(spec, "clusterIP", findings).map(|first| (spec, first));
        let all = field::items(spec, "clusterIPs", findings).iter();
        for (node, written) in first.into_iter().chain(all.filter_map(|item| Some((item, item.text()?)))) {
            // A headless Service has no address of its own.
            if written != "None"
                && !written.is_empty()
                && let Some(address) = field::as_address(node, written, findings)
                && !ips.contains(&address)
            {
                ips.push(address);
            }
        }
    }
    let mut ports = Vec::new();
    let mut applications = Vec::new();
    for item in field::items(spec, "ports", findings) {
        let Some((port, application)) = port(item, findings) else { continue };
        ports.push(port);
        applications.push(application);
    }
    let selector = if is_alias { Labels::new() } else { field::labels(spec, "selector", findings) };
    let service = Service {
        name: name.name,
        namespace: name.namespace,
        ips,
        ports,
        endpoints: Vec::new(),
        elsewhere: Vec::new(),
    };
    Some(Exposed { service, selector, applications, place: Place::of(document) })
}

fn port(node: &Node, findings: &mut Findings) -> Option<(ServicePort, Option<ApplicationProtocol>)> {
    let number = field::port(node, "port", findings);
    if number.is_none() && field::member(node, "port").is_none() {
        findings.report(Code::MissingField, node.span, "`port` is missing");
    }
    let name: Option<Arc<str>> = field::text(node, "name", findings).map(Into::into);
    let target = match field::member(node, "targetPort").map(|node| &node.value) {
        Some(Value::Text(name)) => {
            Some(name.parse().map_or_else(|_| TargetPort::Name(Arc::from(&**name)), TargetPort::Number))
        }
        // Some clients write 0 for none.
        Some(Value::Number(zero)) if &**zero == "0" => None,
        Some(_) => Some(TargetPort::Number(field::port(node, "targetPort", findings)?)),
        None => None,
    };
    let transport = container::transport(node, findings)?;
    let application = field::text(node, "appProtocol", findings).and_then(application_protocol);
    let port = number?;
    Some((ServicePort { name, port, target: target.unwrap_or(TargetPort::Number(port)), transport }, application))
}

/// The ready endpoints of one slice; nothing for a slice that is of no Service.
pub(super) fn slice(document: &Document, name: &Name, findings: &mut Findings) -> Option<Slice> {
    let root = &document.root;
    let metadata = field::mapping(root, "metadata", findings)?;
    let labels = field::labels(metadata, "labels", findings);
    let service = labels.get("kubernetes.io/service-name")?;
    let is_named = field::text(root, "addressType", findings) == Some("FQDN");
    let mut endpoints = Vec::new();
    for item in field::items(root, "endpoints", findings) {
        // SPEC: a condition that is not there is taken for ready.
        let conditions = field::mapping(item, "conditions", findings);
        let is_ready = conditions.is_none_or(|conditions| field::flag(conditions, "ready", true, findings));
        if is_named || !is_ready {
            continue;
        }
        let addresses = field::items(item, "addresses", findings).iter();
        let addresses =
            addresses.filter_map(|item| item.text().and_then(|text| field::as_address(item, text, findings))).collect();
        endpoints.push(Endpoint { pod: pod(item, &name.namespace, findings), addresses });
    }
    let ports = field::items(root, "ports", findings).iter().filter_map(|item| {
        let name = field::text(item, "name", findings).map(Into::into);
        Some((name, field::port(item, "port", findings)?))
    });
    let ports = ports.collect();
    Some(Slice { namespace: Arc::clone(&name.namespace), service: Arc::clone(service), endpoints, ports })
}

fn pod(endpoint: &Node, namespace: &Arc<str>, findings: &mut Findings) -> Option<(Arc<str>, Arc<str>)> {
    let target = field::mapping(endpoint, "targetRef", findings)?;
    if field::text(target, "kind", findings) != Some("Pod") {
        return None;
    }
    let name = field::text(target, "name", findings)?;
    let namespace = field::text(target, "namespace", findings).map_or_else(|| Arc::clone(namespace), Into::into);
    Some((namespace, name.into()))
}
