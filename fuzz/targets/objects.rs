//! Any text as a dump of Kubernetes objects, with a workloads file behind a line `=====`: a registry or findings, never a
//! panic; the same documents as items of one list say the same; the workloads file keeps its places in the joined registry.
#![no_main]

use eastwall_policy::dialect::{Compiled, compile};
use eastwall_policy::facts::Place;
use eastwall_policy::registry::{Registry, WorkloadId};
use eastwall_policy::settings::Settings;
use eastwall_policy::source::{self, Bounds, Document, Node, Sources, Value};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (text, workloads) = text.rsplit_once("\n=====\n").unwrap_or((text, ""));
    let sources = source::parse("dump.yaml", &text.into());
    let (file, _) = Registry::parse("workloads.yaml", &workloads.into());
    let compiled = compile(&sources);
    let (registry, _) = compiled.registry(file.clone());
    holds_together(&registry, &file);

    let whole: Vec<Document> = sources
        .documents
        .into_iter()
        .filter(|one| !one.broken && matches!(one.root.value, Value::Map(_)) && is_plain(&one.root))
        .collect();
    let list = as_list(&whole);
    let bounds = Bounds { depth: 256, ..Bounds::default() };
    let again = source::parse_within("dump.yaml", &list.as_str().into(), &bounds);
    assert!(again.diagnostics.is_empty(), "{:?}\n{list}", again.diagnostics);
    assert_eq!(names(&whole), names(&again.documents), "{list}");
    let one = compile(&Sources { documents: whole, diagnostics: Vec::new() });
    let other = compile(&again);
    same(&one, &other, &file);
});

type Name<'d> = (&'d str, &'d str, &'d str, &'d str, Option<i64>);

fn names<'d>(documents: &'d [Document]) -> Vec<Name<'d>> {
    let name = |one: &'d Document| {
        let Document { api_version, kind, namespace, name, created, .. } = one;
        (api_version.as_str(), kind.as_str(), namespace.as_str(), name.as_str(), *created)
    };
    documents.iter().map(name).collect()
}

fn same(one: &Compiled, other: &Compiled, file: &Registry) {
    assert_eq!(one.objects.counts, other.objects.counts);
    assert_eq!(one.objects.incomplete, other.objects.incomplete);
    let ((one, _), (other, _)) = (one.registry(file.clone()), other.registry(file.clone()));
    assert_eq!(one.workloads, other.workloads);
    assert_eq!(one.services, other.services);
    assert_eq!(one.nodes, other.nodes);
}

fn holds_together(registry: &Registry, file: &Registry) {
    let settings = Settings::default();
    assert!(file.workloads.iter().zip(&registry.workloads).all(|(own, joined)| own.name == joined.name));
    for (index, workload) in (0u32..).zip(&registry.workloads) {
        assert_eq!(workload.namespace_labels.get("kubernetes.io/metadata.name"), Some(&workload.namespace));
        for ip in workload.ips.iter().filter(|_| !workload.host_network) {
            let place = registry.place(*ip, &settings);
            assert!(place == Place::Workload(WorkloadId(index)) || registry.is_contested(*ip), "{ip} {place:?}");
        }
    }
    for service in &registry.services {
        assert!(service.endpoints.iter().all(|id| registry.workload(*id).is_some()));
    }
}

/// What can be written as it was read: no key longer than an implicit key may be.
fn is_plain(node: &Node) -> bool {
    match &node.value {
        Value::Map(entries) => entries.iter().all(|(key, node)| key.text.len() < 200 && is_plain(node)),
        Value::List(items) => items.iter().all(is_plain),
        _ => true,
    }
}

fn as_list(documents: &[Document]) -> String {
    let mut out = "{apiVersion: v1, kind: List, items: [".to_owned();
    for document in documents {
        out.push_str("{\"apiVersion\": ");
        quote(&document.api_version, &mut out);
        out.push_str(", \"kind\": ");
        quote(&document.kind, &mut out);
        let Value::Map(entries) = &document.root.value else { unreachable!("only mappings are written") };
        for (key, node) in entries.iter().filter(|(key, _)| !matches!(&*key.text, "apiVersion" | "kind")) {
            out.push_str(", ");
            quote(&key.text, &mut out);
            out.push_str(": ");
            write(node, &mut out);
        }
        out.push_str("}, ");
    }
    out + "]}"
}

fn write(node: &Node, out: &mut String) {
    match &node.value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(text) => out.push_str(text),
        Value::Text(text) => quote(text, out),
        Value::List(items) => {
            out.push('[');
            for item in items {
                write(item, out);
                out.push_str(", ");
            }
            out.push(']');
        }
        Value::Map(entries) => {
            out.push('{');
            for (key, node) in entries {
                quote(&key.text, out);
                out.push_str(": ");
                write(node, out);
                out.push_str(", ");
            }
            out.push('}');
        }
    }
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _ => out.push_str(&format!("\\U{:08x}", c as u32)),
        }
    }
    out.push('"');
}
