//! Tells the cluster the roots, in a ConfigMap: whoever mounts it knows the controller, and the identities that it signed.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::Authority;
use crate::kubernetes::Said;

/// Keeps `ca.crt` of the ConfigMap as the roots are, for ever. Replicas write the same.
pub(crate) async fn publish(authority: Arc<Authority>, client: kube::Client, namespace: String, name: String) {
    let api: Api<ConfigMap> = Api::namespaced(client, &namespace);
    let mut told = Vec::new();
    loop {
        let bundle = authority.bundle();
        if bundle != told {
            let map = json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "eastwall"}},
                "data": {"ca.crt": authority.bundle_pem()},
            });
            match api.patch(&name, &PatchParams::apply("eastwall-controller").force(), &Patch::Apply(&map)).await {
                Ok(_) => told = bundle,
                Err(error) => tracing::warn!(configmap = name, "the roots cannot be told: {}", Said(&error)),
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A new root is told for a day before it signs.
const LOOK: Duration = Duration::from_secs(5);
