//! Node mode: keeps listeners and rules of every pod in line with the world in force, on a thread of its own.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::connection::now;
use crate::intercept::{Listeners, Node};
use crate::policy::Live;

/// How soon a pod that could not be served is tried again, and a namespace that appeared meanwhile is found.
const AGAIN: Duration = Duration::from_secs(1);

/// Serves the pods that are there now, and goes on doing so.
pub(super) fn serve(node: Node, live: Arc<Live>) -> io::Result<Listeners> {
    reconcile(&node, &live);
    let listeners = node.listeners().clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("pods".into()).spawn(move || {
        let mut watch = live.watch();
        loop {
            // The rules are none of the connections that the time of a swap is measured by.
            watch.judged(&live.load());
            // A swap, or the next try.
            let _ = runtime.block_on(async { tokio::time::timeout(AGAIN, watch.changed()).await });
            reconcile(&node, &live);
        }
    })?;
    Ok(listeners)
}

fn reconcile(node: &Node, live: &Live) {
    for failure in node.reconcile(&live.load(), now()) {
        tracing::error!(pod = %failure.pod, error = %failure.error, "cannot serve a pod");
    }
}
