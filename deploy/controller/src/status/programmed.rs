//! How far the proxies have come with the policies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::cluster::Key;

/// How far the proxies of one replica have come, or those of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Programmed {
    /// Of each policy of the native kinds, those that concern no proxy included.
    pub policies: BTreeMap<Key, Progress>,
    /// Pods, by namespace and name, before which a proxy stands that has spoken of a slice.
    pub served: BTreeSet<(Arc<str>, Arc<str>)>,
    /// Nodes whose own proxy has.
    pub nodes: BTreeSet<Arc<str>>,
    /// Some replica says nothing that is understood: there may be more.
    pub is_partial: bool,
}

/// Proxies that should have a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The generation that is asked for.
    pub generation: i64,
    /// How many should have it.
    pub proxies: usize,
    /// How many of them do not have it in force yet.
    pub behind: usize,
    /// The names of some that do not.
    pub named: Vec<Arc<str>>,
    /// Replicas that have not said how their proxies stand with this generation.
    pub silent: Vec<Arc<str>>,
}

impl Progress {
    /// One more proxy; `behind`: its name, where it does not have the policy in force.
    pub(crate) fn add(&mut self, behind: Option<&Arc<str>>) {
        self.proxies += 1;
        if let Some(name) = behind {
            self.behind += 1;
            self.named.extend((self.named.len() < NAMED).then(|| Arc::clone(name)));
        }
    }
}

impl Programmed {
    /// Adds what another replica says; `None`: it says nothing that is understood.
    pub(crate) fn join(&mut self, replica: &Arc<str>, says: Option<&Self>) {
        match says {
            Some(Self { served, nodes, is_partial, .. }) => {
                self.served.extend(served.iter().cloned());
                self.nodes.extend(nodes.iter().cloned());
                self.is_partial |= is_partial;
            }
            None => self.is_partial = true,
        }
        for (key, progress) in &mut self.policies {
            match says.and_then(|says| says.policies.get(key)) {
                // Of an older or a newer one.
                Some(said) if said.generation != progress.generation => progress.silent.push(Arc::clone(replica)),
                Some(said) => {
                    progress.proxies += said.proxies;
                    progress.behind += said.behind;
                    let room = NAMED.saturating_sub(progress.named.len());
                    progress.named.extend(said.named.iter().take(room).cloned());
                }
                None => progress.silent.push(Arc::clone(replica)),
            }
        }
    }
}

/// Proxies that are named.
const NAMED: usize = 5;
