//! Node mode: keeps listeners and rules of every pod in line with the world in force, on a thread of its own.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eastwall_policy::world::World;

use super::bypass::{self, Bypassed};
use crate::connection::now;
use crate::intercept::{Listeners, Node};
use crate::observe::Recorder;
use crate::policy::Live;

/// How soon a pod that could not be served is tried again, and a namespace that appeared meanwhile is found.
const AGAIN: Duration = Duration::from_secs(1);

/// Serves the pods that are there now, and goes on doing so.
pub(super) fn serve(node: Node, live: Arc<Live>, recorder: Recorder) -> io::Result<Listeners> {
    let mut watch = live.watch();
    reconcile(&node, &live.load());
    let listeners = node.listeners().clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("pods".into()).spawn(move || {
        let (mut bypassed, mut counted) = (Bypassed::default(), Instant::now());
        loop {
            // A swap, or the next try.
            let _ = runtime.block_on(async { tokio::time::timeout(AGAIN, watch.changed()).await });
            let world = live.load();
            // The rules are none of the connections that the time of a swap is measured by.
            watch.judged(&world);
            reconcile(&node, &world);
            if counted.elapsed() >= bypass::EVERY {
                bypassed.tell(&node.counts(), &recorder);
                counted = Instant::now();
            }
        }
    })?;
    Ok(listeners)
}

fn reconcile(node: &Node, world: &World) {
    for failure in node.reconcile(world, now()) {
        tracing::error!(pod = %failure.pod, error = %failure.error, "cannot serve a pod");
    }
}
