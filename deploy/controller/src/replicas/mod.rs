//! What the replicas tell each other: proxies follow any of them, and the one that leads writes statuses for all.
//!
//! Each replica keeps its own entry of one ConfigMap up to date: what its proxies have acknowledged. An entry that is not
//! renewed any more is its replica's no longer, and counts for nothing.

mod entries;
mod share;

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PostParams};
use kube::{Api, Client};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::kubernetes::Said;
use crate::metrics::Metrics;
use crate::status::Programmed;

use entries::Entries;
use share::Share;

/// How a replica tells the others.
#[derive(Clone, Debug)]
pub(crate) struct Telling {
    pub(crate) namespace: String,
    pub(crate) configmap: String,
    /// Of this replica alone.
    pub(crate) identity: String,
    /// An entry that was not renewed for this long counts no more.
    pub(crate) patience: Duration,
    /// Bytes of one entry.
    pub(crate) most: usize,
}

/// What an exchange reads and writes.
pub(crate) struct Ends {
    /// How far the proxies of this replica have come.
    pub(crate) own: watch::Receiver<Programmed>,
    /// How far those of all replicas have.
    pub(crate) all: watch::Sender<Programmed>,
    pub(crate) leads: watch::Receiver<bool>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) ending: watch::Receiver<bool>,
}

impl Telling {
    /// Between two calls of the API server, and so between two writes.
    fn round(&self) -> Duration {
        self.patience / 8
    }

    fn renew(&self) -> Duration {
        self.patience / 3
    }
}

/// Tells and listens until `ending`, then takes its entry out.
pub(crate) async fn exchange(client: Client, telling: Telling, mut ends: Ends) {
    let api: Api<ConfigMap> = Api::namespaced(client, &telling.namespace);
    let mut rounds = tokio::time::interval(telling.round());
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut entries = Entries::new(telling.identity.clone(), telling.patience);
    let mut written: Option<Instant> = None;
    let mut is_news = true;
    loop {
        let is_round = tokio::select! {
            _ = rounds.tick() => true,
            changed = ends.own.changed() => match changed {
                Ok(()) => false,
                Err(_) => break,
            },
            _ = ends.ending.wait_for(|ending| *ending) => break,
        };
        is_news |= !is_round;
        let own = ends.own.borrow_and_update().clone();
        if is_round {
            let is_due = is_news || written.is_none_or(|at| at.elapsed() >= telling.renew());
            let dead = if *ends.leads.borrow() { entries.dead() } else { Vec::new() };
            let call = async {
                match is_due {
                    true => put(&api, &telling, &own, &dead).await,
                    false => api.get_opt(&telling.configmap).await.map(Option::unwrap_or_default),
                }
            };
            match tokio::time::timeout(telling.renew(), call).await {
                Ok(Ok(map)) => {
                    if is_due {
                        (written, is_news) = (Some(Instant::now()), false);
                        ends.metrics.told_replicas("success");
                    }
                    entries.read(map.data.unwrap_or_default(), Instant::now());
                }
                failed => {
                    ends.metrics.told_replicas("error");
                    let why = failed.map_or_else(
                        |late| late.to_string(),
                        |made| match made {
                            Ok(_) => String::new(),
                            Err(error) => Said(&error).to_string(),
                        },
                    );
                    tracing::warn!(why, configmap = telling.configmap, "the other replicas could not be told");
                }
            }
        }
        let all = entries.and(own);
        ends.all.send_if_modified(|held| {
            let differs = *held != all;
            *held = all;
            differs
        });
    }
    let gone = Patch::Merge(json!({"data": {&telling.identity: null}}));
    let _ = tokio::time::timeout(telling.renew(), api.patch(&telling.configmap, &Default::default(), &gone)).await;
}

/// Writes the entry of this replica, and takes out those of the dead; all of them as they are then.
async fn put(
    api: &Api<ConfigMap>,
    telling: &Telling,
    own: &Programmed,
    dead: &[String],
) -> Result<ConfigMap, kube::Error> {
    let mut data: Map<String, Value> = dead.iter().map(|identity| (identity.clone(), Value::Null)).collect();
    data.insert(telling.identity.clone(), Share::of(own).text(telling.most).into());
    let patched = api.patch(&telling.configmap, &Default::default(), &Patch::Merge(json!({"data": data}))).await;
    match patched {
        Err(kube::Error::Api(status)) if status.code == 404 => {
            let mut map = ConfigMap::default();
            map.metadata.name = Some(telling.configmap.clone());
            map.metadata.labels = Some([("app.kubernetes.io/part-of".to_owned(), "eastwall".to_owned())].into());
            let text = data.get(&telling.identity).and_then(Value::as_str).unwrap_or_default().to_owned();
            map.data = Some([(telling.identity.clone(), text)].into());
            api.create(&PostParams::default(), &map).await
        }
        patched => patched,
    }
}
