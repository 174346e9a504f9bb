//! Follows one controller after the other, for as long as the process runs.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;

use super::State;
use super::connect::Channel;
use super::follow::{self, Ended};
use super::identity::Identities;
use super::retry::Retry;
use super::settings::Following;
use super::silence::Silence;
use crate::observe::Recorder;
use crate::policy::{Live, Reloader};

/// What a follower keeps from one connection to the next.
pub(super) struct Keep {
    pub(super) following: Following,
    pub(super) state: State,
    pub(super) live: Arc<Live>,
    pub(super) reloader: Reloader,
    pub(super) identities: Identities,
    pub(super) silence: Arc<Silence>,
    /// `namespace/name` of the pods whose traffic comes here; of a node's proxy.
    pub(super) captured: Option<watch::Receiver<BTreeSet<Arc<str>>>>,
    recorder: Recorder,
}

impl Keep {
    pub(super) fn new(
        following: Following,
        state: State,
        live: Arc<Live>,
        reloader: Reloader,
        recorder: &Recorder,
        captured: Option<watch::Receiver<BTreeSet<Arc<str>>>>,
    ) -> Self {
        let identities = Identities::new(&following.state, &following.serves);
        let silence = Arc::new(Silence::new(following.max_staleness, state.silence()));
        Self { following, state, live, reloader, identities, silence, captured, recorder: recorder.clone() }
    }

    pub(super) async fn run(mut self) {
        let (silence, recorder, reloader) = (Arc::clone(&self.silence), self.recorder.clone(), self.reloader.clone());
        let watched = async move { silence.watch(&recorder, &reloader).await };
        tokio::select! {
            () = watched => {}
            () = self.follow() => {}
        }
    }

    async fn follow(&mut self) {
        let mut retry = Retry::new(self.following.addresses.clone());
        let mut told = String::new();
        loop {
            let address = retry.address();
            let ended = match Channel::connect(&self.following, &address).await {
                Ok(channel) => follow::run(self, channel, || retry.answered()).await,
                Err(failure) => Ended { why: failure.to_string() },
            };
            // Said once, not once for each attempt.
            if ended.why == told {
                tracing::debug!(%address, why = ended.why, "the controller is not followed");
            } else {
                tracing::warn!(%address, why = ended.why, "the controller is not followed: what it said last stays");
                told = ended.why;
            }
            tokio::time::sleep(retry.wait()).await;
        }
    }
}
