//! The source: watches of every kind that policies and identities depend on, taken into the [`Store`].
//!
//! A watch that breaks is taken up again, and what was known stays in force meanwhile: nothing is taken for gone because
//! the API server does not answer. Watches tell what they see over one bounded queue, so that a burst waits in the API
//! server and not in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use kube::Client;
use kube::core::ApiResource;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Event, watcher};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::cluster::{Change, Store};
use crate::metrics::Metrics;

mod definition;
mod failure;
mod trim;
mod watch;

pub(crate) use failure::Said;
pub(crate) use trim::object;

use definition::Definition;
use watch::{Kind, News};

/// Follows the cluster until a watch cannot go on, which ends the process: without it nothing is known any more.
pub(crate) async fn follow(client: Client, store: Arc<Store>, metrics: Arc<Metrics>) -> Result<(), String> {
    let (sender, mut queue) = mpsc::channel(QUEUE);
    let mut source = Source { client, store, metrics, sender, watches: JoinSet::new(), watched: BTreeMap::new() };
    definition::built_in().for_each(|resource| source.watch(resource));
    let mut definitions = Box::pin(
        watcher(definition::api(&source.client), watch::config())
            .modify(definition::trim)
            .backoff(watch::Pause::default()),
    );
    let mut installed = Installed::default();
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        tokio::select! {
            // What changes the kinds comes before what is told of them.
            biased;
            ended = source.watches.join_next(), if !source.watches.is_empty() => match ended {
                Some(Err(error)) if error.is_cancelled() => {}
                _ => return Err("a watch of the API server has ended".to_owned()),
            },
            event = definitions.next() => match event {
                Some(Ok(event)) => {
                    if let Some(kinds) = installed.take(event) {
                        source.watch_these(kinds);
                    }
                }
                Some(Err(error)) => watch::tell_break("CustomResourceDefinition", &error, &source.metrics),
                None => return Err("the watch of the installed kinds has ended".to_owned()),
            },
            told = queue.recv_many(&mut batch, BATCH) => {
                if told == 0 {
                    return Ok(());
                }
                source.take(batch.drain(..), installed.listed);
            }
        }
    }
}

struct Source {
    client: Client,
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    sender: mpsc::Sender<News>,
    watches: JoinSet<()>,
    watched: BTreeMap<Kind, Watched>,
}

struct Watched {
    task: AbortHandle,
    is_built_in: bool,
    is_listed: bool,
    /// Other versions of the same kind, which hold until this one is listed.
    instead_of: Vec<Kind>,
}

impl Source {
    fn watch(&mut self, resource: ApiResource) {
        let kind = Kind::of(&resource);
        let (client, sender, metrics) = (self.client.clone(), self.sender.clone(), Arc::clone(&self.metrics));
        let is_built_in = definition::built_in().any(|one| one == resource);
        let task = self.watches.spawn(watch::follow(client, resource, sender, metrics));
        self.watched.insert(kind, Watched { task, is_built_in, is_listed: false, instead_of: Vec::new() });
    }

    /// Begins and ends watches, so that these kinds and the built-in ones are followed.
    fn watch_these(&mut self, resources: Vec<ApiResource>) {
        let wanted: BTreeSet<Kind> = resources.iter().map(Kind::of).collect();
        let gone = self.watched.extract_if(.., |kind, watched| !watched.is_built_in && !wanted.contains(kind));
        let gone: Vec<Kind> = gone.map(|(kind, watched)| (kind, watched.task.abort()).0).collect();
        for resource in resources {
            if !self.watched.contains_key(&Kind::of(&resource)) {
                tracing::info!(kind = %Kind::of(&resource), "the kind is installed: its objects are watched");
                self.watch(resource);
            }
        }
        for kind in gone {
            match self.watched.iter_mut().find(|(other, _)| other.is_version_of(&kind)) {
                // Policies must not be away while the other version is listed.
                Some((_, watched)) if !watched.is_listed => watched.instead_of.push(kind),
                Some(_) => self.store.apply([none_of(kind)]),
                None => {
                    tracing::warn!(%kind, "the kind is no longer installed: its objects are gone");
                    self.store.apply([none_of(kind)]);
                }
            }
        }
        // The last kind that was waited for may be gone.
        self.settle(true);
        self.count();
    }

    /// Takes what the watches told into the store.
    fn take(&mut self, batch: impl Iterator<Item = News>, knows_the_kinds: bool) {
        let mut changes = Vec::new();
        let mut times = Vec::new();
        for news in batch {
            // A watch that was ended may have told something before.
            let Some(watched) = self.watched.get_mut(&news.kind) else { continue };
            if matches!(news.change, Change::Replace { .. }) {
                watched.is_listed = true;
                changes.extend(watched.instead_of.drain(..).map(none_of));
            }
            self.metrics.changed(&news.kind.kind, &news.change);
            times.push(news.seen);
            changes.push(news.change);
        }
        self.store.apply(changes);
        times.into_iter().for_each(|seen: Instant| self.metrics.queued(seen.elapsed()));
        self.settle(knows_the_kinds);
        self.count();
    }

    fn count(&self) {
        self.metrics.holds(&self.store.load(), self.watched.keys().map(|kind| &*kind.kind));
    }

    fn settle(&self, knows_the_kinds: bool) {
        if knows_the_kinds && self.watched.values().all(|watched| watched.is_listed) && !self.store.load().complete {
            tracing::info!(kinds = self.watched.len(), "the whole cluster was read once");
            self.store.complete();
        }
    }
}

fn none_of(kind: Kind) -> Change {
    Change::Replace { api_version: kind.api_version, kind: kind.kind, objects: Vec::new() }
}

/// The definitions that are there, as far as the compiler reads their kinds.
#[derive(Default)]
struct Installed {
    by_name: BTreeMap<String, ApiResource>,
    /// During a list: what it has told so far.
    list: Option<BTreeMap<String, ApiResource>>,
    listed: bool,
}

impl Installed {
    /// The kinds that are installed now, where that may have changed.
    fn take(&mut self, event: Event<Definition>) -> Option<Vec<ApiResource>> {
        match event {
            Event::Init => {
                self.list = Some(BTreeMap::new());
                return None;
            }
            Event::InitApply(definition) => {
                if let (Some(list), Some((name, resource))) = (&mut self.list, definition::resource(&definition)) {
                    list.insert(name, resource);
                }
                return None;
            }
            Event::InitDone => {
                self.by_name = self.list.take().unwrap_or_default();
                self.listed = true;
            }
            Event::Apply(definition) => match definition::resource(&definition) {
                Some((name, resource)) => {
                    self.by_name.insert(name, resource);
                }
                None => {
                    self.by_name.remove(&definition.metadata.name.unwrap_or_default());
                }
            },
            Event::Delete(definition) => {
                self.by_name.remove(&definition.metadata.name.unwrap_or_default());
            }
        }
        Some(self.by_name.values().cloned().collect())
    }
}

/// Changes that wait to be taken: beyond them the watches wait.
const QUEUE: usize = 1_024;

/// Changes that are taken at once: followers of the store see one state for all of them.
const BATCH: usize = 512;

/// How long one call of a watch lasts; a connection that died silently is noticed a little later.
const WATCH: Duration = Duration::from_secs(60);
