//! Where identities come from, and keeping them up to date. What cannot be read leaves the last good ones in force.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::delegated::{self, Pods, Said};
use super::files::{self, Bundle};
use super::identities::{self, Identities, Whose};
use super::svid::{KeyPair, Svid};
use super::trust::Trust;
use super::workload_api;
use crate::observe::Recorder;
use crate::policy::Files;

/// Where identities come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IdentitySource {
    /// A folder, and authorities of other trust domains.
    Folder(PathBuf, Vec<Bundle>),
    /// The socket of a SPIFFE Workload API.
    WorkloadApi(String),
    /// The admin socket of a SPIRE agent.
    Delegated(PathBuf),
}

/// What a source has, before it is in force.
#[derive(Debug, Default)]
pub(super) struct Material {
    /// Each with where it is from.
    pub(super) pairs: Vec<(String, KeyPair)>,
    pub(super) trust: Trust,
    /// What there is no identity of, and why: the last one is not kept.
    pub(super) refused: BTreeMap<String, String>,
}

/// Keeps identities in step with their source for ever. `pods`: those that are served, for a source that is asked for each.
pub(crate) async fn follow(
    source: IdentitySource,
    identities: Arc<Identities>,
    pods: Option<Pods>,
    recorder: Recorder,
) -> Infallible {
    let mut keeper = Keeper { identities, recorder, told: BTreeMap::new(), held: BTreeMap::new() };
    match source {
        IdentitySource::Folder(folder, bundles) => keeper.follow_files(folder, &bundles).await,
        IdentitySource::WorkloadApi(socket) => keeper.follow_agent(&socket).await,
        IdentitySource::Delegated(socket) => match pods {
            Some(pods) => keeper.follow_delegated(&socket, pods).await,
            None => std::future::pending().await,
        },
    }
}

struct Keeper {
    identities: Arc<Identities>,
    recorder: Recorder,
    /// The last failure of each: said once, not once for each attempt.
    told: BTreeMap<String, String>,
    /// The last good identity of each place.
    held: BTreeMap<String, Arc<Svid>>,
}

impl Keeper {
    async fn follow_files(&mut self, folder: PathBuf, bundles: &[Bundle]) -> Infallible {
        let paths: Vec<PathBuf> =
            std::iter::once(folder.clone()).chain(bundles.iter().map(|one| one.file.clone())).collect();
        let mut watched = Files::new(paths);
        loop {
            if watched.differ() {
                let (material, failures) = files::read(&folder, self.identities.whose(), bundles);
                let is_whole = failures.is_empty();
                if !is_whole {
                    watched.read_again();
                }
                self.tell(failures.iter().map(|failure| (failure.to_string(), failure.to_string())).collect());
                self.take(material, is_whole);
            }
            self.recorder.metrics().set_identity_ends(&self.identities);
            watched.wait().await;
        }
    }

    async fn follow_agent(&mut self, socket: &str) -> Infallible {
        let mut pause = PAUSE_LEAST;
        loop {
            let began = Instant::now();
            let ended = workload_api::follow(socket, |material| self.take_streamed(material)).await;
            let failure = match ended {
                Ok(()) => "the agent has ended the stream".to_owned(),
                Err(failure) => failure.to_string(),
            };
            pause = self.broken_off(socket, failure, (began, pause));
            sleep(pause).await;
        }
    }

    async fn follow_delegated(&mut self, socket: &Path, mut pods: Pods) -> Infallible {
        let mut said = Said::default();
        let mut pause = PAUSE_LEAST;
        loop {
            let began = Instant::now();
            let ended = delegated::follow(socket, &mut pods, &mut said, |material| self.take_streamed(material)).await;
            let Err(failure) = ended;
            pause = self.broken_off(&socket.display().to_string(), failure.to_string(), (began, pause));
            sleep(pause).await;
        }
    }

    fn take_streamed(&mut self, material: Material) {
        self.take(material, true);
        self.recorder.metrics().set_identity_ends(&self.identities);
    }

    /// How long to wait before the agent is called again.
    fn broken_off(&mut self, socket: &str, failure: String, (began, pause): (Instant, Duration)) -> Duration {
        self.tell(BTreeMap::from([(socket.to_owned(), failure)]));
        self.recorder.metrics().identity_read("failure");
        if began.elapsed() > PAUSE_MOST { PAUSE_LEAST } else { (pause * 2).min(PAUSE_MOST) }
    }

    /// Puts in force what is good of it. Where something could not be read, authorities that were believed stay so: who
    /// was trusted is not forgotten for a file that is being written.
    fn take(&mut self, material: Material, is_whole: bool) {
        let Material { pairs, trust, refused } = material;
        if trust.is_empty() || (!is_whole && !self.held.is_empty()) {
            self.recorder.metrics().identity_read("failure");
            return;
        }
        let trust = Arc::new(trust);
        let mut failures = refused;
        let mut good = BTreeMap::new();
        for (place, pair) in pairs {
            match Svid::new(pair, &trust) {
                Ok(svid) => drop(good.insert(place, Arc::new(svid))),
                Err(error) => {
                    let last = self.held.get(&place).map(Arc::clone);
                    failures.insert(place.clone(), error.to_string());
                    good.extend(last.map(|last| (place, last)));
                }
            }
        }
        let result = if failures.is_empty() { "success" } else { "partial" };
        self.recorder.metrics().identity_read(result);
        self.tell(failures);
        let svids: Vec<Arc<Svid>> = good.values().cloned().collect();
        let svids = match self.identities.whose() {
            Whose::Own => svids,
            Whose::Pods => identities::in_order(svids),
        };
        for svid in &svids {
            let is_new =
                !self.held.values().any(|held| held.principal == svid.principal && held.not_after == svid.not_after);
            if is_new {
                tracing::info!(principal = %svid.principal, hours = svid.remaining().as_secs() / 3600, "an identity is in force");
            }
        }
        self.held = good;
        let domains: Vec<&str> = trust.domains().collect();
        let domains = domains.join(", ");
        if self.identities.replace(svids, trust) {
            tracing::info!(domains, "authorities that are believed have changed");
        }
    }

    fn tell(&mut self, failures: BTreeMap<String, String>) {
        for (place, failure) in &failures {
            if self.told.get(place) != Some(failure) {
                let in_force = if self.held.is_empty() { "there is no identity" } else { "the last good one stays" };
                tracing::warn!(place, failure, in_force, "an identity was not read");
            }
        }
        self.told = failures;
    }
}

/// From one attempt at the agent's socket to the next.
const PAUSE_LEAST: Duration = Duration::from_millis(250);
const PAUSE_MOST: Duration = Duration::from_secs(10);
