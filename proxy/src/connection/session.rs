//! What a connection keeps for its whole life, and its view of the world in force.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use eastwall_policy::verdict::{Action, Verdict};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::app::Worker;
use crate::identity::{Ends, Judged};
use crate::intercept::{Accepted, Dialer};

/// One client connection.
#[derive(Debug)]
pub(crate) struct Session {
    /// The worker that serves it.
    pub(crate) worker: Rc<Worker>,
    /// Its two ends.
    pub(crate) ends: Ends,
    dialer: Dialer,
    judged: RefCell<Rc<Judged>>,
}

impl Session {
    /// Resolves an accepted connection against the world in force; gives the client's socket back.
    pub(crate) fn new(accepted: Accepted, worker: Rc<Worker>) -> (Self, TcpStream) {
        let ends = Ends::new(&accepted);
        let judged = RefCell::new(Rc::new(ends.judge(worker.live.load())));
        (Self { worker, ends, dialer: accepted.dialer, judged }, accepted.stream)
    }

    /// The connection as the world in force sees it; resolved again only after a swap.
    pub(crate) fn judged(&self) -> Rc<Judged> {
        let world = self.worker.live.load();
        let mut held = self.judged.borrow_mut();
        if !Arc::ptr_eq(&held.world, &world) {
            *held = Rc::new(self.ends.judge(world));
        }
        Rc::clone(&held)
    }

    /// Opens a socket to the destination. Called only after a verdict that allows.
    pub(crate) async fn dial(&self) -> std::io::Result<TcpStream> {
        self.dialer.connect(self.ends.destination, self.worker.limits.connect_timeout).await
    }
}

/// Seconds since the Unix epoch. A clock before it is an expired one: every `expires` has passed then.
pub(crate) fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_secs()).ok())
        .unwrap_or(i64::MAX)
}

/// Waits until a swap takes back what was allowed: judges again after each one, and ends with the first verdict that no
/// longer allows. `changed` must have been marked as seen before the verdict that allowed.
pub(crate) async fn revoked(
    session: &Session,
    changed: &mut watch::Receiver<u64>,
    mut judge: impl FnMut(&Judged) -> Verdict,
) -> (Rc<Judged>, Verdict) {
    loop {
        if changed.changed().await.is_err() {
            // Nobody is left who could swap: the process ends.
            std::future::pending::<()>().await;
        }
        let judged = session.judged();
        let verdict = judge(&judged);
        if verdict.action != Action::Allow {
            return (judged, verdict);
        }
    }
}
