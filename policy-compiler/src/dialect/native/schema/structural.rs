//! A JSON Schema as the structural schema that Kubernetes asks for: every value has one type, and what may stand in
//! `oneOf`, `allOf`, `anyOf` and `not` says nothing of types.

use serde_json::{Map, Value, json};

/// Turns the schema of a value into a structural one.
///
/// Unknown fields are kept wherever there are fields: the API would drop them silently, and a policy without a
/// misspelt condition is a wider policy. Kept, they reach the compiler, which refuses the document.
pub(super) fn structural(schema: &Value) -> Value {
    let Some(members) = schema.as_object() else { return schema.clone() };
    let mut made = Map::new();
    match type_of(members) {
        Type::Of(word) => made.insert("type".into(), json!(word)),
        Type::IntegerOrText => {
            made.insert("minimum".into(), json!(1));
            made.insert("maximum".into(), json!(u16::MAX));
            made.insert("minLength".into(), json!(1));
            made.insert("anyOf".into(), json!([{"type": "integer"}, {"type": "string"}]));
            made.insert("x-kubernetes-int-or-string".into(), json!(true))
        }
        Type::Anything => {
            // The API would drop a `null`, which is not the same as a value that is absent.
            made.insert("nullable".into(), json!(true));
            made.insert(KEEP.into(), json!(true))
        }
    };
    for (name, value) in members {
        let value = match name.as_str() {
            "type" => continue,
            // INVARIANT: of ports alone, which `type_of` knows.
            "oneOf" if type_of(members) == Type::IntegerOrText => continue,
            "additionalProperties" if *value == json!(false) => {
                made.insert(KEEP.into(), json!(true));
                continue;
            }
            "required" if value.as_array().is_some_and(Vec::is_empty) => continue,
            "const" => {
                made.insert("enum".into(), json!([value]));
                continue;
            }
            "properties" => {
                let fields = value.as_object().into_iter().flatten();
                fields.map(|(name, schema)| (name.clone(), structural(schema))).collect::<Map<_, _>>().into()
            }
            "items" | "additionalProperties" => structural(value),
            _ => value.clone(),
        };
        made.insert(name.clone(), value);
    }
    Value::Object(made)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type<'s> {
    Of(&'s str),
    IntegerOrText,
    Anything,
}

fn type_of(schema: &Map<String, Value>) -> Type<'_> {
    if let Some(word) = schema.get("type").and_then(Value::as_str) {
        return Type::Of(word);
    }
    let first = schema.get("enum").and_then(|words| words.get(0)).or_else(|| schema.get("const"));
    match first {
        Some(Value::String(_)) => Type::Of("string"),
        Some(Value::Bool(_)) => Type::Of("boolean"),
        _ if schema.contains_key("oneOf") => Type::IntegerOrText,
        _ => Type::Anything,
    }
}

pub(super) const KEEP: &str = "x-kubernetes-preserve-unknown-fields";
