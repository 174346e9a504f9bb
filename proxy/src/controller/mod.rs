//! Following a controller: its slice of the cluster becomes the files that the sources read, and the pods that this
//! proxy serves get their certificates.
//!
//! Nothing here judges. Files are swapped whole and the policy thread is asked to read them, so that what holds for
//! files holds here too: a bad document keeps its last good version, and a restart without a controller goes on with
//! what was there.

mod connect;
mod follow;
mod identity;
mod keep;
mod retry;
mod settings;
mod silence;
mod state;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use tokio::sync::watch;

use crate::observe::Recorder;
use crate::policy::{Live, Reloader};

pub(crate) use settings::{ControllerSettings, Following};
pub(crate) use state::State;

/// Follows on a thread of its own until the process ends. `state`: what was there at the start; `captured`: the pods of a
/// node whose traffic comes here, where this is the proxy of a node.
pub(crate) fn start(
    following: Following,
    state: State,
    live: &Arc<Live>,
    reloader: Reloader,
    recorder: &Recorder,
    captured: Option<watch::Receiver<BTreeSet<Arc<str>>>>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let follower = keep::Keep::new(following, state, Arc::clone(live), reloader, recorder, captured);
    std::thread::Builder::new().name("controller".into()).spawn(move || runtime.block_on(follower.run()))?;
    Ok(())
}

#[cfg(test)]
mod tests;
