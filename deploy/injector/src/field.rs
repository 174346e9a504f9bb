//! Reading members of an object. Absent is absent, and `null` is absent too, as in the Kubernetes API; a member of another
//! type than it should have is a refusal, never a guess.

use serde_json::{Map, Value};

use crate::path::FieldPath;
use crate::refusal::{Reason, Refusal};

/// A mapping, and where it stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: &'a FieldPath,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(value: &'a Value, path: &'a FieldPath) -> Result<Self, Refusal> {
        match value {
            Value::Object(map) => Ok(Self { map, path }),
            other => Err(unreadable(path.clone(), "a mapping", other)),
        }
    }

    pub(crate) fn at(&self, key: &str) -> FieldPath {
        self.path.key(key)
    }

    pub(crate) fn value(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    pub(crate) fn mapping(&self, key: &str) -> Result<Option<&'a Map<String, Value>>, Refusal> {
        self.typed(key, "a mapping", Value::as_object)
    }

    pub(crate) fn list(&self, key: &str) -> Result<&'a [Value], Refusal> {
        self.typed(key, "a list", Value::as_array).map(|found| found.map_or(&[][..], Vec::as_slice))
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<&'a str>, Refusal> {
        self.typed(key, "text", Value::as_str)
    }

    pub(crate) fn flag(&self, key: &str) -> Result<bool, Refusal> {
        self.typed(key, "`true` or `false`", Value::as_bool).map(|found| found.unwrap_or(false))
    }

    pub(crate) fn number<T: TryFrom<u64>>(&self, key: &str, expected: &'static str) -> Result<Option<T>, Refusal> {
        self.typed(key, expected, |value| value.as_u64().and_then(|number| T::try_from(number).ok()))
    }

    fn typed<T>(
        &self,
        key: &str,
        expected: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        let Some(value) = self.value(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| unreadable(self.at(key), expected, value))
    }
}

fn unreadable(path: FieldPath, expected: &'static str, found: &Value) -> Refusal {
    let found = match found {
        Value::Object(_) => "a mapping".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    Refusal { path, reason: Reason::Unreadable { expected, found } }
}
