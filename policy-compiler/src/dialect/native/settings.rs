//! `DialectSettings`: the singleton `cluster`.

use ipnet::IpNet;

use super::metadata::{self, Scope};
use super::peer::network;
use crate::diagnostic::{Code, Told};
use crate::dialect::Refused;
use crate::model::{Expr, Stack, Tier};
use crate::settings::{
    AllowLocalhost, Compatibility, IstioEnforcementPoint, IstioPathNormalization, LinkerdAccess, MinimumProof, Probes,
    Settings,
};
use crate::source::fields::{integer, text, texts, word};
use crate::source::{Document, Fields, Findings, Node, Value};

/// What came of the settings.
#[derive(Debug, Default)]
pub(in crate::dialect) struct Outcome {
    /// The settings, where there is a document without an error.
    pub(in crate::dialect) settings: Option<Settings>,
    pub(in crate::dialect) refused: Vec<Refused>,
    pub(in crate::dialect) diagnostics: Told,
}

/// Reads every document of the kind; there may be one.
pub(in crate::dialect) fn compile(documents: &[&Document]) -> Outcome {
    let mut outcome = Outcome::default();
    let singletons = documents.iter().filter(|document| document.name == SINGLETON).count();
    for document in documents {
        let mut findings = Findings::of(document);
        let settings = (!document.broken).then(|| read(document, &mut findings)).flatten();
        match settings {
            Some(settings) if !findings.has_errors() && singletons == 1 => outcome.settings = Some(settings),
            // Who is inside, and which proof is asked for, is unknown: everything is closed.
            _ => outcome.refused.push(Refused::closing(document, Stack::Native, Tier::Admin, Some(Expr::True))),
        }
        outcome.diagnostics.extend(findings.into_diagnostics());
    }
    outcome
}

fn read(document: &Document, findings: &mut Findings) -> Option<Settings> {
    let spec = metadata::spec(document, Scope::Cluster, findings)?;
    if document.name != SINGLETON && !document.name.is_empty() {
        let node = document.root.get("metadata").and_then(|metadata| metadata.get("name")).unwrap_or(&document.root);
        let message = format!("settings must be called `{SINGLETON}`, found `{}`", document.name);
        findings.report_with(Code::NotSingleton, node.span, message, format!("write `name: {SINGLETON}`"));
    }
    let mut settings = Settings::default();
    let mut fields = Fields::of(spec, "`spec`", findings)?;
    for (name, read) in SECTIONS {
        if let Some(node) = fields.optional(name, findings)
            && let Some(mut section) = Fields::of(node, &format!("`{name}`"), findings)
        {
            read(&mut section, &mut settings, findings);
            section.finish(findings);
        }
    }
    fields.finish(findings);
    Some(settings)
}

type ReadSection = fn(&mut Fields<'_>, &mut Settings, &mut Findings);

const SECTIONS: &[(&str, ReadSection)] = &[
    ("cluster", cluster),
    ("native", native),
    ("networkPolicy", network_policy),
    ("cilium", cilium),
    ("istio", istio),
    ("linkerd", linkerd),
];

fn cluster(fields: &mut Fields<'_>, settings: &mut Settings, findings: &mut Findings) {
    if let Some(node) = fields.optional("networks", findings) {
        settings.networks = networks(node, "`networks`", findings);
    }
    if let Some(node) = fields.optional("nodeNetworks", findings) {
        settings.node_networks = networks(node, "`nodeNetworks`", findings);
    }
    if let Some(domain) = domain(fields, "trustDomain", findings) {
        settings.trust_domain = domain;
    }
    if let Some(domain) = domain(fields, "dnsDomain", findings) {
        settings.dns_domain = domain;
    }
}

fn native(fields: &mut Fields<'_>, settings: &mut Settings, findings: &mut Findings) {
    choose(fields, "probes", &[("Allow", Probes::Allow), ("Policy", Probes::Policy)], &mut settings.probes, findings);
    let words = [("Address", MinimumProof::Address), ("MutualTLS", MinimumProof::MutualTls)];
    choose(fields, "minimumProof", &words, &mut settings.minimum_proof, findings);
}

/// There is one way to join yet: NetworkPolicy and Cilium's policies are one stack.
fn network_policy(fields: &mut Fields<'_>, _: &mut Settings, findings: &mut Findings) {
    choose(fields, "joinedWith", &[("Cilium", ())], &mut (), findings);
}

fn cilium(fields: &mut Fields<'_>, settings: &mut Settings, findings: &mut Findings) {
    let cilium = &mut settings.cilium;
    let words =
        [("Auto", AllowLocalhost::Auto), ("Always", AllowLocalhost::Always), ("Policy", AllowLocalhost::Policy)];
    choose(fields, "allowLocalhost", &words, &mut cilium.allow_localhost, findings);
    choose(fields, "compatibility", COMPATIBILITY, &mut cilium.compatibility, findings);
}

fn istio(fields: &mut Fields<'_>, settings: &mut Settings, findings: &mut Findings) {
    let istio = &mut settings.istio;
    if let Some(namespace) = named(fields, "rootNamespace", findings) {
        istio.root_namespace = namespace;
    }
    istio.trust_domain = domain(fields, "trustDomain", findings);
    if let Some(node) = fields.optional("trustDomainAliases", findings) {
        let aliases = texts(node, "`trustDomainAliases`", findings).unwrap_or_default();
        istio.trust_domain_aliases = aliases.into_iter().map(|(alias, _)| alias.to_owned()).collect();
    }
    let points = [
        ("Sidecar", IstioEnforcementPoint::Sidecar),
        ("Waypoint", IstioEnforcementPoint::Waypoint),
        ("Ztunnel", IstioEnforcementPoint::Ztunnel),
    ];
    choose(fields, "enforcementPoint", &points, &mut istio.enforcement_point, findings);
    let normalizations = [
        ("None", IstioPathNormalization::None),
        ("Base", IstioPathNormalization::Base),
        ("MergeSlashes", IstioPathNormalization::MergeSlashes),
        ("DecodeAndMergeSlashes", IstioPathNormalization::DecodeAndMergeSlashes),
    ];
    choose(fields, "pathNormalization", &normalizations, &mut istio.path_normalization, findings);
    if let Some(node) = fields.optional("trustedProxies", findings)
        && let Some(number) = integer(node, "`trustedProxies`", 0..=64, findings)
    {
        istio.trusted_proxies = number;
    }
    choose(fields, "compatibility", COMPATIBILITY, &mut istio.compatibility, findings);
}

fn linkerd(fields: &mut Fields<'_>, settings: &mut Settings, findings: &mut Findings) {
    let linkerd = &mut settings.linkerd;
    linkerd.is_written = true;
    if let Some(namespace) = named(fields, "controlPlaneNamespace", findings) {
        linkerd.control_plane_namespace = namespace;
    }
    linkerd.trust_domain = domain(fields, "trustDomain", findings);
    choose(fields, "defaultInboundPolicy", &LinkerdAccess::WORDS, &mut linkerd.default_inbound_policy, findings);
    if let Some(node) = fields.optional("clusterNetworks", findings) {
        linkerd.cluster_networks = Some(networks(node, "`clusterNetworks`", findings));
    }
    if let Some(node) = fields.optional("probeNetworks", findings) {
        linkerd.probe_networks = networks(node, "`probeNetworks`", findings);
    }
    choose(fields, "compatibility", COMPATIBILITY, &mut linkerd.compatibility, findings);
}

fn choose<T: Copy>(
    fields: &mut Fields<'_>,
    name: &'static str,
    words: &[(&'static str, T)],
    into: &mut T,
    findings: &mut Findings,
) {
    if let Some(node) = fields.optional(name, findings)
        && let Some(value) = word(node, &format!("`{name}`"), words, findings)
    {
        *into = value;
    }
}

fn named(fields: &mut Fields<'_>, name: &'static str, findings: &mut Findings) -> Option<String> {
    let node = fields.optional(name, findings)?;
    super::name::object(node, &format!("`{name}`"), findings).map(str::to_owned)
}

fn domain(fields: &mut Fields<'_>, name: &'static str, findings: &mut Findings) -> Option<String> {
    let node = fields.optional(name, findings)?;
    let written = text(node, &format!("`{name}`"), findings)?;
    if written.starts_with("spiffe:") || written.contains('/') {
        let help = "write the domain alone, such as `cluster.local`";
        findings.report_with(Code::BadValue, node.span, format!("`{written}` is no domain"), help);
        return None;
    }
    super::name::object(node, &format!("`{name}`"), findings).map(str::to_owned)
}

fn networks(node: &Node, what: &str, findings: &mut Findings) -> Vec<IpNet> {
    if matches!(&node.value, Value::List(items) if items.is_empty()) {
        let help = "write the networks of the cluster, or leave the field out for the default";
        findings.report_with(Code::EmptyList, node.span, format!("{what} is an empty list"), help);
        return Vec::new();
    }
    let mut networks = Vec::new();
    for (written, span) in texts(node, what, findings).unwrap_or_default() {
        match network(written) {
            Ok(net) => networks.push(net),
            Err(help) => findings.report_with(Code::BadValue, span, format!("`{written}` is no network"), help),
        }
    }
    networks
}

const SINGLETON: &str = "cluster";
const COMPATIBILITY: &[(&str, Compatibility)] =
    &[("Exact", Compatibility::Exact), ("Hardened", Compatibility::Hardened)];
