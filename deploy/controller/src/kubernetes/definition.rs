//! Which kinds are watched: those that every cluster has, and those that a `CustomResourceDefinition` brings.

use eastwall_policy::dialect::reads;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use serde_json::Value;

/// A `CustomResourceDefinition`.
pub(super) type Definition = DynamicObject;

/// Kinds that every cluster has.
pub(super) fn built_in() -> impl Iterator<Item = ApiResource> {
    const KINDS: &[(&str, &str, &str, &str)] = &[
        ("", "v1", "Namespace", "namespaces"),
        ("", "v1", "Node", "nodes"),
        ("", "v1", "Pod", "pods"),
        ("", "v1", "Service", "services"),
        ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
        ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
    ];
    KINDS.iter().map(|(group, version, kind, plural)| resource_of(group, version, kind, plural))
}

/// All definitions of the cluster.
pub(super) fn api(client: &Client) -> Api<Definition> {
    let resource = resource_of("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions");
    Api::all_with(client.clone(), &resource)
}

/// Schemas are most of a definition, and nobody reads them here.
pub(super) fn trim(definition: &mut Definition) {
    definition.metadata.managed_fields = None;
    definition.metadata.annotations = None;
    if let Some(status) = definition.data.get_mut("status") {
        *status = Value::Null;
    }
    for version in definition.data.pointer_mut("/spec/versions").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(version) = version.as_object_mut() {
            version.retain(|member, _| matches!(member.as_str(), "name" | "served"));
        }
    }
}

/// The name of a definition and the kind that it brings, in a version that the compiler reads; nothing where the
/// compiler knows nothing of the kind.
pub(super) fn resource(definition: &Definition) -> Option<(String, ApiResource)> {
    let text = |pointer: &str| definition.data.pointer(pointer).and_then(Value::as_str);
    let (group, kind, plural) = (text("/spec/group")?, text("/spec/names/kind")?, text("/spec/names/plural")?);
    let read = reads().find(|reads| reads.group == group && reads.kinds.contains(&kind))?;
    let versions = definition.data.pointer("/spec/versions").and_then(Value::as_array)?;
    let is_served = |version: &&Value| version.get("served") == Some(&Value::Bool(true));
    let served: Vec<&str> =
        versions.iter().filter(is_served).filter_map(|version| version.get("name")?.as_str()).collect();
    let Some(version) = read.versions.iter().find(|version| served.contains(version)) else {
        tracing::error!(
            kind, group, ?served, read = ?read.versions,
            "the kind is installed in no version that is read: ITS POLICIES ARE NOT IN FORCE"
        );
        return None;
    };
    Some((definition.metadata.name.clone()?, resource_of(group, version, kind, plural)))
}

fn resource_of(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn definition(group: &str, kind: &str, versions: &[(&str, bool)]) -> Definition {
        let versions: Vec<Value> =
            versions.iter().map(|(name, served)| json!({"name": name, "served": served, "schema": {"a": 1}})).collect();
        let plural = format!("{}s", kind.to_lowercase());
        serde_json::from_value(json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{group}")},
            "spec": {"group": group, "names": {"kind": kind, "plural": plural}, "versions": versions},
        }))
        .unwrap()
    }

    #[test]
    fn a_kind_is_watched_in_a_version_that_is_read_and_served() {
        let version = |group: &str, kind: &str, versions: &[(&str, bool)]| {
            let mut definition = definition(group, kind, versions);
            trim(&mut definition);
            assert_eq!(definition.data.pointer("/spec/versions/0/schema"), None);
            resource(&definition).map(|(_, resource)| resource.api_version)
        };
        let native = "eastwall.dev";
        assert_eq!(version(native, "FirewallPolicy", &[("v1alpha1", true)]).unwrap(), "eastwall.dev/v1alpha1");
        assert_eq!(
            version(native, "DialectSettings", &[("v9", true), ("v1alpha1", true)]).unwrap(),
            "eastwall.dev/v1alpha1"
        );
        assert_eq!(version(native, "FirewallPolicy", &[("v1alpha1", false), ("v2", true)]), None);
        assert_eq!(version(native, "PolicyTest", &[("v1alpha1", true)]), None, "never in force");
        assert_eq!(version("example.com", "FirewallPolicy", &[("v1alpha1", true)]), None);
        assert!(version("security.istio.io", "AuthorizationPolicy", &[("v1beta1", true), ("v1", true)]).is_some());
        assert!(version("gateway.networking.k8s.io", "HTTPRoute", &[("v1", true)]).is_some());
    }

    #[test]
    fn every_kind_that_is_read_may_be_watched() {
        let rights = include_str!("../../../base/rbac.yaml");
        for reads in reads() {
            let group = rights.split("- apiGroups: ").filter(|rule| rule.starts_with(&format!("[{}]", reads.group)));
            let rules: Vec<&str> = group.filter(|rule| rule.contains("verbs: [list, watch]")).collect();
            for kind in reads.kinds {
                let lower = kind.to_lowercase();
                let plural = ApiResource::from_gvk(&GroupVersionKind::gvk(reads.group, "v1", kind)).plural;
                let is_named =
                    |rule: &&str| rule.contains(&plural) || lower.ends_with("settings") && rule.contains(&lower);
                assert!(rules.iter().any(is_named), "deploy/base/rbac.yaml lacks {plural} of {}", reads.group);
            }
        }
    }

    #[test]
    fn what_is_built_in_is_what_the_compiler_reads() {
        let all: Vec<String> =
            built_in().map(|resource| format!("{} {}", resource.api_version, resource.kind)).collect();
        assert!(all.contains(&"networking.k8s.io/v1 NetworkPolicy".to_owned()), "{all:?}");
        assert_eq!(all.len(), 6);
    }
}
