//! What a connection keeps for its whole life, and its view of the world in force.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use eastwall_policy::facts::Request;
use eastwall_policy::verdict::{Action, Verdict};
use tokio::net::TcpStream;

use crate::app::Worker;
use crate::identity::{Ends, Judged};
use crate::intercept::{Accepted, Dialer};
use crate::observe::{ConnectionRecorder, Limit};
use crate::policy::Watch;

/// One client connection.
#[derive(Debug)]
pub(crate) struct Session {
    /// The worker that serves it.
    pub(crate) worker: Rc<Worker>,
    /// Its two ends.
    pub(crate) ends: Ends,
    /// Where its verdicts are told.
    pub(crate) recorder: ConnectionRecorder,
    dialer: Dialer,
    judged: RefCell<Rc<Judged>>,
}

impl Session {
    /// Resolves an accepted connection against the world in force; gives the client's socket back.
    pub(crate) fn new(accepted: Accepted, worker: Rc<Worker>) -> (Self, TcpStream) {
        let ends = Ends::new(&accepted, worker.live.has_registry());
        let judged = Rc::new(ends.judge(worker.live.load()));
        let (source, destination) = (judged.source_workload, judged.destination_workload);
        let recorder = worker.recorder.connection(&judged.world, ends.direction, source, destination);
        (Self { worker, ends, recorder, dialer: accepted.dialer, judged: RefCell::new(judged) }, accepted.stream)
    }

    /// The connection as the world in force sees it; resolved again only after a swap.
    pub(crate) fn judged(&self) -> Rc<Judged> {
        let mut held = self.judged.borrow_mut();
        if !self.worker.live.is(&held.world) {
            *held = Rc::new(self.ends.judge(self.worker.live.load()));
        }
        Rc::clone(&held)
    }

    /// The verdict on a request, by what its token says as well.
    pub(crate) fn verdict(&self, judged: &Judged, request: &Request<'_>) -> Verdict {
        self.worker.tokens.verdict(&judged.world, &judged.flow, request)
    }

    /// Opens a socket to the destination. Called only after a verdict that allows.
    pub(crate) async fn dial(&self) -> std::io::Result<TcpStream> {
        let dialled = self.dialer.connect(self.ends.destination, self.worker.limits.connect_timeout).await;
        if let Err(error) = &dialled
            && error.kind() == std::io::ErrorKind::TimedOut
        {
            self.worker.recorder.refused_connection(Limit::ConnectTimeout);
        }
        dialled
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
/// longer allows. The world of the verdict that allowed must be marked as judged in `watch`.
pub(crate) async fn revoked(
    session: &Session,
    watch: &mut Watch,
    mut judge: impl FnMut(&Judged) -> Verdict,
) -> (Rc<Judged>, Verdict) {
    loop {
        watch.changed().await;
        let judged = session.judged();
        let verdict = judge(&judged);
        if verdict.action != Action::Allow {
            return (judged, verdict);
        }
        watch.judged(&judged.world);
    }
}

/// What a client whose token is refused is told (RFC 6750 3.1).
pub(crate) const CHALLENGE: &str = "Bearer error=\"invalid_token\"";
