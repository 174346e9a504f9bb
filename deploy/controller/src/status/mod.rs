//! What became of each policy, written into its `status` by the replica that leads.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::cluster::{Cluster, Key, Object, Store};
use crate::kubernetes::Said;
use crate::metrics::Metrics;
use crate::policies::{Policies, View};
use crate::uncovered::Uncovered;

mod conditions;
mod programmed;
mod unprotected;

pub use programmed::{Programmed, Progress};
use unprotected::Unprotected;

/// What the writer reads.
pub(crate) struct Inputs {
    pub(crate) store: Arc<Store>,
    pub(crate) policies: Arc<Policies>,
    pub(crate) programmed: watch::Receiver<Programmed>,
    pub(crate) uncovered: watch::Receiver<Uncovered>,
    pub(crate) leads: watch::Receiver<bool>,
    pub(crate) metrics: Arc<Metrics>,
}

/// Policies, and the status that each should have.
type Wanted = Vec<(Arc<Object>, Value)>;

/// What was written last, and to the object as it was before: the watch that tells it back may be late.
type Written = HashMap<Key, (Arc<Object>, Value)>;

/// Writes statuses while this replica leads, each only when it changes.
pub(crate) async fn write(client: Client, mut inputs: Inputs) {
    let mut cluster = inputs.store.follow();
    let mut written = Written::new();
    loop {
        if !*inputs.leads.borrow() {
            written.clear();
            // Whoever leads tells.
            inputs.metrics.without_proxy(&BTreeMap::new());
            if inputs.leads.wait_for(|leads| *leads).await.is_err() {
                return;
            }
        }
        let state = cluster.borrow_and_update().clone();
        let programmed = inputs.programmed.borrow_and_update().clone();
        let uncovered = inputs.uncovered.borrow_and_update().clone();
        let mut worked = Duration::ZERO;
        let mut is_whole = true;
        if state.complete {
            written.retain(|key, _| state.objects.contains_key(key));
            let (policies, started) = (Arc::clone(&inputs.policies), Instant::now());
            let wanted = tokio::task::spawn_blocking(move || {
                let view = policies.view(&state);
                let unprotected = unprotected::of(&view, &uncovered);
                (wanted(&state, &view, &programmed, &unprotected), unprotected::counts(&unprotected))
            });
            let wanted = wanted.await;
            worked = started.elapsed();
            is_whole = match wanted {
                Ok((wanted, without_proxy)) => {
                    inputs.metrics.without_proxy(&without_proxy);
                    round(&client, &inputs, wanted, &mut written).await
                }
                Err(_) => false,
            };
        }
        // People look at a status, no machine waits for it: a storm of changes is one, and costs a tenth of a core. Waiting
        // for an API server that is away costs nothing.
        tokio::time::sleep(QUIET.max(worked * 9)).await;
        if !is_whole {
            tokio::time::sleep(RETRY).await;
            continue;
        }
        let changed = tokio::select! {
            changed = cluster.changed() => changed,
            changed = inputs.programmed.changed() => changed,
            changed = inputs.uncovered.changed() => changed,
            changed = inputs.leads.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Writes what differs; whether all could be written.
async fn round(client: &Client, inputs: &Inputs, wanted: Wanted, written: &mut Written) -> bool {
    let is_under_way = |object: &Arc<Object>, status: &Value| {
        written.get(&object.key).is_some_and(|(before, written)| Arc::ptr_eq(before, object) && written == status)
    };
    let differing: Vec<(Arc<Object>, Value)> = wanted
        .into_iter()
        .filter(|(object, status)| conditions::differs(object.value.get("status"), status))
        .filter(|(object, status)| !is_under_way(object, status))
        .collect();
    let writes = differing.into_iter().map(|(object, status)| {
        let (client, leads) = (client.clone(), inputs.leads.clone());
        async move {
            // Another replica may lead by now.
            if !*leads.borrow() {
                return None;
            }
            let outcome = put(client, &object, &status).await;
            Some((object, status, outcome))
        }
    });
    let mut outcomes = std::pin::pin!(futures_util::stream::iter(writes).buffer_unordered(AT_ONCE));
    let mut is_whole = true;
    while let Some(done) = outcomes.next().await {
        let Some((object, status, outcome)) = done else { continue };
        match outcome {
            Ok(()) => {
                inputs.metrics.status_written("success");
                written.insert(object.key.clone(), (object, status));
            }
            // Deleted meanwhile.
            Err(kube::Error::Api(answer)) if answer.code == 404 => {}
            Err(error) => {
                is_whole = false;
                inputs.metrics.status_written("error");
                tracing::warn!(policy = &*crate::policies::file(&object.key), error = %Said(&error), "a status could not be written");
            }
        }
    }
    is_whole
}

/// The status that each policy of the native kinds should have.
fn wanted(state: &Cluster, view: &View, programmed: &Programmed, unprotected: &[Unprotected<'_>]) -> Wanted {
    let own = state.objects.values().filter(|object| object.key.api_version.split('/').next() == Some(crate::GROUP));
    own.map(|object| {
        let progress = programmed.policies.get(&object.key);
        (Arc::clone(object), conditions::status(object, view, progress, unprotected))
    })
    .collect()
}

/// Server-side apply: nobody else's fields are touched.
async fn put(client: Client, object: &Object, status: &Value) -> Result<(), kube::Error> {
    let Key { api_version, kind, namespace, name } = &object.key;
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), &plural(kind));
    let api: Api<DynamicObject> = if namespace.is_empty() {
        Api::all_with(client, &resource)
    } else {
        Api::namespaced_with(client, namespace, &resource)
    };
    let status = conditions::with_times(object.value.get("status"), status, jiff::Timestamp::now());
    let patch = json!({
        // Without the uid a policy that was deleted and made anew meanwhile would get the status of its predecessor.
        "apiVersion": &**api_version, "kind": &**kind, "metadata": {"name": &**name, "uid": &*object.uid}, "status": status,
    });
    let (params, patch) = (PatchParams::apply(MANAGER).force(), Patch::Apply(&patch));
    match tokio::time::timeout(TIMEOUT, api.patch_status(name, &params, &patch)).await {
        Ok(answer) => answer.map(drop),
        Err(late) => Err(kube::Error::Service(Box::new(late))),
    }
}

/// How the API calls a native kind in its addresses.
fn plural(kind: &str) -> String {
    let kind = kind.to_lowercase();
    match kind.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None if kind.ends_with("ss") => format!("{kind}es"),
        // Settings are many already.
        None => kind,
    }
}

/// Who the fields belong to.
const MANAGER: &str = "eastwall-controller";

/// Between two rounds.
const QUIET: Duration = Duration::from_secs(1);

/// More after a round that failed.
const RETRY: Duration = Duration::from_secs(4);

/// One write.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Writes under way.
const AT_ONCE: usize = 8;

#[cfg(test)]
mod tests {
    #[test]
    fn kinds_are_called_as_in_their_definitions() {
        for (kind, definition) in eastwall_policy::dialect::crds() {
            if kind != "PolicyTest" {
                assert_eq!(definition["spec"]["names"]["plural"], super::plural(kind).as_str());
            }
        }
    }
}
