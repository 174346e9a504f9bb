//! The native kinds as `CustomResourceDefinition`s, made from their JSON Schema.
//!
//! What the API refuses the compiler refuses too; it accepts what only the compiler can judge. The rules in CEL say what
//! fields mean together, as far as the API server's bound on their cost allows without a bound on the lists: none of
//! them looks into a list.

use serde_json::{Map, Value, json};

use super::schemas;
use super::structural::{KEEP, structural};
use crate::dialect::native::{GROUP, VERSION};

mod kinds;
mod status;

use kinds::{Of, RULE, Rule, Status};
use status::{ACCEPTED, PROGRAMMED, SELECTED, status};

/// Every kind with its definition.
#[must_use]
pub fn crds() -> Vec<(&'static str, Value)> {
    schemas().into_iter().filter_map(|(kind, schema)| Some((kind, definition(Of::kind(kind)?, &schema)))).collect()
}

fn definition(of: &Of, schema: &Value) -> Value {
    let names = json!({
        "kind": of.kind, "listKind": format!("{}List", of.kind), "plural": of.plural, "singular": of.kind.to_lowercase(),
        "shortNames": [of.short], "categories": ["eastwall"],
    });
    let mut version = json!({
        "name": VERSION, "served": true, "storage": true,
        "schema": {"openAPIV3Schema": object(of, schema)},
        "additionalPrinterColumns": columns(of),
    });
    if let (Some(version), true) = (version.as_object_mut(), of.status != Status::None) {
        version.insert("subresources".into(), json!({"status": {}}));
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{}.{GROUP}", of.plural), "labels": {"app.kubernetes.io/part-of": "eastwall"}},
        "spec": {"group": GROUP, "names": names, "scope": of.scope, "versions": [version]},
    })
}

fn object(of: &Of, schema: &Value) -> Value {
    let mut spec = structural(schema.pointer("/properties/spec").unwrap_or(&Value::Null));
    validate(&mut spec, of.spec);
    for direction in ["ingress", "egress"] {
        if let Some(rule) = spec.pointer_mut(&format!("/properties/{direction}/items")) {
            validate(rule, RULE);
        }
    }
    // The API server itself checks these three; of `metadata` a definition may say nothing else.
    let mut properties = Map::new();
    properties.insert("apiVersion".into(), json!({"type": "string", "description": "group and version of the kind"}));
    properties.insert("kind".into(), json!({"type": "string", "description": "the kind"}));
    properties.insert("metadata".into(), json!({"type": "object"}));
    properties.insert("spec".into(), spec);
    if of.status != Status::None {
        properties.insert("status".into(), status(of.status));
    }
    let mut object = json!({
        "type": "object", "description": of.description, "required": ["spec"], "properties": properties, KEEP: true,
    });
    validate(&mut object, of.root);
    object
}

fn validate(schema: &mut Value, rules: &[Rule]) {
    let rules: Vec<Value> = rules.iter().map(|(rule, message)| json!({"rule": rule, "message": message})).collect();
    if let (Some(members), false) = (schema.as_object_mut(), rules.is_empty()) {
        members.insert("x-kubernetes-validations".into(), Value::Array(rules));
    }
}

fn columns(of: &Of) -> Vec<Value> {
    let column = |(name, path, description): &(&str, &str, &str)| json!({"name": name, "type": "string", "jsonPath": path, "description": description});
    let mut columns: Vec<Value> = of.columns.iter().map(column).collect();
    if of.status == Status::Protects {
        let path = ".status.selectedWorkloads";
        columns.push(json!({"name": "Selected", "type": "integer", "jsonPath": path, "description": SELECTED}));
    }
    if of.status != Status::None {
        for (name, description) in [ACCEPTED, PROGRAMMED] {
            let path = format!(".status.conditions[?(@.type==\"{name}\")].status");
            columns.push(column(&(name, &path, description)));
        }
    }
    let path = ".metadata.creationTimestamp";
    columns.push(json!({"name": "Age", "type": "date", "jsonPath": path, "description": "since it was created"}));
    columns
}

#[cfg(test)]
mod tests {
    use super::crds;

    /// `INSTA_UPDATE=always` writes them anew.
    #[test]
    fn the_published_definitions_are_those_of_the_compiler() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds");
        let mut published: Vec<String> = Vec::new();
        for (kind, definition) in crds() {
            let name = format!("{}.json", definition["metadata"]["name"].as_str().unwrap());
            super::super::tests::is_published(&folder.join(&name), &definition, &format!("--crd {kind}"));
            published.push(name);
        }
        assert_eq!(published.len(), 5);
        let names = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut there: Vec<String> = names.collect();
        there.sort();
        published.sort();
        assert_eq!(there, published, "a file of a kind that is gone");
    }
}
