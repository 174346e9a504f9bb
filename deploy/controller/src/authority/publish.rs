//! Tells the cluster the roots, in a ConfigMap: whoever mounts it knows the controller, and the identities that it signed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use eastwall_injector::NamespaceChoice;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use super::Authority;
use crate::cluster::{Cluster, Object, Store};
use crate::kubernetes::Said;

/// Keeps `ca.crt` of the ConfigMap as the roots are, for ever: in `homes`, and wherever pods get a sidecar. Replicas write
/// the same.
pub(crate) async fn publish(
    authority: Arc<Authority>,
    client: kube::Client,
    store: Arc<Store>,
    (homes, name): (BTreeSet<Arc<str>>, String),
) {
    let mut told = BTreeMap::new();
    loop {
        let bundle = authority.bundle();
        let wanted = namespaces(&store.load(), &homes);
        told.retain(|namespace, _| wanted.contains(namespace));
        for namespace in wanted.into_iter().filter(|namespace| told.get(namespace) != Some(&bundle)).collect::<Vec<_>>()
        {
            let api: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
            let map = json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "eastwall"}},
                "data": {"ca.crt": authority.bundle_pem()},
            });
            match api.patch(&name, &PatchParams::apply("eastwall-controller").force(), &Patch::Apply(&map)).await {
                Ok(_) => drop(told.insert(namespace, bundle.clone())),
                Err(error) => {
                    tracing::warn!(configmap = name, %namespace, "the roots cannot be told: {}", Said(&error))
                }
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The namespaces where somebody has to know the roots, as far as they are there.
fn namespaces(cluster: &Cluster, homes: &BTreeSet<Arc<str>>) -> BTreeSet<Arc<str>> {
    let asks = |object: &Object| {
        let labels = object.value.pointer("/metadata/labels").and_then(Value::as_object);
        matches!(NamespaceChoice::of(labels), Ok(NamespaceChoice::Enabled))
    };
    let of_kind = |kind: &'static str| {
        let all = cluster.objects.values();
        all.filter(move |object| &*object.key.kind == kind && &*object.key.api_version == "v1")
    };
    let asking = of_kind("Pod").filter(|pod| asks(pod)).map(|pod| Arc::clone(&pod.key.namespace));
    let asking: BTreeSet<Arc<str>> = asking.collect();
    let there = of_kind("Namespace");
    let wanted = there.filter(|one| asks(one) || homes.contains(&one.key.name) || asking.contains(&one.key.name));
    wanted.map(|one| Arc::clone(&one.key.name)).collect()
}

/// A new root is told for a day before it signs.
const LOOK: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Change, Key};

    #[test]
    fn they_are_told_where_sidecars_are_and_at_home() {
        let object = |kind: &str, namespace: &str, name: &str, labels: Value| {
            let [kind, namespace, name] = [kind, namespace, name].map(Arc::from);
            let key = Key { api_version: "v1".into(), kind, namespace, name };
            let value = Arc::new(json!({"metadata": {"labels": labels}}));
            Change::Put(Object { key, uid: "1".into(), generation: 0, value })
        };
        let asks = json!({"eastwall.dev/inject": "enabled"});
        let store = Store::default();
        store.apply([
            object("Namespace", "", "shop", asks.clone()),
            object("Namespace", "", "single", json!({})),
            object("Pod", "single", "a", asks),
            object("Namespace", "", "other", json!({"eastwall.dev/inject": "disabled"})),
            object("Pod", "other", "b", json!({})),
            object("Namespace", "", "eastwall-system", json!({})),
        ]);
        let homes = ["eastwall-system", "eastwall-node"].map(Arc::from).into();
        let wanted: Vec<Arc<str>> = namespaces(&store.load(), &homes).into_iter().collect();
        assert_eq!(wanted, ["eastwall-system", "shop", "single"].map(Arc::from));
    }
}
