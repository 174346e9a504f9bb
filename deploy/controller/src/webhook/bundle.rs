//! Tells the API server which authority the webhooks' certificate is of.

use k8s_openapi::ByteString;
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::kubernetes::Said;

/// Puts the authorities into every webhook of the configurations of this name, where they are not there yet.
///
/// # Errors
/// What the API server said.
pub(super) async fn put(client: &Client, configuration: &str, authorities: &[u8]) -> Result<(), String> {
    let bundle = serde_json::to_value(ByteString(authorities.to_vec())).map_err(|error| error.to_string())?;
    for kind in ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"] {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind));
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let failed = |error: kube::Error| format!("{kind} {configuration}: {}", Said(&error));
        let Some(found) = api.get_opt(configuration).await.map_err(failed)? else { continue };
        if let Some(patch) = patch(&found.data, &bundle) {
            api.patch(configuration, &PatchParams::default(), &Patch::Strategic(patch)).await.map_err(failed)?;
            tracing::info!(kind, configuration, "the API server was told whom to trust");
        }
    }
    Ok(())
}

/// What to change; nothing where all of it is as it should be.
fn patch(configuration: &Value, bundle: &Value) -> Option<Value> {
    let webhooks = configuration.get("webhooks")?.as_array()?;
    let is_other = |webhook: &&Value| webhook.pointer("/clientConfig/caBundle") != Some(bundle);
    let others = webhooks.iter().filter(is_other).filter_map(|webhook| webhook.get("name"));
    let changes: Vec<Value> = others.map(|name| json!({"name": name, "clientConfig": {"caBundle": bundle}})).collect();
    (!changes.is_empty()).then(|| json!({"webhooks": changes}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_patched() {
        let webhook =
            |name: &str, bundle: Option<&str>| json!({"name": name, "clientConfig": {"caBundle": bundle, "url": "u"}});
        let configuration =
            json!({"webhooks": [webhook("a", Some("new")), webhook("b", Some("old")), webhook("c", None)]});
        let expected = json!({"webhooks": [
            {"name": "b", "clientConfig": {"caBundle": "new"}}, {"name": "c", "clientConfig": {"caBundle": "new"}},
        ]});
        assert_eq!(patch(&configuration, &json!("new")), Some(expected));
        assert_eq!(patch(&json!({"webhooks": [webhook("a", Some("new"))]}), &json!("new")), None);
        assert_eq!(patch(&json!({}), &json!("new")), None);
    }
}
