//! Where the process stands between its start and its end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::watch;

use crate::identity::Identities;
use crate::intercept::{Node, Successor};
use crate::policy::Live;

/// Shared by whoever wires the process and the admin server.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    listening: AtomicBool,
    successor: OnceLock<Successor>,
    draining: watch::Sender<bool>,
    unserved: Mutex<Unserved>,
    identities: Option<Arc<Identities>>,
    /// Whose pods these are of, where they are not the process's own.
    pods: Option<(Arc<Node>, Arc<Live>)>,
}

/// Pods (`namespace/name`) that could not be served, and why.
pub(crate) type Unserved = BTreeMap<Arc<str>, String>;

impl Lifecycle {
    /// Before the first listener. `identities` are to be proven before the process is ready, unless they are of the
    /// pods of a node that has none.
    pub(crate) fn new(identities: Option<Arc<Identities>>, pods: Option<(Arc<Node>, Arc<Live>)>) -> Self {
        Self {
            listening: AtomicBool::new(false),
            successor: OnceLock::new(),
            draining: watch::Sender::new(false),
            unserved: Mutex::default(),
            identities,
            pods,
        }
    }

    /// Whether there is nothing to prove, or something to prove it with.
    pub(crate) fn has_identity(&self) -> bool {
        let nobody_needs_one =
            || self.pods.as_ref().is_some_and(|(node, live)| node.workloads(&live.load()).is_empty());
        self.identities.as_ref().is_none_or(|identities| identities.is_ready() || nobody_needs_one())
    }

    /// Every listener is open: readiness depends on the table alone from now on.
    pub(crate) fn listens(&self) {
        self.listening.store(true, Ordering::Release);
    }

    /// Who could not be served, in place of what was said before. Gives that back.
    pub(crate) fn unserved_are(&self, pods: Unserved) -> Unserved {
        std::mem::replace(&mut self.unserved.lock().unwrap_or_else(PoisonError::into_inner), pods)
    }

    /// Who could not be served.
    pub(super) fn unserved(&self) -> Unserved {
        self.unserved.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The next process serves: what is in flight here is drained, and the listeners are its own.
    pub(crate) fn hand_over(&self, successor: Successor) {
        self.successor.get_or_init(|| successor);
        self.drain();
    }

    /// Whose the listeners are by now, if not those of this process.
    pub(crate) fn successor(&self) -> Option<Successor> {
        self.successor.get().copied()
    }

    /// Asks for the drain: `POST /drain`, or a signal.
    pub(crate) fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Returns when the drain is asked for.
    pub(crate) async fn drain_asked(&self) {
        // The sender is ours: it cannot be gone.
        let _ = self.draining.subscribe().wait_for(|draining| *draining).await;
    }

    pub(super) fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Acquire)
    }

    pub(super) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }
}
