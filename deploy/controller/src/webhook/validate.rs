//! Judges a policy before it is stored: the compiler reads it as it would stand in the cluster.

use std::sync::Arc;

use eastwall_policy::analysis::{check, exposure};
use eastwall_policy::diagnostic::{Diagnostic, Severity};
use eastwall_policy::dialect::{self, Compiled};
use eastwall_policy::facts::Direction;
use eastwall_policy::registry::Workload;
use eastwall_policy::source::{Document, Sources};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, Operation};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};

use crate::kubernetes::object;
use crate::policies::{View, file, line, read};

/// What is said of an object.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Judgement {
    /// Why it is refused; nothing of one that may pass.
    refusal: Option<String>,
    warnings: Vec<String>,
}

impl Judgement {
    /// The same as the API server is told it.
    pub(super) fn onto(self, mut response: AdmissionResponse) -> AdmissionResponse {
        let left_out = self.warnings.len().saturating_sub(MOST);
        let mut warnings: Vec<String> = self.warnings.into_iter().take(MOST).map(shortened).collect();
        if left_out > 0 {
            warnings.push(format!("{left_out} more warnings are left out: `eastwall check` tells them all"));
        }
        response.warnings = (!warnings.is_empty()).then_some(warnings);
        match self.refusal {
            Some(refusal) => response.deny(refusal),
            None => response,
        }
    }
}

/// Judges one request within the cluster as it is.
pub(super) fn judge(view: &View, request: AdmissionRequest<DynamicObject>) -> Judgement {
    let AdmissionRequest { kind, namespace, name, operation, object, old_object, .. } = request;
    let written = match operation {
        Operation::Create | Operation::Update => object,
        Operation::Delete => old_object,
        Operation::Connect => None,
    };
    let written = written.map(|mut one| {
        // What is made now is made at this time: the API server writes that down only later.
        one.metadata.creation_timestamp.get_or_insert_with(|| Time(jiff::Timestamp::now()));
        one
    });
    let Some(written) = written.and_then(|one| named(&kind, namespace, name, one)) else {
        return Judgement { refusal: Some("the review holds no object with a name".to_owned()), warnings: Vec::new() };
    };
    let file = file(&written.key);
    let others = view.sources.documents.iter().filter(|document| document.location.file != file).cloned();
    let mut sources = Sources { documents: others.collect(), ..Sources::default() };
    let others = view.sources.diagnostics.iter().filter(|finding| finding.location.file != file);
    sources.diagnostics.extend(others.cloned());
    if operation == Operation::Delete {
        let after = dialect::compile_onto(&sources, &view.last_good);
        let before = view.document(&file);
        return Judgement {
            warnings: before.map(|document| opened(view, document, &after)).unwrap_or_default(),
            refusal: None,
        };
    }
    let own = read(&file, &written.value);
    sources = sources.and(own.clone());
    let after = dialect::compile_onto(&sources, &view.last_good);
    let document = own.documents.first();
    let of_it = after.diagnostics.iter().filter(|finding| finding.location.file == file);
    let of_it = of_it.filter(|finding| finding.severity != Severity::Note);
    let (errors, warnings): (Vec<&Diagnostic>, Vec<&Diagnostic>) = of_it.partition(|finding| finding.is_error());
    let is_refused = document
        .is_none_or(|document| document.broken || after.refused.binary_search(&dialect::name_of(document)).is_ok());
    if is_refused || !errors.is_empty() {
        return Judgement { refusal: Some(refusal(&file, &errors, document)), warnings: Vec::new() };
    }
    let mut told: Vec<String> = warnings.iter().map(|finding| line(finding, document)).collect();
    if let Some(document) = document {
        told.extend(checked(view, document, &own));
        told.extend(opened(view, document, &after));
    }
    told.extend(elsewhere(view, &after, &file));
    Judgement { refusal: None, warnings: told }
}

/// The object with the names that the request says. One whose name the API server is yet to make up is called as it will
/// begin.
fn named(
    kind: &GroupVersionKind,
    namespace: Option<String>,
    name: String,
    mut written: DynamicObject,
) -> Option<crate::cluster::Object> {
    let metadata = &mut written.metadata;
    metadata.managed_fields = None;
    metadata.namespace = metadata.namespace.take().or(namespace).filter(|namespace| !namespace.is_empty());
    let begins = metadata.generate_name.as_ref().map(|name| name.trim_end_matches('-').to_owned());
    let names = [metadata.name.take(), Some(name), begins];
    metadata.name = names.into_iter().flatten().find(|name| !name.is_empty());
    object(&ApiResource::from_gvk(kind), written)
}

fn refusal(file: &str, errors: &[&Diagnostic], document: Option<&Document>) -> String {
    let mut lines: Vec<String> = errors.iter().take(MOST).map(|error| line(error, document)).collect();
    if errors.len() > MOST {
        lines.push(format!("and {} more errors", errors.len() - MOST));
    }
    if lines.is_empty() {
        lines.push("another document of this name makes it ambiguous".to_owned());
    }
    format!("{file}: the compiler refuses it\n{}", lines.join("\n"))
}

/// What is valid and probably not meant.
fn checked(view: &View, document: &Document, own: &Sources) -> Vec<String> {
    // Alone with the settings: what it does beside all others `eastwall check` tells.
    let is_settings = |one: &&Document| one.kind == "DialectSettings" && one.location.file != document.location.file;
    let settings = view.sources.documents.iter().filter(is_settings).cloned().collect();
    let alone = Sources { documents: settings, ..Sources::default() }.and(own.clone());
    let compiled = dialect::compile(&alone);
    let now = jiff::Timestamp::now().as_second();
    let findings = check::documents(&compiled, Some(&view.registry), now).into_iter();
    // A Service that is not there yet may come next: no order of objects is asked of anybody.
    let is_told =
        |finding: &Diagnostic| finding.severity != Severity::Note && finding.location.file == document.location.file;
    findings.filter(is_told).map(|finding| line(&finding, Some(document))).collect()
}

/// What the workloads that it protected lose by it.
fn opened(view: &View, document: &Document, after: &Compiled) -> Vec<String> {
    let name = dialect::name_of(document);
    let opened = exposure::opened(&view.compiled.model, &after.model, &view.registry, &name);
    opened.into_iter().map(|(direction, workloads)| opening(direction, &workloads)).collect()
}

fn opening(direction: Direction, workloads: &[&Workload]) -> String {
    let direction = match direction {
        Direction::Inbound => "ingress",
        Direction::Outbound => "egress",
    };
    let first: Vec<String> =
        workloads.iter().take(SHOWN).map(|one| format!("`{}/{}`", one.namespace, one.name)).collect();
    let more = match workloads.len() - first.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("this OPENS {direction} of {}{more}: no other policy closes it", first.join(", "))
}

/// Other policies that are refused because of it, as those of changed settings may be.
fn elsewhere(view: &View, after: &Compiled, file: &Arc<str>) -> Vec<String> {
    let is_new = |finding: &&Diagnostic| {
        finding.is_error() && finding.location.file != *file && !view.findings(&finding.location.file).contains(finding)
    };
    let findings = after.diagnostics.iter().filter(is_new);
    findings.map(|finding| format!("it makes another policy wrong: {}", line(finding, None))).collect()
}

/// The API server cuts longer ones off.
fn shortened(warning: String) -> String {
    match warning.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", warning.get(..end).unwrap_or_default()),
        None => warning,
    }
}

/// Characters of a warning.
const LONGEST: usize = 250;

/// Warnings, and errors, of one answer.
const MOST: usize = 10;

/// Workloads that a warning names.
const SHOWN: usize = 3;

#[cfg(test)]
mod tests;
