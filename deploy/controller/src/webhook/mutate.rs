//! Puts the sidecar into pods that are about to be made.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use eastwall_injector::{Injector, NamespaceChoice, Settings};
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse};
use serde_json::Value;

use crate::cluster::{Cluster, Key};

/// How sidecars are made: settings from a file, read anew when it changes.
pub(crate) struct Sidecars {
    path: Option<PathBuf>,
    held: Mutex<Held>,
}

struct Held {
    text: String,
    injector: Arc<Injector>,
}

impl Held {
    fn read(text: String) -> Result<Self, String> {
        let settings: Settings = serde_saphyr::from_str(&text).map_err(|error| error.to_string())?;
        let injector = Injector::new(settings).map_err(|error| error.to_string())?;
        Ok(Self { text, injector: Arc::new(injector) })
    }
}

impl Sidecars {
    /// Settings of a file; the defaults where none is named, or where it is not there.
    pub(crate) fn new(path: Option<PathBuf>) -> Result<Self, String> {
        let wrong = |error: String| match &path {
            Some(path) => format!("--injector-settings {}: {error}", path.display()),
            None => error,
        };
        let text = path.as_deref().map_or(Ok(String::new()), read).map_err(|error| wrong(error.to_string()))?;
        let held = if text.is_empty() { defaults() } else { Held::read(text) }.map_err(wrong)?;
        Ok(Self { path, held: Mutex::new(held) })
    }

    /// The settings in force: what cannot be read leaves the last good ones.
    fn injector(&self) -> Arc<Injector> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = &self.path {
            match read(path) {
                Ok(text) if text == held.text || text.is_empty() => {}
                Ok(text) => match Held::read(text) {
                    Ok(fresh) => *held = fresh,
                    Err(error) => {
                        tracing::error!(%error, path = %path.display(), "the last good settings of sidecars stay")
                    }
                },
                Err(error) => {
                    tracing::error!(%error, path = %path.display(), "the last good settings of sidecars stay")
                }
            }
        }
        Arc::clone(&held.injector)
    }

    /// The answer to a review of a pod, whose JSON is `pod`. `None`: its namespace is not known yet.
    pub(super) fn answer(
        &self,
        cluster: &Cluster,
        request: &AdmissionRequest<DynamicObject>,
        pod: &Value,
    ) -> Option<AdmissionResponse> {
        let response = AdmissionResponse::from(request);
        let key = Key {
            api_version: "v1".into(),
            kind: "Namespace".into(),
            namespace: "".into(),
            name: request.namespace.as_deref().unwrap_or_default().into(),
        };
        let namespace = cluster.objects.get(&key)?;
        let labels = namespace.value.pointer("/metadata/labels").and_then(Value::as_object);
        let choice = match NamespaceChoice::of(labels) {
            Ok(choice) => choice,
            Err(refusal) => return Some(response.deny(format!("namespace `{}`: {refusal}", key.name))),
        };
        let mut response = match self.injector().review(pod, choice) {
            Ok(review) if review.patch.0.is_empty() => response,
            Ok(review) => {
                let warnings = review.warnings.iter().map(ToString::to_string).collect::<Vec<_>>();
                let mut patched = match response.with_patch(review.patch) {
                    Ok(patched) => patched,
                    Err(error) => return Some(AdmissionResponse::from(request).deny(error)),
                };
                patched.warnings = (!warnings.is_empty()).then_some(warnings);
                patched
            }
            Err(refusals) => response.deny(refusals),
        };
        if let Some(status) = Some(&mut response.result).filter(|_| !response.allowed) {
            status.message = format!("the sidecar cannot be put into this pod: {}", status.message);
        }
        Some(response)
    }
}

/// A file that is not there says nothing.
fn read(path: &std::path::Path) -> std::io::Result<String> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        read => read,
    }
}

fn defaults() -> Result<Held, String> {
    let injector = Injector::new(Settings::default()).map_err(|error| error.to_string())?;
    Ok(Held { text: String::new(), injector: Arc::new(injector) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::{Change, Object, Store};

    fn cluster(labels: &Value) -> Cluster {
        let key = Key { api_version: "v1".into(), kind: "Namespace".into(), namespace: "".into(), name: "shop".into() };
        let value = Arc::new(json!({"metadata": {"name": "shop", "labels": labels}}));
        let store = Store::default();
        store.apply([Change::Put(Object { key, uid: "1".into(), generation: 0, value })]);
        store.load()
    }

    fn answer(sidecars: &Sidecars, labels: &Value, namespace: &str) -> Option<AdmissionResponse> {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "web-", "creationTimestamp": null},
            "spec": {"containers": [{"name": "web", "image": "web:1"}]},
        });
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "u", "operation": "CREATE", "namespace": namespace, "object": pod, "userInfo": {},
                "kind": {"group": "", "version": "v1", "kind": "Pod"},
                "resource": {"group": "", "version": "v1", "resource": "pods"}, "name": "",
            },
        });
        let review: kube::core::admission::AdmissionReview<DynamicObject> = serde_json::from_value(review).unwrap();
        sidecars.answer(&cluster(labels), &review.try_into().unwrap(), &pod)
    }

    #[test]
    fn the_namespace_decides_and_one_that_is_not_known_yet_is_waited_for() {
        let sidecars = Sidecars::new(None).unwrap();
        let injected = answer(&sidecars, &json!({"eastwall.dev/inject": "enabled"}), "shop").unwrap();
        assert!(injected.allowed && injected.patch.is_some());
        let untouched = answer(&sidecars, &json!({}), "shop").unwrap();
        assert!(untouched.allowed && untouched.patch.is_none());
        let misspelt = answer(&sidecars, &json!({"eastwall.dev/inject": "yes"}), "shop").unwrap();
        assert!(!misspelt.allowed && misspelt.result.message.contains("shop"), "{:?}", misspelt.result);
        assert!(answer(&sidecars, &json!({}), "new").is_none());
    }

    #[test]
    fn settings_are_read_anew_and_bad_ones_leave_the_last_good() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.yaml");
        let image = |sidecars: &Sidecars| {
            let injected = answer(sidecars, &json!({"eastwall.dev/inject": "enabled"}), "shop").unwrap();
            let patch = String::from_utf8(injected.patch.unwrap()).unwrap();
            ["example/a:1", "example/b:2"].into_iter().find(|image| patch.contains(image))
        };
        let sidecars = Sidecars::new(Some(path.clone())).unwrap();
        assert_eq!(image(&sidecars), None, "the default");
        for (text, expected) in
            [("image: example/a:1", "example/a:1"), ("image: [", "example/a:1"), ("image: example/b:2", "example/b:2")]
        {
            std::fs::write(&path, text).unwrap();
            assert_eq!(image(&sidecars), Some(expected), "{text}");
        }
        std::fs::write(&path, "imag: x").unwrap();
        let error = Sidecars::new(Some(path)).err().unwrap();
        assert!(error.contains("settings.yaml") && error.contains("imag"), "{error}");
    }
}
