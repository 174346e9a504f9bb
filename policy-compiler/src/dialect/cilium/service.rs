//! `toServices`: the endpoints of Services, or a Service's own address.

use super::context::Context;
use super::members::{Members, items, text};
use crate::diagnostic::Code;
use crate::model::{Expr, PeerAtom, Selector};
use crate::source::Node;

/// Any of a list of Services.
pub(super) fn list(node: &Node, name: &str, context: &mut Context<'_>) -> Option<Expr> {
    let items = items(node, name, context.findings)?;
    let any: Vec<Option<Expr>> = items.iter().map(|item| member(item, name, context)).collect();
    Some(Expr::any(any.into_iter().collect::<Option<Vec<_>>>()?))
}

fn member(node: &Node, list: &str, context: &mut Context<'_>) -> Option<Expr> {
    let before = context.findings.errors();
    let mut members = Members::of(node, &format!("an item of `{list}`"), context.findings)?;
    members.refuse(
        "k8sServiceSelector",
        "the registry knows no labels of Services",
        "name the Service with `k8sService`, or select its pods with `toEndpoints`",
        context.findings,
    );
    let reference = members.find("k8sService");
    if reference.is_none() && context.findings.errors() == before {
        members.require("k8sService", context.findings);
    }
    members.finish(context.findings);
    let mut service = Members::of(reference?, "`k8sService`", context.findings)?;
    let name = text(service.find("serviceName"), "serviceName", context.findings);
    let namespace = text(service.find("namespace"), "namespace", context.findings);
    let place = service.place("serviceName");
    service.finish(context.findings);
    let Some((name, _)) = name else {
        let help = "write the name of the Service";
        context.findings.report_with(Code::MissingField, place, "`serviceName` is missing", help);
        return None;
    };
    (context.findings.errors() == before).then(|| {
        context.of(match namespace {
            Some((namespace, _)) => PeerAtom::Service { namespace: namespace.into(), name: name.into() },
            // SPEC: without a namespace, every Service of the name.
            None => PeerAtom::ServiceNamed { name: name.into(), namespaces: Selector::default() },
        })
    })
}
