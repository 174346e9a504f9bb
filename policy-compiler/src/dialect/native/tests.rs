//! `PolicyTest`: flows with the verdicts that their author expects.

use super::context::Context;
use super::metadata::{self, Scope};
use super::rule::timestamp;
use crate::analysis::test::{Case, PolicyTest};
use crate::diagnostic::{Code, Told};
use crate::dialect::{Refused, name_of};
use crate::registry::load::entries_of;
use crate::settings::Settings;
use crate::source::fields::{list, text, word};
use crate::source::{Document, Fields, Findings, Node, Value};
use crate::verdict::Action;

/// What came of the tests.
#[derive(Debug, Default)]
pub(in crate::dialect) struct Outcome {
    pub(in crate::dialect) tests: Vec<PolicyTest>,
    pub(in crate::dialect) refused: Vec<Refused>,
    pub(in crate::dialect) diagnostics: Told,
}

/// Reads every document of the kind. A test never acts: a broken one closes nothing.
pub(in crate::dialect) fn compile(documents: &[&Document]) -> Outcome {
    let mut outcome = Outcome::default();
    let settings = Settings::default();
    for document in documents {
        let namespace = Some(document.namespace.as_str().into());
        let mut context =
            Context { findings: Findings::of(document), settings: &settings, namespace, mentions: Vec::new() };
        let test = (!document.broken).then(|| read(document, &mut context)).flatten();
        match test {
            Some(test) if !context.findings.has_errors() => outcome.tests.push(test),
            _ => outcome.refused.push(Refused::harmless(document)),
        }
        outcome.diagnostics.extend(context.findings.into_diagnostics());
    }
    outcome
}

fn read(document: &Document, context: &mut Context<'_>) -> Option<PolicyTest> {
    let spec = metadata::spec(document, Scope::Namespaced, &mut context.findings)?;
    let mut fields = Fields::of(spec, "`spec`", &mut context.findings)?;
    let now = fields.optional("now", &mut context.findings).and_then(|node| timestamp(node, "`now`", context));
    let registry = fields.optional("workloads", &mut context.findings).map(|node| {
        let entries: Vec<&Node> = list(node, "`workloads`", &mut context.findings).unwrap_or_default().iter().collect();
        entries_of(&entries, &mut context.findings)
    });
    let cases = fields.required("cases", &mut context.findings);
    let cases = cases.and_then(|node| list(node, "`cases`", &mut context.findings)).unwrap_or_default();
    fields.finish(&mut context.findings);
    let cases = cases.iter().enumerate().filter_map(|(index, node)| case(node, index, &mut context.findings)).collect();
    Some(PolicyTest { name: name_of(document), location: document.location.clone(), now, registry, cases })
}

fn case(node: &Node, index: usize, findings: &mut Findings) -> Option<Case> {
    let mut fields = Fields::of(node, "an item of `cases`", findings)?;
    let name = fields.optional("name", findings).and_then(|node| text(node, "`name`", findings));
    let words = [("allow", Action::Allow), ("deny", Action::Deny), ("reject", Action::Reject)];
    let expect = fields.required("expect", findings).and_then(|node| word(node, "`expect`", &words, findings));
    let rule = fields.optional("rule", findings).and_then(|node| text(node, "`rule`", findings));
    fields.required("dst", findings);
    fields.accept(&REQUEST.map(|(name, _)| name));
    let span = fields.span();
    fields.finish(findings);
    let (source, destination) = (SOURCE.map(|(name, _)| name), DESTINATION.map(|(name, _)| name));
    for (name, members) in [("src", source.as_slice()), ("dst", destination.as_slice())] {
        if let Some(node) = node.get(name)
            && let Some(mut fields) = Fields::of(node, &format!("`{name}`"), findings)
        {
            fields.accept(members);
            fields.finish(findings);
        }
    }
    let Value::Map(entries) = &node.value else { return None };
    let request = entries
        .iter()
        .filter(|(key, _)| !matches!(&*key.text, "name" | "expect" | "rule"))
        .map(|(key, node)| (key.text.to_string(), node.to_json()))
        .collect();
    if entries.is_empty() {
        findings.report(Code::MissingField, span, "an item of `cases` is empty");
    }
    Some(Case {
        name: name.map_or_else(|| format!("cases[{index}]"), str::to_owned),
        location: findings.location(span),
        request: serde_json::Value::Object(request),
        expect: expect?,
        rule: rule.map(str::to_owned),
    })
}

/// The members of a `decide` request, and what they are for.
pub(super) const REQUEST: [(&str, &str); 17] = [
    ("id", "echoed"),
    ("now", "seconds since the epoch; wins over `now` of the test"),
    ("src", "who asks"),
    ("direction", "`inbound` or `outbound`: the side to judge; both where left out"),
    ("transport", "`tcp`, `udp` or `sctp`"),
    ("protocol", "`http`, `http2`, `grpc`, `tls`, `tcp`, `udp`, `sctp` or `dns`"),
    ("method", "of the request"),
    ("path", "of the request, without its query"),
    ("query", "of the request, without `?`"),
    ("host", "authority of the request, with its port where it has one"),
    ("headers", "pairs of name and value"),
    ("sni", "server name of the ClientHello"),
    ("alpn", "protocol of the ClientHello"),
    ("tls", "whether the proxy terminates TLS"),
    ("jwt", "claims of a token that is already accepted"),
    ("remoteIp", "the client behind trusted proxies"),
    ("qname", "the DNS name that is asked for"),
];
pub(super) const SOURCE: [(&str, &str); 3] = [
    ("ip", "its address, by which the registry knows it"),
    ("workload", "`namespace/name`"),
    ("principal", "the identity that mutual TLS proves"),
];
pub(super) const DESTINATION: [(&str, &str); 5] = [
    ("ip", "its address, by which the registry knows it"),
    ("workload", "`namespace/name`"),
    ("port", "the port that is dialled"),
    ("service", "`namespace/name`"),
    ("fqdn", "the DNS name that was resolved to the address"),
];
