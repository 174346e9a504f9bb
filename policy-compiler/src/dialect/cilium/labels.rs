//! Label selectors of Cilium: labels have a source, and some stand for what Kubernetes says elsewhere.
//!
//! SPEC: a key without a source is of any. A selector of a namespaced policy that names neither a namespace nor labels
//! of one is about the policy's own; in a cluster-wide policy it is about every pod. Labels that are missing satisfy
//! `NotIn`, also those of a peer that is no pod.

use super::context::{Context, Role};
use super::entity;
use super::members::{Members, items};
use crate::diagnostic::Code;
use crate::model::{Expr, PeerAtom, Selector, SelectorOperator, SelectorRequirement};
use crate::source::{Findings, Node, Span, Value, fields};

/// What a label key asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Key {
    Namespace,
    NamespaceLabel(String),
    ServiceAccount,
    Cluster,
    Reserved(String),
    Pod(String),
}

/// One requirement, read.
struct Requirement {
    span: Span,
    written: String,
    key: Key,
    operator: SelectorOperator,
    values: Vec<String>,
    is_label: bool,
}

/// Reads a selector into a condition about the end that `context.role` names.
pub(super) fn read(node: &Node, what: &str, context: &mut Context<'_>) -> Option<Expr> {
    let before = context.findings.errors();
    let mut members = Members::of(node, what, context.findings)?;
    let mut found = Vec::new();
    let is_hollow = members.has("matchLabels") && members.find("matchLabels").is_none();
    let place = members.place("matchLabels");
    if let Some(labels) = members.find("matchLabels") {
        let Value::Map(entries) = &labels.value else {
            Members::of(labels, "`matchLabels`", context.findings);
            return None;
        };
        for (key, value) in entries {
            // SPEC: a label may have an empty value.
            let value = match &value.value {
                Value::Text(value) if value.is_empty() => "",
                Value::Null => "",
                _ => fields::text(value, &format!("label `{}`", key.text), context.findings)?,
            };
            let key_of = key_of(&key.text, key.span, context.findings)?;
            found.push(Requirement {
                span: key.span,
                written: key.text.to_string(),
                key: key_of,
                operator: SelectorOperator::In,
                values: vec![value.to_owned()],
                is_label: true,
            });
        }
    }
    for item in members.list("matchExpressions", context.findings).unwrap_or_default() {
        found.extend(expression(item, context.findings));
    }
    members.finish(context.findings);
    if is_hollow && found.is_empty() {
        context.findings.report_with(
            Code::Suspicious,
            place,
            "`matchLabels` has no value: the selector selects everybody",
            "indent the labels under `matchLabels`, or write `{}`",
        );
    }
    if context.findings.errors() != before {
        return None;
    }
    condition(found, context)
}

fn condition(mut found: Vec<Requirement>, context: &mut Context<'_>) -> Option<Expr> {
    if context.role == Role::Subject
        && let Some(own) = context.namespace.clone()
    {
        foreign_namespaces(&mut found, &own, context);
    }
    let has = |wanted: fn(&Key) -> bool| found.iter().any(|one| wanted(&one.key));
    let is_reserved = has(|key| matches!(key, Key::Reserved(_)));
    let names_namespace = has(|key| *key == Key::Namespace);
    let labels_of_namespace = has(|key| matches!(key, Key::NamespaceLabel(_)));
    let scope = match (&context.namespace, context.role) {
        (Some(own), Role::Subject) => Some(PeerAtom::Namespace(own.clone())),
        (None, Role::Subject) => None,
        _ if is_reserved || names_namespace => None,
        (Some(_), Role::Peer) if labels_of_namespace => None,
        (Some(own), Role::Peer) => Some(PeerAtom::Namespace(own.clone())),
        (None, Role::Peer) => Some(PeerAtom::Workload),
    };
    let positive = |one: &Requirement| matches!(one.operator, SelectorOperator::In | SelectorOperator::Exists);
    // A pod is meant: what is none cannot match, whatever labels it lacks.
    let is_pod = context.role == Role::Subject
        || scope.is_some()
        || found.iter().any(|one| positive(one) && !matches!(one.key, Key::Reserved(_)));
    if !is_pod && !is_reserved {
        context.findings.report_with(
            Code::Suspicious,
            found.first().map_or(Span::default(), |one| one.span),
            "a selector of what labels are missing matches peers that are no pods as well, such as the world",
            "add `{key: io.kubernetes.pod.namespace, operator: Exists}`",
        );
    }
    let mut parts: Vec<Expr> = scope.iter().cloned().map(|atom| context.of(atom)).collect();
    let mut of_pod = Vec::new();
    for one in found {
        match (&one.key, is_pod) {
            (Key::Pod(key), true) => of_pod.push(requirement(key, one.operator, &one.values)),
            _ => parts.push(single(&one, context)?),
        }
    }
    if !of_pod.is_empty() {
        parts.push(context.of(PeerAtom::Labels(Selector { requirements: of_pod })));
    } else if context.role == Role::Peer && scope.is_some() {
        // Proven from elsewhere is not an endpoint here.
        parts.push(context.of(PeerAtom::Workload));
    }
    parts.dedup();
    Some(Expr::all(parts))
}

/// SPEC: the endpoints of a namespaced policy are those of its namespace, whatever its selector says.
fn foreign_namespaces(found: &mut Vec<Requirement>, own: &str, context: &mut Context<'_>) {
    for one in found.iter().filter(|one| one.key == Key::Namespace && one.is_label) {
        if one.values.iter().any(|value| value != own) {
            context.findings.report_with(
                Code::Suspicious,
                one.span,
                format!("`endpointSelector` of a policy of namespace `{own}` cannot select another namespace"),
                "move the policy, or write a CiliumClusterwideNetworkPolicy",
            );
        }
    }
    found.retain(|one| !(one.is_label && one.key == Key::Namespace && one.written.starts_with("k8s:")));
}

/// One requirement that is not about a pod's own labels, or about those of a peer that may be no pod.
fn single(one: &Requirement, context: &mut Context<'_>) -> Option<Expr> {
    let exists = matches!(one.operator, SelectorOperator::Exists | SelectorOperator::DoesNotExist);
    let any = |context: &Context<'_>, atom: fn(std::sync::Arc<str>) -> PeerAtom| {
        Expr::any(one.values.iter().map(|value| context.of(atom(value.as_str().into()))))
    };
    let held = match &one.key {
        Key::Namespace | Key::ServiceAccount | Key::Cluster if exists => context.of(PeerAtom::Workload),
        Key::Namespace => any(context, PeerAtom::Namespace),
        Key::ServiceAccount => any(context, PeerAtom::ServiceAccount),
        Key::Cluster => {
            if let Some(other) = one.values.iter().find(|value| *value != CLUSTER_NAME) {
                context.findings.report_with(
                    Code::NotSupported,
                    one.span,
                    format!("cluster `{other}` is not supported: Eastwall knows one cluster, `{CLUSTER_NAME}`"),
                    "remove the label: peers are of this cluster",
                );
                return None;
            }
            context.of(PeerAtom::Workload)
        }
        Key::Reserved(name) => {
            let is_it = exists || one.values.iter().any(String::is_empty);
            if is_it { entity::condition(name, one.span, context)? } else { Expr::False }
        }
        Key::NamespaceLabel(key) => {
            let operator = if exists { SelectorOperator::Exists } else { SelectorOperator::In };
            context
                .of(PeerAtom::NamespaceLabels(Selector { requirements: vec![requirement(key, operator, &one.values)] }))
        }
        Key::Pod(key) => {
            let operator = if exists { SelectorOperator::Exists } else { SelectorOperator::In };
            context.of(PeerAtom::Labels(Selector { requirements: vec![requirement(key, operator, &one.values)] }))
        }
    };
    Some(match one.operator {
        SelectorOperator::In | SelectorOperator::Exists => held,
        SelectorOperator::NotIn | SelectorOperator::DoesNotExist => !held,
    })
}

fn requirement(key: &str, operator: SelectorOperator, values: &[String]) -> SelectorRequirement {
    SelectorRequirement {
        key: key.into(),
        operator,
        values: values.iter().map(|value| value.as_str().into()).collect(),
    }
}

fn expression(node: &Node, findings: &mut Findings) -> Option<Requirement> {
    let mut members = Members::of(node, "an item of `matchExpressions`", findings)?;
    let key = members.require("key", findings);
    let operator = members.require("operator", findings);
    let values = members.find("values");
    members.finish(findings);
    let (key, operator) = (key?, operator?);
    let written = fields::text(key, "`key`", findings)?;
    let key_of = key_of(written, key.span, findings)?;
    let word = fields::text(operator, "`operator`", findings)?;
    let operator_of = match OPERATORS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)) {
        Some((name, found)) => {
            if *name != word {
                let message = format!("operator `{word}` is read as `{name}`; Kubernetes itself refuses it");
                findings.report_with(Code::Suspicious, operator.span, message, format!("write `{name}`"));
            }
            *found
        }
        None => fields::word(operator, "`operator`", &OPERATORS, findings)?,
    };
    let values: Vec<String> = match values {
        Some(list) => items(list, "values", findings)?
            .iter()
            .map(|item| match &item.value {
                Value::Text(text) => Some(text.to_string()),
                _ => fields::text(item, "an item of `values`", findings).map(str::to_owned),
            })
            .collect::<Option<_>>()?,
        None => Vec::new(),
    };
    let takes_values = matches!(operator_of, SelectorOperator::In | SelectorOperator::NotIn);
    if takes_values == values.is_empty() {
        let message = if takes_values {
            "`In` and `NotIn` need `values`"
        } else {
            "`Exists` and `DoesNotExist` have no `values`"
        };
        findings.report(if takes_values { Code::MissingField } else { Code::Conflict }, node.span, message);
        return None;
    }
    Some(Requirement {
        span: key.span,
        written: written.to_owned(),
        key: key_of,
        operator: operator_of,
        values,
        is_label: false,
    })
}

fn key_of(written: &str, span: Span, findings: &mut Findings) -> Option<Key> {
    let (source, key) = written.split_once(':').unwrap_or(("any", written));
    let special = |key: &str| match key {
        "io.kubernetes.pod.namespace" => Some(Key::Namespace),
        "io.cilium.k8s.policy.serviceaccount" => Some(Key::ServiceAccount),
        "io.cilium.k8s.policy.cluster" => Some(Key::Cluster),
        _ => key.strip_prefix("io.cilium.k8s.namespace.labels.").map(|label| Key::NamespaceLabel(label.to_owned())),
    };
    match source {
        _ if key.is_empty() => {
            findings.report(Code::BadValue, span, "a label key is empty");
            None
        }
        "k8s" | "any" | "" => {
            if let Some(rest) = key.strip_prefix("k8s.").filter(|rest| special(rest).is_some()) {
                let message = format!("`{written}` is a label that no pod has");
                findings.report_with(Code::Suspicious, span, message, format!("did you mean `k8s:{rest}`?"));
            }
            Some(special(key).unwrap_or_else(|| Key::Pod(key.to_owned())))
        }
        "reserved" => Some(Key::Reserved(key.to_owned())),
        _ => {
            findings.report_with(
                Code::NotSupported,
                span,
                format!("label source `{source}` is not supported: the registry knows labels of Kubernetes alone"),
                "write the label with `k8s:`, `any:`, `reserved:` or without a source",
            );
            None
        }
    }
}

const OPERATORS: [(&str, SelectorOperator); 4] = [
    ("In", SelectorOperator::In),
    ("NotIn", SelectorOperator::NotIn),
    ("Exists", SelectorOperator::Exists),
    ("DoesNotExist", SelectorOperator::DoesNotExist),
];

/// What Cilium calls a cluster that nobody named.
const CLUSTER_NAME: &str = "default";
