//! Which objects have pods in them, and where.

use serde_json::Value;

use crate::choice::Scope;
use crate::field::Fields;
use crate::path::FieldPath;
use crate::pod;
use crate::refusal::{Refusals, Warning};
use crate::settings::Injector;

/// What became of an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It, or something in it, has the sidecar now, or had it.
    Injected(Injected),
    /// It is what it was.
    Untouched(Untouched),
}

/// An object with the sidecar.
#[derive(Clone, Debug, PartialEq)]
pub struct Injected {
    /// The whole object.
    pub object: Value,
    /// What its author should know.
    pub warnings: Vec<Warning>,
}

/// Why an object is what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untouched {
    /// There are no pods in it.
    NoPods,
    /// Its pods do not want it: by their own word, their namespace's, or because only the kubelet can change them.
    NotWanted,
}

impl Injector {
    /// Gives every pod of an object the sidecar. Doing it twice changes nothing.
    ///
    /// # Errors
    /// What stands against it; then nothing of the object is to be used.
    pub fn inject(&self, object: &Value, scope: Scope) -> Result<Outcome, Refusals> {
        let mut object = object.clone();
        let mut seen = Seen::default();
        self.walk(&mut object, None, &FieldPath::default(), scope, &mut seen)?;
        Ok(match seen {
            Seen { injected: true, warnings, .. } => Outcome::Injected(Injected { object, warnings }),
            Seen { pods: true, .. } => Outcome::Untouched(Untouched::NotWanted),
            _ => Outcome::Untouched(Untouched::NoPods),
        })
    }

    fn walk(
        &self,
        object: &mut Value,
        of_list: Option<&str>,
        path: &FieldPath,
        scope: Scope,
        seen: &mut Seen,
    ) -> Result<(), Refusals> {
        let fields = Fields::new(object, path)?;
        // The items of a typed list need not say what they are.
        let kind = fields.text("kind")?.or(of_list).unwrap_or_default().to_owned();
        let group = fields.text("apiVersion")?.unwrap_or("v1").split_once('/').map_or("", |(group, _)| group);
        let route = match (group, &*kind) {
            ("", "Pod") => &[][..],
            ("", "PodTemplate") => &["template"],
            ("", "ReplicationController")
            | ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
            | ("batch", "Job") => &["spec", "template"],
            ("batch", "CronJob") => &["spec", "jobTemplate", "spec", "template"],
            _ => match kind.strip_suffix("List") {
                Some(of_items) if fields.value("items").is_some() => {
                    return self.items(object, of_items, path, scope, seen);
                }
                _ => return Ok(()),
            },
        };
        let mut place = (object, path.clone());
        for key in route {
            let path = place.1.key(key);
            // Without a template the API refuses it; a ReplicationController may be without one.
            let Some(next) = place.0.get_mut(key).filter(|value| !value.is_null()) else { return Ok(()) };
            place = (next, path);
        }
        seen.pods = true;
        seen.injected |= pod::inject(place.0, &place.1, &self.settings, scope, &mut seen.warnings)?;
        Ok(())
    }

    fn items(
        &self,
        list: &mut Value,
        kind: &str,
        path: &FieldPath,
        scope: Scope,
        seen: &mut Seen,
    ) -> Result<(), Refusals> {
        Fields::new(list, path)?.list("items")?;
        let items = list.get_mut("items").and_then(Value::as_array_mut);
        let mut refusals = Vec::new();
        for (index, item) in items.into_iter().flatten().enumerate() {
            let path = path.key("items").index(index);
            if let Err(found) = self.walk(item, Some(kind), &path, scope, seen) {
                refusals.extend(found.0);
            }
        }
        if refusals.is_empty() { Ok(()) } else { Err(Refusals(refusals)) }
    }
}

#[derive(Default)]
struct Seen {
    pods: bool,
    injected: bool,
    warnings: Vec<Warning>,
}
