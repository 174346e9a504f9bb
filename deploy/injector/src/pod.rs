//! One pod, or one template of pods, gets the sidecar. What of it is there already is made anew, in its place.

use serde_json::{Map, Value};

use crate::annotation::Chosen;
use crate::choice::{self, NamespaceChoice, Scope};
use crate::container::{PROXY, Plan, REDIRECT};
use crate::examine::examine;
use crate::field::Fields;
use crate::path::FieldPath;
use crate::probe::{self, Dialled};
use crate::refusal::{Reason, Refusal, Refusals, Warning};
use crate::settings::Settings;
use crate::volume;

/// Says which version injected.
const INJECTED: &str = "eastwall.dev/injected";

/// Says that other proxies reach it through mutual TLS; a pod that says otherwise is left alone.
const HBONE: &str = "eastwall.dev/hbone";

/// Whether it got the sidecar; what its author should know is added to `warnings`.
pub(crate) fn inject(
    pod: &mut Value,
    path: &FieldPath,
    settings: &Settings,
    scope: Scope,
    warnings: &mut Vec<Warning>,
) -> Result<bool, Refusals> {
    let fields = Fields::new(pod, path)?;
    let metadata_path = fields.at("metadata");
    let metadata = fields.value("metadata").map(|metadata| Fields::new(metadata, &metadata_path)).transpose()?;
    let spec_path = fields.at("spec");
    if choice::is_mirror(metadata)? {
        return Ok(false);
    }
    if !choice::wants(metadata, scope)? {
        // Whoever finds these containers takes them for the sidecar, and does not look after the pod any more.
        return match pretended(fields.value("spec"), &spec_path) {
            Some(path) => Err(Refusal { path, reason: Reason::Pretended }.into()),
            None => Ok(false),
        };
    }
    let missing = || Refusal { path: spec_path.clone(), reason: Reason::Missing };
    let spec = Fields::new(fields.value("spec").ok_or_else(missing)?, &spec_path)?;
    let refusals = examine(metadata, spec, settings);
    if !refusals.is_empty() {
        return Err(Refusals(refusals));
    }
    let chosen = Chosen::of(metadata, settings)?;
    warn_of_datagrams(spec, warnings)?;
    let has_own_apparmor = has_own_apparmor(spec)?;

    let mut dialled = Dialled::default();
    for list in ["initContainers", "containers"] {
        for (index, container) in members(pod, list).into_iter().flatten().enumerate() {
            let path = spec_path.key(list).index(index);
            // An init container that ends is not probed.
            if list == "containers" || container.get("restartPolicy").is_some_and(|policy| policy == "Always") {
                probe::rewrite(container, &path, settings.admin_port, &mut dialled, warnings)?;
            }
        }
    }
    let plan = Plan { settings, chosen: &chosen, dialled: &dialled, has_own_apparmor };
    write(pod, [plan.redirect(), plan.proxy()]);
    Ok(true)
}

/// What a pod says of a sidecar of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sidecar {
    /// Both containers are there, before all others.
    Present,
    /// It is to have one, and has none.
    Missing,
    /// It is to have none.
    Unasked,
}

impl Sidecar {
    /// Of a pod as it runs, in a namespace that says this.
    #[must_use]
    pub fn of(pod: &Value, namespace: NamespaceChoice) -> Self {
        let first = pod.pointer("/spec/initContainers").and_then(Value::as_array).map(Vec::as_slice);
        if let Some([redirect, proxy, ..]) = first
            && redirect.get("name").is_some_and(|name| name == REDIRECT)
            && proxy.get("name").is_some_and(|name| name == PROXY)
            && proxy.get("restartPolicy").is_some_and(|policy| policy == "Always")
        {
            return Self::Present;
        }
        let path = FieldPath::default();
        let metadata = pod.get("metadata").map(|metadata| Fields::new(metadata, &path)).transpose();
        // What cannot be read would have been refused.
        match metadata.and_then(|metadata| choice::wants(metadata, Scope::Namespace(namespace))) {
            Ok(false) => Self::Unasked,
            Ok(true) | Err(_) => Self::Missing,
        }
    }
}

/// The first container that has a name of the sidecar's.
fn pretended(spec: Option<&Value>, path: &FieldPath) -> Option<FieldPath> {
    ["initContainers", "containers"].into_iter().find_map(|list| {
        let containers = spec?.get(list)?.as_array()?;
        let at =
            containers.iter().position(|one| one.get("name").is_some_and(|name| name == REDIRECT || name == PROXY))?;
        Some(path.key(list).index(at).key("name"))
    })
}

fn write(pod: &mut Value, ours: [Value; 2]) {
    let annotations = mapping(pod, "metadata").and_then(|metadata| mapping(metadata, "annotations"));
    if let Some(annotations) = annotations.and_then(Value::as_object_mut) {
        annotations.insert(INJECTED.to_owned(), env!("CARGO_PKG_VERSION").into());
        annotations.entry(HBONE).or_insert_with(|| "enabled".into());
    }
    let Some(Value::Object(spec)) = mapping(pod, "spec") else { return };
    let others = taken(spec, "initContainers", &[REDIRECT, PROXY]);
    // Read from top to bottom it starts in this order. A list that is there keeps its place.
    if !spec.contains_key("initContainers") {
        let place = spec.keys().position(|key| key == "containers").unwrap_or(spec.len());
        spec.shift_insert(place, "initContainers".to_owned(), Value::Null);
    }
    spec.insert("initContainers".to_owned(), ours.into_iter().chain(others).collect());
    let others = taken(spec, "volumes", &volume::NAMES);
    spec.insert("volumes".to_owned(), others.into_iter().chain(volume::volumes()).collect());
}

/// The members of a list that have none of these names. The list keeps its place among the keys.
fn taken(spec: &mut Map<String, Value>, list: &str, names: &[&str]) -> Vec<Value> {
    let found = spec.get_mut(list).map(Value::take);
    let Some(Value::Array(members)) = found else { return Vec::new() };
    let is_ours = |member: &Value| member.get("name").and_then(Value::as_str).is_some_and(|name| names.contains(&name));
    members.into_iter().filter(|member| !is_ours(member)).collect()
}

/// A member that is a mapping, made where there is none.
fn mapping<'a>(parent: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    let member = parent.as_object_mut()?.entry(key).or_insert(Value::Null);
    if member.is_null() {
        *member = Value::Object(Map::new());
    }
    Some(member)
}

fn members<'a>(pod: &'a mut Value, list: &str) -> Option<&'a mut Vec<Value>> {
    pod.get_mut("spec")?.get_mut(list)?.as_array_mut()
}

fn has_own_apparmor(spec: Fields<'_>) -> Result<bool, Refusal> {
    let context = spec.mapping("securityContext")?;
    let profile = context.and_then(|context| context.get("appArmorProfile")?.get("type"));
    Ok(profile.is_some_and(|kind| kind == "Localhost"))
}

fn warn_of_datagrams(spec: Fields<'_>, warnings: &mut Vec<Warning>) -> Result<(), Refusal> {
    for (index, container) in spec.list("containers")?.iter().enumerate() {
        let path = spec.at("containers").index(index);
        let container = Fields::new(container, &path)?;
        for (index, port) in container.list("ports")?.iter().enumerate() {
            let path = container.at("ports").index(index);
            let port = Fields::new(port, &path)?;
            if let Some(transport @ ("UDP" | "SCTP")) = port.text("protocol")? {
                let text = format!(
                    "a sidecar closes {transport}, but for questions to the name servers: node mode opens it by rule"
                );
                warnings.push(Warning { path: port.at("protocol"), text });
            }
        }
    }
    Ok(())
}
