//! The JSON Schema of the native kinds has exactly the fields that the compiler reads, each with a description.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot make its own input fails"
)]

use std::collections::{BTreeMap, BTreeSet};

use eastwall_policy::diagnostic::{Code, Diagnostic};
use eastwall_policy::dialect::{compile, schemas};
use eastwall_policy::source::parse;
use serde_json::{Map, Value, json};

/// Documents that hold every object of their schema.
fn documents() -> Vec<Value> {
    let selector = json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "a", "operator": "Exists"}]});
    // A cluster policy has no namespace of its own; the other cannot name another one.
    let ends = |is_cluster: bool| match is_cluster {
        true => json!([{"pods": selector, "namespace": "n"}, {"namespaceSelector": selector}]),
        false => json!([{"pods": selector}, {"namespaceSelector": selector}]),
    };
    let asked = json!([{"name": "x", "operator": "Exists"}]);
    let jwt = json!({"issuer": "i", "claims": [{"path": ["x"], "operator": "Exists"}]});
    let rules = |ends: &Value, peers: &str, not: &str, other: &str| {
        let rule = |name: &str, protocol: &str, value: Value| {
            let value = if value.is_null() { json!({}) } else { json!([value]) };
            json!({"name": name, peers: ends, not: ends, other: ends, "ports": [1], protocol: value})
        };
        json!([
            rule("a", "http", json!({"headers": asked, "query": asked, "jwt": jwt})),
            rule("b", "grpc", json!({"service": "a.B", "headers": asked, "jwt": jwt})),
            rule("c", "tls", json!({"serverNames": ["a.b"]})),
            rule("d", "dns", json!({"names": ["a.b"]})),
            rule("e", "tcp", Value::Null),
            rule("f", "udp", Value::Null),
        ])
    };
    let policy = |kind: &str, metadata: Value, tier: Value| {
        let ends = ends(!tier.is_null());
        let mut spec = json!({
            "subject": ends,
            "notSubject": ends,
            "ingress": rules(&ends, "from", "notFrom", "notTo"),
            "egress": rules(&ends, "to", "notTo", "notFrom"),
            "httpOptions": [{"ports": [1], "escapedSlash": "Reject"}],
        });
        if let Some(spec) = spec.as_object_mut().filter(|_| !tier.is_null()) {
            spec.insert("tier".into(), tier);
        }
        document(kind, &metadata, &spec)
    };
    let case = json!({"expect": "allow", "src": {"ip": "10.0.0.1"}, "dst": {"ip": "10.0.0.1", "port": 1}});
    let sections = ["cluster", "native", "networkPolicy", "cilium", "istio", "linkerd"];
    let sections: Map<String, Value> = sections.iter().map(|name| ((*name).to_owned(), json!({}))).collect();
    vec![
        policy("FirewallPolicy", json!({"name": "a", "namespace": "b"}), Value::Null),
        policy("ClusterFirewallPolicy", json!({"name": "a"}), json!("Admin")),
        document("PolicyTest", &json!({"name": "a", "namespace": "b"}), &json!({"cases": [case]})),
        document("DialectSettings", &json!({"name": "cluster"}), &Value::Object(sections)),
    ]
}

fn document(kind: &str, metadata: &Value, spec: &Value) -> Value {
    json!({"apiVersion": "eastwall.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})
}

/// Every object of a document with its schema, by JSON pointers.
fn objects(at: &str, document: &Value, schema_at: &str, schema: &Value, found: &mut Vec<(String, String)>) {
    match document {
        Value::Object(members) => {
            if let Some(properties) = schema.get("properties") {
                found.push((at.to_owned(), schema_at.to_owned()));
                for (name, value) in members {
                    let below = format!("{schema_at}/properties/{name}");
                    objects(&format!("{at}/{name}"), value, &below, &properties[name], found);
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                objects(&format!("{at}/{index}"), item, &format!("{schema_at}/items"), &schema["items"], found);
            }
        }
        _ => {}
    }
}

/// Every place of a schema that has fields.
fn places(at: &str, schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(members) => {
            if members.contains_key("properties") {
                found.insert(at.to_owned());
            }
            members.iter().for_each(|(name, value)| places(&format!("{at}/{name}"), value, found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| places(&format!("{at}/{index}"), item, found))
        }
        _ => {}
    }
}

/// What is said of a field that is put into the object at `at`.
fn said_of(document: &Value, at: &str, field: &str) -> Vec<Diagnostic> {
    let mut changed = document.clone();
    let object = changed.pointer_mut(at).and_then(Value::as_object_mut).unwrap();
    object.entry(field).or_insert(Value::Null);
    let text = changed.to_string();
    let found = compile(&parse("p.json", &text.into())).diagnostics;
    found.into_iter().filter(|finding| finding.code == Code::UnknownField).collect()
}

#[test]
fn the_schema_has_the_fields_that_the_compiler_reads_and_no_others() {
    let schemas = schemas();
    for document in documents() {
        let kind = document["kind"].as_str().unwrap();
        let schema = &schemas.iter().find(|(name, _)| *name == kind).unwrap().1;
        let compiled = compile(&parse("p.json", &document.to_string().into()));
        assert!(!compiled.has_errors(), "{kind}: the document itself is fine: {:#?}", compiled.diagnostics);
        let (mut found, mut all) = (Vec::new(), BTreeSet::new());
        objects("", &document, "", schema, &mut found);
        places("", schema, &mut all);
        // One object of each place is enough.
        let found: BTreeMap<String, String> = found.into_iter().rev().map(|(at, place)| (place, at)).collect();
        let met: BTreeSet<String> = found.keys().cloned().collect();
        assert_eq!(met, all, "{kind}: the document holds every object of the schema");
        for (place, at) in found {
            let properties = schema.pointer(&place).unwrap()["properties"].as_object().unwrap();
            for field in properties.keys() {
                assert_eq!(said_of(&document, &at, field), [], "{kind}{at} has `{field}` in the schema alone");
            }
            let unknown = said_of(&document, &at, "zzzzqqqq");
            let [unknown] = unknown.as_slice() else { panic!("{kind}{at}: {unknown:?}") };
            let help = unknown.help.as_deref().unwrap();
            let listed = help.strip_prefix("the fields here are ").unwrap_or_else(|| panic!("{kind}{at}: {help}"));
            for field in listed.split('`').skip(1).step_by(2) {
                // Of a kind without one a namespace is read to say so.
                let is_refused = (at.as_str(), field) == ("/metadata", "namespace");
                assert!(properties.contains_key(field) || is_refused, "{kind}{at} has `{field}` in the compiler alone");
            }
        }
    }
}

#[test]
fn every_field_is_described() {
    fn look(at: &str, schema: &Value) {
        match schema {
            Value::Object(members) => {
                for (name, property) in members.get("properties").and_then(Value::as_object).into_iter().flatten() {
                    let described = property["description"].as_str().is_some_and(|text| !text.is_empty());
                    assert!(described, "{at}/{name} has no description");
                }
                members.iter().for_each(|(name, value)| look(&format!("{at}/{name}"), value));
            }
            Value::Array(items) => items.iter().for_each(|item| look(at, item)),
            _ => {}
        }
    }
    schemas().iter().for_each(|(kind, schema)| look(kind, schema));
}
