//! One kind, followed from its list on.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use kube::core::{ApiResource, DynamicObject};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Config, DefaultBackoff, Event, watcher};
use kube::{Api, Client};
use tokio::sync::mpsc;

use super::failure::Broke;
use super::{WATCH, trim};
use crate::cluster::{Change, Object};
use crate::metrics::Metrics;

/// Group and version, and kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    pub(super) api_version: Arc<str>,
    pub(super) kind: Arc<str>,
}

impl Kind {
    pub(super) fn of(resource: &ApiResource) -> Self {
        Self { api_version: resource.api_version.as_str().into(), kind: resource.kind.as_str().into() }
    }

    pub(super) fn is_version_of(&self, other: &Self) -> bool {
        let group = |kind: &Self| kind.api_version.rsplit_once('/').map(|(group, _)| group.to_owned());
        self.kind == other.kind && group(self) == group(other)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.api_version, self.kind)
    }
}

/// What a watch tells.
pub(super) struct News {
    pub(super) kind: Kind,
    pub(super) change: Change,
    /// When it was told.
    pub(super) seen: Instant,
}

/// Lists in pages, then watches; a call ends after [`WATCH`] and goes on where it was.
pub(super) fn config() -> Config {
    Config::default().timeout(u32::try_from(WATCH.as_secs()).unwrap_or(u32::MAX))
}

/// How long a watch that broke is left alone: as is usual, but never for long.
#[derive(Default)]
pub(super) struct Pause(DefaultBackoff);

impl Iterator for Pause {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next().map(|pause| pause.min(LONGEST))
    }
}

impl Backoff for Pause {
    fn reset(&mut self) {
        self.0.reset();
    }
}

/// An API server that comes back refuses twice: it does not know anybody's rights yet, and then not what was read before.
/// What is applied to it waits for as long as this each time. It is short for the few controllers that there are.
const LONGEST: Duration = Duration::from_secs(4);

/// Tells what becomes of a kind, for ever: breaks are waited out.
pub(super) async fn follow(client: Client, resource: ApiResource, queue: mpsc::Sender<News>, metrics: Arc<Metrics>) {
    let kind = Kind::of(&resource);
    let api: Api<DynamicObject> = Api::all_with(client, &resource);
    let stream = watcher(api, config()).modify(|object| trim::trim(&resource, object)).backoff(Pause::default());
    let mut stream = std::pin::pin!(stream);
    let mut listed = Vec::new();
    while let Some(event) = stream.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                tell_break(&kind.kind, &error, &metrics);
                continue;
            }
        };
        metrics.watch_told(&kind.kind);
        let change = match change(&kind, &resource, event, &mut listed) {
            Some(change) => change,
            None => continue,
        };
        if queue.send(News { kind: kind.clone(), change, seen: Instant::now() }).await.is_err() {
            return;
        }
    }
}

/// Tells that a watch broke; it is taken up again by itself.
pub(super) fn tell_break(kind: &str, error: &watcher::Error, metrics: &Metrics) {
    tracing::warn!(kind, error = %Broke(error), "a watch broke: what is known stays in force, and it is tried again");
    metrics.watch_broke(kind);
}

/// What an event changes; the parts of a list are gathered first.
fn change(
    kind: &Kind,
    resource: &ApiResource,
    event: Event<DynamicObject>,
    listed: &mut Vec<Object>,
) -> Option<Change> {
    match event {
        Event::Init => {
            listed.clear();
            None
        }
        Event::InitApply(object) => {
            listed.extend(trim::object(resource, object));
            None
        }
        Event::InitDone => Some(Change::Replace {
            api_version: Arc::clone(&kind.api_version),
            kind: Arc::clone(&kind.kind),
            objects: std::mem::take(listed),
        }),
        Event::Apply(object) => trim::object(resource, object).map(Change::Put),
        Event::Delete(object) => trim::object(resource, object).map(|object| Change::Delete(object.key)),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::GroupVersionKind;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_watch_is_never_left_alone_for_long() {
        let mut pause = Pause::default();
        let pauses: Vec<Duration> = pause.by_ref().take(20).collect();
        assert!(pauses[0] < LONGEST && pauses[10..].iter().all(|pause| *pause == LONGEST), "{pauses:?}");
        pause.reset();
        assert!(pause.next().unwrap() < LONGEST);
    }

    #[test]
    fn a_list_is_told_whole_and_an_event_alone() {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Pod"));
        let kind = Kind::of(&resource);
        let pod = |name: &str| -> DynamicObject {
            serde_json::from_value(json!({"metadata": {"name": name, "namespace": "n", "uid": "u"}, "spec": {}}))
                .unwrap()
        };
        let mut listed = Vec::new();
        let mut tell = |event| change(&kind, &resource, event, &mut listed);
        assert!(tell(Event::Init).is_none());
        assert!(tell(Event::InitApply(pod("a"))).is_none());
        // The list broke off and begins anew.
        assert!(tell(Event::Init).is_none());
        assert!(tell(Event::InitApply(pod("b"))).is_none());
        assert!(tell(Event::InitApply(pod("c"))).is_none());
        let Some(Change::Replace { objects, .. }) = tell(Event::InitDone) else { panic!("a list") };
        assert_eq!(objects.iter().map(|one| &*one.key.name).collect::<Vec<_>>(), ["b", "c"]);
        assert!(matches!(tell(Event::Apply(pod("d"))), Some(Change::Put(one)) if &*one.key.kind == "Pod"));
        assert!(matches!(tell(Event::Delete(pod("d"))), Some(Change::Delete(key)) if &*key.name == "d"));
    }
}
