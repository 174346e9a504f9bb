//! The native dialect, `eastwall.dev/v1alpha1`: the schema and its meaning in the model's terms.
//!
//! Each document is read on its own; afterwards [`link`] looks at what documents say of each other (`replaces`).

use std::sync::Arc;

use super::{Memos, Outcome, Refused};
use crate::diagnostic::Code;
use crate::model::{Policy, PolicyName, Stack};
use crate::settings::Settings;
use crate::source::{Document, Findings, Span};

pub(super) mod break_glass;
mod context;
mod http;
mod metadata;
mod name;
mod options;
mod path;
mod peer;
mod policy;
mod port;
mod protocol;
mod regex;
mod requirement;
mod rule;
pub(super) mod schema;
mod selector;
pub(super) mod settings;
pub(super) mod tests;

/// What is read here.
pub(super) const FRONT_END: super::FrontEnd =
    super::FrontEnd { reads: &[(GROUP, &[VERSION], &[FIREWALL, CLUSTER])], compile };

/// The API group.
pub(super) const GROUP: &str = "eastwall.dev";
/// The version that this compiler reads.
pub(super) const VERSION: &str = "v1alpha1";
/// A namespace's own policy.
pub(super) const FIREWALL: &str = "FirewallPolicy";
/// Admin and baseline policies.
pub(super) const CLUSTER: &str = "ClusterFirewallPolicy";
/// The singleton of settings.
pub(super) const SETTINGS: &str = "DialectSettings";
/// Flows with expected verdicts.
pub(super) const TEST: &str = "PolicyTest";
/// Emergencies.
pub(super) const BREAK_GLASS: &str = "BreakGlass";
/// Every kind of the group.
pub(super) const KINDS: &[&str] = &[FIREWALL, CLUSTER, TEST, SETTINGS, BREAK_GLASS];

/// Reads all `FirewallPolicy` and `ClusterFirewallPolicy` documents.
fn compile(documents: &[&Document], settings: &Settings, memos: &mut Memos) -> Outcome {
    let mut outcome = Outcome::default();
    let read: Vec<(&Document, Arc<Read>)> = documents
        .iter()
        .map(|document| (*document, memos.native.of(document, || policy::read(document, settings))))
        .collect();
    let known: hashbrown::HashMap<PolicyName, Option<crate::model::Tier>, foldhash::fast::RandomState> =
        read.iter().map(|(document, read)| (super::name_of(document), read.policy.as_ref().map(|p| p.tier))).collect();
    for (document, read) in read {
        let mut findings = read.findings.clone();
        if let Some(policy) = &read.policy {
            link(policy, &read.replaces, &known, &mut findings);
        }
        match &read.policy {
            Some(policy) if !findings.has_errors() && !document.broken => {
                outcome.policies.push(Arc::clone(policy));
                outcome.mentions.extend(read.mentions.iter().cloned());
            }
            _ => outcome.refused.push(read.refusal.clone()),
        }
        outcome.diagnostics.extend(findings.into_diagnostics());
    }
    outcome
}

/// What `replaces` names must exist, and be of the same tier.
fn link(
    policy: &Policy,
    replaces: &[(PolicyName, Span)],
    known: &hashbrown::HashMap<PolicyName, Option<crate::model::Tier>, foldhash::fast::RandomState>,
    findings: &mut Findings,
) {
    for (name, span) in replaces {
        match known.get(name) {
            None => {
                let names: Vec<&str> = known
                    .keys()
                    .filter(|other| other.kind == name.kind && other.namespace == name.namespace)
                    .map(|other| &*other.name)
                    .collect();
                let help = match crate::source::fields::nearest(&name.name, &names) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "`replaces` names policies of the same kind and namespace that are among the same files"
                        .to_owned(),
                };
                findings.report_with(Code::DanglingReplaces, *span, format!("there is no `{name}` to replace"), help);
            }
            Some(Some(tier)) if *tier != policy.tier => findings.report_with(
                Code::DanglingReplaces,
                *span,
                format!("`{name}` is of another tier"),
                "a policy replaces policies of its own tier",
            ),
            Some(_) if *name == policy.name => {
                findings.report(Code::Conflict, *span, "a policy cannot replace itself");
            }
            Some(_) => {}
        }
    }
}

/// One document, read as far as it goes.
#[derive(Debug)]
pub(super) struct Read {
    policy: Option<Arc<Policy>>,
    replaces: Vec<(PolicyName, Span)>,
    findings: Findings,
    mentions: Vec<Arc<super::Mention>>,
    /// What stands in for it if it has an error.
    refusal: Refused,
}

impl super::memo::Reading for Read {
    fn forget_mentions(&mut self) {
        self.mentions = Vec::new();
    }
}

const STACK: Stack = Stack::Native;
