//! `HTTPRoute` and `GRPCRoute` with a `Server` as parent. Routes of gateways and Services are no policy here.

use super::super::members::{self, Members};
use super::matching::{self, Match};
use super::rank::HostRank;
use super::{GROUP, GRPC_ROUTE, SERVER, namespace_of};
use crate::diagnostic::Code;
use crate::model::Expr;
use crate::source::{Document, Findings, Node, Value};

/// One document, read.
pub(super) struct Route<'d> {
    pub(super) document: &'d Document,
    /// Names of `Server`s in its namespace.
    pub(super) servers: Vec<String>,
    /// Empty: every host.
    pub(super) hosts: Vec<(HostRank, Expr)>,
    /// The matches of each rule.
    pub(super) rules: Vec<Vec<Match>>,
}

impl Route<'_> {
    pub(super) fn group(&self) -> &str {
        self.document.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    pub(super) fn is_grpc(&self) -> bool {
        self.document.kind == GRPC_ROUTE
    }
}

/// Whether a reference is one to a `Server`.
fn is_server(node: &Node) -> bool {
    let text = |name: &str| node.get(name).and_then(Node::text);
    text("kind") == Some(SERVER) && text("group") == Some(GROUP)
}

fn parents(document: &Document) -> Option<&[Node]> {
    match document.root.get("spec").and_then(|spec| spec.get("parentRefs")).map(|node| &node.value) {
        Some(Value::List(items)) => Some(items),
        None | Some(Value::Null) => Some(&[]),
        Some(_) => None,
    }
}

/// The `Server`s that a refused route names, if that can be read.
pub(super) fn servers_of(document: &Document) -> Option<Vec<String>> {
    let servers = parents(document)?.iter().filter(|node| is_server(node));
    servers.map(|node| Some(node.get("name")?.text()?.to_owned())).collect()
}

/// Reads one document; `None` after an error, and for a route that has no `Server` as parent.
pub(super) fn read<'d>(document: &'d Document, findings: &mut Findings) -> Option<Route<'d>> {
    if parents(document).is_some_and(|parents| !parents.iter().any(is_server)) {
        let kind = &document.kind;
        let message = format!("this `{kind}` has no `Server` as parent: it is no policy and is passed over");
        findings.report(Code::PassedOver, document.root.span, message);
        return None;
    }
    let mut spec = super::authentication::spec(document, findings)?;
    let parents = spec.list("parentRefs", findings).unwrap_or_default();
    let hosts = spec.list("hostnames", findings).unwrap_or_default();
    let rules = spec.list("rules", findings);
    spec.accept(&["useDefaultGateways"]);
    spec.finish(findings);
    let servers = parents.iter().filter(|node| is_server(node)).filter_map(|node| parent(node, document, findings));
    let servers = servers.collect();
    let hosts = hosts.iter().filter_map(|node| matching::host(node, findings)).collect();
    let is_grpc = document.kind == GRPC_ROUTE;
    let rules = match rules {
        Some(rules) => rules.iter().filter_map(|node| rule(node, is_grpc, findings)).collect(),
        // The API's default is one rule for everything.
        None => vec![vec![everything(is_grpc)]],
    };
    Some(Route { document, servers, hosts, rules })
}

fn everything(is_grpc: bool) -> Match {
    if is_grpc { matching::every_rpc() } else { matching::everything() }
}

fn parent(node: &Node, document: &Document, findings: &mut Findings) -> Option<String> {
    let mut fields = Members::of(node, "an item of `parentRefs`", findings)?;
    fields.accept(&["group", "kind"]);
    let name = fields.require("name", findings);
    let namespace = members::text(fields.find("namespace"), "namespace", findings);
    for narrower in ["port", "sectionName"] {
        fields.refuse(narrower, "a `Server` is one port already", "remove it", findings);
    }
    fields.finish(findings);
    if let Some((_, span)) = namespace.filter(|(namespace, _)| *namespace != namespace_of(document)) {
        let message = "a route belongs to `Server`s of its own namespace";
        findings.report_with(Code::OutsideNamespace, span, message, "move the route beside the `Server`");
        return None;
    }
    members::text(name, "name", findings).map(|(name, _)| name.to_owned())
}

fn rule(node: &Node, is_grpc: bool, findings: &mut Findings) -> Option<Vec<Match>> {
    let mut fields = Members::of(node, "an item of `rules`", findings)?;
    let matches = fields.list("matches", findings).unwrap_or_default();
    if fields.list("filters", findings).is_some_and(|filters| !filters.is_empty()) {
        let message = "`filters` of a route of a `Server` are not supported: Eastwall changes no request";
        let help = "remove them, or let the workload do it";
        findings.report_with(Code::NotSupported, fields.place("filters"), message, help);
    }
    // Where a request goes and how long it may take says nothing about who may send it.
    fields.accept(&["name", "backendRefs", "timeouts", "retry", "sessionPersistence"]);
    fields.finish(findings);
    if matches.is_empty() {
        return Some(vec![everything(is_grpc)]);
    }
    let read = |node| if is_grpc { matching::grpc(node, findings) } else { matching::http(node, findings) };
    Some(matches.iter().filter_map(read).collect())
}
