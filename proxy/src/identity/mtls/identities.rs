//! The identities that this proxy can prove, and whom it believes: one state, replaced whole.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use super::peer::Peer;
use super::svid::Svid;
use super::trust::{Side, Trust};

/// See the module.
#[derive(Debug)]
pub(crate) struct Identities {
    whose: Whose,
    state: ArcSwap<State>,
    /// Counts changes of trust: [`State::trust_number`] of the state in force.
    trust_number: AtomicU64,
}

/// Whose identities they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// One: of the workload that the proxy stands in front of.
    Own,
    /// One a service account: of the pods of a node.
    Pods,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// The first is the default one.
    pub(super) svids: Vec<Arc<Svid>>,
    pub(super) trust: Arc<Trust>,
    trust_number: u64,
}

// === impl Identities ===

impl Identities {
    /// Nobody is anybody yet.
    pub(crate) fn new(whose: Whose) -> Arc<Self> {
        Arc::new(Self { whose, state: ArcSwap::default(), trust_number: AtomicU64::new(0) })
    }

    /// Whose they are.
    pub(super) fn whose(&self) -> Whose {
        self.whose
    }

    /// What the workload with this SPIFFE id shows; `None`: it has nothing to show, or not yet.
    pub(crate) fn of(&self, spiffe_id: impl FnOnce() -> Option<String>) -> Option<Arc<Svid>> {
        let state = self.state.load();
        match self.whose {
            Whose::Own => state.svids.first().cloned(),
            Whose::Pods => {
                let wanted = spiffe_id()?;
                state.svids.iter().find(|svid| *svid.principal == *wanted).cloned()
            }
        }
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<Svid>> {
        self.state.load().svids.clone()
    }

    /// Changes whenever somebody is believed no more, or anew.
    ///
    /// PERF: asked by each worker, once a second.
    pub(crate) fn trust_number(&self) -> u64 {
        self.trust_number.load(Ordering::Acquire)
    }

    /// Whether a peer of before is believed no more. `seen` is the trust that it was asked about last: where that is in
    /// force, nothing is asked.
    pub(crate) fn has_lost(&self, peer: &Peer, is_client: bool, seen: &mut u64) -> bool {
        let current = self.trust_number();
        if current == std::mem::replace(seen, current) || self.still_believes(peer, is_client) {
            return false;
        }
        tracing::info!(principal = %peer.principal, "cut: the peer's certificate is believed no more");
        true
    }

    fn still_believes(&self, peer: &Peer, is_client: bool) -> bool {
        let side = if is_client { Side::Client } else { Side::Server };
        self.state.load().trust.still_believes(peer, side)
    }

    /// Whether there is an identity at all.
    pub(crate) fn is_ready(&self) -> bool {
        !self.state.load().svids.is_empty()
    }

    /// Puts others in force. Returns whether somebody else is believed than before.
    pub(super) fn replace(&self, svids: Vec<Arc<Svid>>, trust: Arc<Trust>) -> bool {
        let before = self.state.load();
        let changes = !before.trust.is_same(&trust);
        let trust_number = before.trust_number + u64::from(changes);
        self.state.store(Arc::new(State { svids, trust, trust_number }));
        self.trust_number.store(trust_number, Ordering::Release);
        changes
    }
}

/// By principal, the earliest end last: of two of one workload the one that lives longer is shown.
pub(super) fn in_order(svids: Vec<Arc<Svid>>) -> Vec<Arc<Svid>> {
    let mut best: BTreeMap<Arc<str>, Arc<Svid>> = BTreeMap::new();
    for svid in svids {
        let held = best.entry(Arc::clone(&svid.principal)).or_insert_with(|| Arc::clone(&svid));
        if held.not_after < svid.not_after {
            *held = svid;
        }
    }
    best.into_values().collect()
}
