//! Whether a pod gets the sidecar: the namespace's label, which a label or annotation of the pod overrides.

use serde_json::{Map, Value};

use crate::field::Fields;
use crate::path::FieldPath;
use crate::refusal::{Reason, Refusal};

/// Label of a namespace, label or annotation of a pod.
pub(crate) const INJECT: &str = "eastwall.dev/inject";

/// Of a pod that the kubelet made from a file: nothing can be added to it.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// What a namespace says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamespaceChoice {
    /// Its pods get the sidecar.
    Enabled,
    /// They do not, unless they ask for it.
    Disabled,
}

impl NamespaceChoice {
    /// Of a namespace's labels.
    ///
    /// # Errors
    /// The label has another value than `enabled` and `disabled`.
    pub fn of(labels: Option<&Map<String, Value>>) -> Result<Self, Refusal> {
        let path = FieldPath::default().key("metadata").key("labels");
        let said = labels.map(|labels| said(labels, &path)).transpose()?.flatten();
        Ok(said.unwrap_or(Self::Disabled))
    }
}

/// Who asks for the sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Whoever called: every pod gets it that does not decline.
    Everything,
    /// A namespace.
    Namespace(NamespaceChoice),
}

/// Whether a pod with this metadata gets the sidecar.
pub(crate) fn wants(metadata: Option<Fields<'_>>, scope: Scope) -> Result<bool, Refusal> {
    let by_default = match scope {
        Scope::Everything => NamespaceChoice::Enabled,
        Scope::Namespace(choice) => choice,
    };
    let Some(metadata) = metadata else { return Ok(by_default == NamespaceChoice::Enabled) };
    let of = |member: &str| -> Result<Option<NamespaceChoice>, Refusal> {
        metadata.mapping(member)?.map_or(Ok(None), |map| said(map, &metadata.at(member)))
    };
    let (label, annotation) = (of("labels")?, of("annotations")?);
    if let (Some(label), Some(annotation)) = (label, annotation)
        && label != annotation
    {
        return Err(Refusal { path: metadata.at("annotations").key(INJECT), reason: Reason::Contradiction });
    }
    Ok(label.or(annotation).unwrap_or(by_default) == NamespaceChoice::Enabled)
}

/// Whether it stands for a pod that only the kubelet can change.
pub(crate) fn is_mirror(metadata: Option<Fields<'_>>) -> Result<bool, Refusal> {
    let annotations = metadata.map(|metadata| metadata.mapping("annotations")).transpose()?.flatten();
    Ok(annotations.is_some_and(|annotations| annotations.contains_key(MIRROR)))
}

fn said(map: &Map<String, Value>, path: &FieldPath) -> Result<Option<NamespaceChoice>, Refusal> {
    match map.get(INJECT) {
        None => Ok(None),
        Some(Value::String(word)) if word == "enabled" => Ok(Some(NamespaceChoice::Enabled)),
        Some(Value::String(word)) if word == "disabled" => Ok(Some(NamespaceChoice::Disabled)),
        Some(other) => {
            let found = other.as_str().map_or_else(|| other.to_string(), str::to_owned);
            let reason = Reason::UnknownWord { expected: "`enabled` or `disabled`", found };
            Err(Refusal { path: path.key(INJECT), reason })
        }
    }
}
