//! Keeps sets of keys up to date: which there have to be follows from the settings and from the
//! policies in force. The last good set stays in force when another cannot be read.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use eastwall_policy::model::KeysFrom;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{Instant, sleep_until, timeout};

use super::fetch::Fetcher;
use super::jwks::BadKeys;
use super::keys::{Keys, Source};
use crate::observe::Recorder;
use crate::policy::{Files, Live};

/// See the module.
pub(crate) struct Keeper {
    keys: Arc<Keys>,
    /// What the settings name.
    own: Vec<KeysFrom>,
    recorder: Recorder,
    /// The last failure of each: said once, not once for each attempt.
    told: Mutex<BTreeMap<KeysFrom, String>>,
}

/// Why a set was not read.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("cannot be fetched: {0}")]
    Fetch(#[from] super::fetch::Failure),
    #[error("{0}")]
    Keys(#[from] BadKeys),
}

impl Keeper {
    /// Reads what needs no network; [`Self::follow`] goes on.
    pub(crate) fn start(keys: &Arc<Keys>, own: Vec<KeysFrom>, live: &Live, recorder: &Recorder) -> Arc<Self> {
        let keeper = Arc::new(Self { keys: Arc::clone(keys), own, recorder: recorder.clone(), told: Mutex::default() });
        for from in keeper.wanted(live) {
            match &from {
                KeysFrom::Text(_) => keeper.hold(&from),
                KeysFrom::File(path) => {
                    keeper.hold(&from);
                    keeper.take(&from, keeper.read_file(path).map_err(Failure::from));
                }
                KeysFrom::Address(_) | KeysFrom::Issuer(_) => {}
            }
        }
        keeper
    }

    /// What the settings and the policies in force name.
    fn wanted(&self, live: &Live) -> Vec<KeysFrom> {
        let world = live.load();
        let named = world.model().policies.iter().flat_map(|policy| &policy.jwt_rules).map(|rule| rule.keys.clone());
        let mut wanted: Vec<KeysFrom> = self.own.iter().cloned().chain(named).collect();
        wanted.sort_unstable();
        wanted.dedup();
        wanted
    }

    /// Keeps sets in step with the policies in force, on a local runtime.
    pub(crate) async fn follow(self: Arc<Self>, live: Arc<Live>) {
        let mut swaps = live.swaps();
        let mut tasks: BTreeMap<KeysFrom, AbortHandle> = BTreeMap::new();
        let fetcher = Arc::new(Fetcher::new(&self.keys.limits));
        loop {
            swaps.borrow_and_update();
            let wanted = self.wanted(&live);
            tasks.retain(|from, task| {
                let stays = wanted.contains(from);
                if !stays {
                    task.abort();
                }
                stays
            });
            self.keys.change(|sources| sources.retain(|from, _| wanted.contains(from)));
            self.told.lock().unwrap_or_else(PoisonError::into_inner).retain(|from, _| wanted.contains(from));
            for from in wanted {
                if tasks.contains_key(&from) {
                    continue;
                }
                self.hold(&from);
                let (keeper, fetcher, kept) = (Arc::clone(&self), Arc::clone(&fetcher), from.clone());
                let task = match &from {
                    KeysFrom::Text(_) => continue,
                    KeysFrom::File(_) => spawn_local(async move { keeper.keep_file(&kept).await }),
                    KeysFrom::Address(_) | KeysFrom::Issuer(_) => {
                        spawn_local(async move { keeper.keep_fetched(&kept, &fetcher).await })
                    }
                };
                tasks.insert(from, task.abort_handle());
            }
            self.recorder.metrics().set_token_keys_missing(self.keys.missing());
            if swaps.changed().await.is_err() {
                return;
            }
        }
    }

    /// Has a place for a set; what is at hand is read at once.
    fn hold(&self, from: &KeysFrom) {
        let set = match from {
            KeysFrom::Text(text) => match self.keys.read(text.as_bytes()) {
                Ok(set) => Some(Arc::new(set)),
                Err(error) => {
                    tracing::error!(%error, "keys of tokens: a `jwks` in a policy is of no use");
                    None
                }
            },
            _ => None,
        };
        self.keys.change(|sources| {
            sources.entry(from.clone()).or_insert_with(|| Source { set: set.clone(), again: Arc::default() });
        });
    }

    /// Reads a file whenever it changes, as policies are read.
    async fn keep_file(&self, from: &KeysFrom) {
        let KeysFrom::File(path) = from else { return };
        let mut files = Files::new(vec![path.to_path_buf()]);
        loop {
            if files.differ() {
                self.take(from, self.read_file(path).map_err(Failure::from));
            }
            files.wait().await;
        }
    }

    /// Fetches a set again and again; sooner where a token names a key that is not there.
    async fn keep_fetched(&self, from: &KeysFrom, fetcher: &Fetcher) {
        let limits = &self.keys.limits;
        loop {
            let began = Instant::now();
            let fetched = match from {
                KeysFrom::Address(address) => fetcher.fetch(address).await,
                KeysFrom::Issuer(issuer) => fetcher.discover(issuer).await,
                KeysFrom::Text(_) | KeysFrom::File(_) => return,
            };
            let good = self.take(from, fetched.map_err(Failure::from));
            sleep_until(began + limits.jwks_retry).await;
            if good {
                let again = self.again(from);
                // Whatever comes first.
                let _ = timeout(limits.jwks_refresh.saturating_sub(limits.jwks_retry), again.notified()).await;
            }
        }
    }

    fn again(&self, from: &KeysFrom) -> Arc<Notify> {
        self.keys.notifier(from).unwrap_or_default()
    }

    /// Puts what was read in force, or says why it is not. What is in force is not replaced by the same, so that tokens
    /// that it has verified stay verified.
    fn take(&self, from: &KeysFrom, read: Result<Vec<u8>, Failure>) -> bool {
        let metrics = self.recorder.metrics();
        let made = read.and_then(|text| {
            if self.keys.find(from).is_some_and(|set| set.is_of(&text)) {
                return Ok(None);
            }
            Ok(Some(self.keys.read(&text)?))
        });
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if made.is_ok() && told.remove(from).is_some() {
            tracing::info!(from = shown(from), "keys of tokens are read again");
        }
        match made {
            Ok(Some(set)) => {
                tracing::info!(keys = set.len(), from = shown(from), "keys of tokens in force");
                self.keys.replace(from, &Arc::new(set));
                metrics.token_keys_read("success");
                metrics.set_token_keys_missing(self.keys.missing());
                true
            }
            Ok(None) => {
                metrics.token_keys_read("unchanged");
                true
            }
            Err(failure) => {
                metrics.token_keys_read("failure");
                let failure = failure.to_string();
                let before = told.insert(from.clone(), failure.clone());
                if before.as_ref() != Some(&failure) {
                    let in_force =
                        if self.keys.find(from).is_some() { "the last good ones stay" } else { "there are none" };
                    tracing::warn!(failure, from = shown(from), in_force, "keys of tokens were not read");
                }
                false
            }
        }
    }

    fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        // One byte beyond the bound shows that there is more.
        let most = self.keys.limits.jwks_bytes as u64 + 1;
        let mut text = Vec::new();
        std::fs::File::open(path)?.take(most).read_to_end(&mut text)?;
        Ok(text)
    }
}

fn shown(from: &KeysFrom) -> String {
    match from {
        KeysFrom::Text(_) => "a policy".into(),
        KeysFrom::File(path) => path.display().to_string(),
        KeysFrom::Address(address) => address.to_string(),
        KeysFrom::Issuer(issuer) => format!("the configuration of {issuer}"),
    }
}
