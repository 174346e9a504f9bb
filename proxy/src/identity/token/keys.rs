//! The sets of keys in force: read by every worker, written by the [`super::Keeper`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use eastwall_policy::model::KeysFrom;
use tokio::sync::Notify;

use super::TokenLimits;
use super::jwks::{BadKeys, KeySet};

/// See the module.
#[derive(Debug)]
pub(crate) struct Keys {
    sources: ArcSwap<BTreeMap<KeysFrom, Source>>,
    /// How often a set has been replaced.
    replaced: AtomicU64,
    pub(super) limits: TokenLimits,
}

/// One set, and whoever keeps it up to date.
#[derive(Clone, Debug, Default)]
pub(super) struct Source {
    /// The last good one.
    pub(super) set: Option<Arc<KeySet>>,
    /// Asks for another reading; asking twice is asking once.
    pub(super) again: Arc<Notify>,
}

impl Keys {
    /// No key is known yet.
    pub(crate) fn new(limits: TokenLimits) -> Arc<Self> {
        Arc::new(Self { sources: ArcSwap::default(), replaced: AtomicU64::new(0), limits })
    }

    /// The set in force. `None`: it was never read.
    pub(super) fn find(&self, from: &KeysFrom) -> Option<Arc<KeySet>> {
        let set = self.sources.load().get(from).and_then(|source| source.set.clone());
        match from {
            // A swap of policies is seen here before the keeper sees it, and the text is at hand.
            KeysFrom::Text(text) if set.is_none() => self.read(text.as_bytes()).ok().map(Arc::new),
            _ => set,
        }
    }

    /// A token names a key that is not in the set: there may be a newer one. Waits for nothing.
    pub(super) fn look_again(&self, from: &KeysFrom) {
        if let Some(source) = self.sources.load().get(from) {
            source.again.notify_one();
        }
    }

    /// What [`Self::look_again`] tells.
    pub(super) fn notifier(&self, from: &KeysFrom) -> Option<Arc<Notify>> {
        self.sources.load().get(from).map(|source| Arc::clone(&source.again))
    }

    /// Reads a set within the bounds.
    pub(super) fn read(&self, text: &[u8]) -> Result<KeySet, BadKeys> {
        KeySet::read(text, self.limits.jwks_bytes, self.limits.jwks_keys)
    }

    /// Puts another set in force, unless nobody wants it any more.
    pub(super) fn replace(&self, from: &KeysFrom, set: &Arc<KeySet>) {
        self.change(|sources| {
            if let Some(source) = sources.get_mut(from) {
                source.set = Some(Arc::clone(set));
            }
        });
        self.replaced.fetch_add(1, Ordering::Release);
    }

    /// How often a set has been replaced.
    pub(super) fn replaced(&self) -> u64 {
        self.replaced.load(Ordering::Acquire)
    }

    /// Changes which sets there are, whole.
    pub(super) fn change(&self, change: impl Fn(&mut BTreeMap<KeysFrom, Source>)) {
        self.sources.rcu(|held| {
            let mut next = BTreeMap::clone(held);
            change(&mut next);
            next
        });
    }

    /// How many sets were never read.
    pub(super) fn missing(&self) -> usize {
        self.sources.load().values().filter(|source| source.set.is_none()).count()
    }
}
