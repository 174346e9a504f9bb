//! The status of an object: what a controller tells of it.

use serde_json::{Map, Value, json};

use super::kinds::Status;

pub(super) fn status(of: Status) -> Value {
    let mut conditions = vec![ACCEPTED, PROGRAMMED];
    let mut properties = Map::new();
    let generation = "generation of the object that the status is about";
    let count =
        |description: &str| json!({"type": "integer", "format": "int64", "minimum": 0, "description": description});
    properties.insert("observedGeneration".into(), count(generation));
    if of == Status::Protects {
        properties.insert("selectedWorkloads".into(), count(SELECTED));
        conditions.push(SELECTING);
    }
    let types: Vec<&str> = conditions.iter().map(|(name, _)| *name).collect();
    let about: Vec<String> = conditions.iter().map(|(name, description)| format!("{name}: {description}")).collect();
    let text = |most: u32, description: &str| json!({"type": "string", "maxLength": most, "description": description});
    let time = json!({"type": "string", "format": "date-time", "description": "when `status` last changed"});
    let condition = json!({
        "type": "object",
        "required": ["type", "status", "reason", "message", "lastTransitionTime"],
        "properties": {
            "type": {"type": "string", "enum": types, "description": about.join("; ")},
            "status": {"type": "string", "enum": ["True", "False", "Unknown"], "description": "whether it holds"},
            "observedGeneration": count(generation),
            "reason": {
                "type": "string", "minLength": 1, "maxLength": 1024, "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                "description": "one word for programs",
            },
            "message": text(32_768, "for people: file, line and what to do, or which proxies are behind"),
            "lastTransitionTime": time,
        },
    });
    properties.insert(
        "conditions".into(),
        json!({
            "type": "array", "maxItems": 8, "items": condition, "description": "what became of the object",
            "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
        }),
    );
    json!({"type": "object", "description": "written by the controller, never read", "properties": properties})
}

pub(super) const SELECTED: &str = "workloads that it protects";
pub(super) const ACCEPTED: (&str, &str) = ("Accepted", "whether the compiler took it");
pub(super) const PROGRAMMED: (&str, &str) = ("Programmed", "whether every proxy has it in force");
const SELECTING: (&str, &str) = ("Selecting", "whether it protects any workload");
