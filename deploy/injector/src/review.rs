//! The answer to an admission review of a Pod.

use json_patch::Patch;
use serde_json::Value;

use crate::choice::{NamespaceChoice, Scope};
use crate::field::Fields;
use crate::object::Outcome;
use crate::path::FieldPath;
use crate::refusal::{Refusals, Warning};
use crate::settings::Injector;

/// What the API server is to do to the pod, and to tell its author.
#[derive(Clone, Debug, PartialEq)]
pub struct Review {
    /// RFC 6902; empty where nothing changes.
    pub patch: Patch,
    /// For whoever made the pod.
    pub warnings: Vec<Warning>,
}

impl Injector {
    /// What the webhook answers for a Pod that is about to be made in a namespace.
    ///
    /// # Errors
    /// Why the pod must not be made as it is.
    pub fn review(&self, pod: &Value, namespace: NamespaceChoice) -> Result<Review, Refusals> {
        // Whatever it calls itself: the webhook is asked about pods alone, and a misread one would go without.
        let root = FieldPath::default();
        let fields = Fields::new(pod, &root)?;
        if let Some(kind) = fields.text("kind")?.filter(|kind| *kind != "Pod") {
            let reason = crate::Reason::NoTemplate(kind.to_owned());
            return Err(crate::Refusal { path: fields.at("kind"), reason }.into());
        }
        let mut whole = pod.clone();
        if let Value::Object(map) = &mut whole {
            map.insert("apiVersion".to_owned(), "v1".into());
            map.insert("kind".to_owned(), "Pod".into());
        }
        match self.inject(&whole, Scope::Namespace(namespace))? {
            Outcome::Injected(injected) => {
                Ok(Review { patch: json_patch::diff(&whole, &injected.object), warnings: injected.warnings })
            }
            Outcome::Untouched(_) => Ok(Review { patch: Patch::default(), warnings: Vec::new() }),
        }
    }
}
