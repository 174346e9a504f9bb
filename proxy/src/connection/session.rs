//! What a connection keeps for its whole life, and its view of the world in force.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use eastwall_policy::facts::{Direction, Request};
use eastwall_policy::verdict::{Action, Reason, Verdict};
use tokio::net::TcpStream;

use crate::app::Worker;
use crate::hbone;
use crate::identity::{Ends, Judged};
use crate::intercept::{Accepted, Dialer};
use crate::observe::{ConnectionRecorder, Limit};
use crate::policy::Watch;
use crate::stream::ByteStream;

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
    /// Who both ends were when it began.
    began: [Option<Who>; 2],
    judged: RefCell<Rc<Judged>>,
}

/// Namespace, service account and name of a workload.
type Who = (Arc<str>, Arc<str>, Arc<str>);

impl Session {
    /// Resolves an accepted connection against the world in force; gives the client's socket back.
    pub(crate) fn new(
        accepted: Accepted<ByteStream>,
        principal: Option<Arc<str>>,
        worker: Rc<Worker>,
    ) -> (Self, ByteStream) {
        let ends = Ends::new(&accepted, principal, &worker.agreement, worker.live.has_registry());
        let judged = Rc::new(ends.judge(worker.live.load()));
        let (source, destination) = (judged.source_workload, judged.destination_workload);
        let recorder = worker.recorder.connection(&judged.world, ends.direction, source, destination);
        let began = who(&judged);
        let session = Self { worker, ends, recorder, dialer: accepted.dialer, began, judged: RefCell::new(judged) };
        session.ends.compare(&session.judged.borrow(), &session.worker.recorder);
        (session, accepted.stream)
    }

    /// The connection as the world in force sees it; resolved again only after a swap.
    pub(crate) fn judged(&self) -> Rc<Judged> {
        let mut held = self.judged.borrow_mut();
        if !self.worker.live.is(&held.world) {
            let judged = self.ends.judge(self.worker.live.load());
            // INVARIANT: whoever has got the address of an end inherits no connection with it.
            *held = Rc::new(if who(&judged) == self.began { judged } else { judged.refused(Reason::PeerReplaced) });
        }
        Rc::clone(&held)
    }

    /// The verdict on a request, by what its token says as well.
    pub(crate) fn verdict(&self, judged: &Judged, request: &Request<'_>) -> Verdict {
        self.worker.tokens.verdict(&judged.world, &judged.flow, request)
    }

    /// Opens a way to the destination: a tunnel where its proxy takes one, else a socket. Called only after a verdict
    /// that allows.
    pub(crate) async fn dial(&self) -> std::io::Result<ByteStream> {
        if let Some(mutual_tls) = &self.worker.mutual_tls
            && self.ends.direction == Direction::Outbound
            && let Some(route) = hbone::Route::of(&self.judged(), self.ends.destination)
        {
            return Box::pin(hbone::open(self, mutual_tls, route)).await;
        }
        self.connect(self.ends.destination).await.map(ByteStream::from)
    }

    /// Opens a socket to an address as it is opened to the destination.
    pub(crate) async fn connect(&self, address: SocketAddr) -> std::io::Result<TcpStream> {
        let dialled = self.dialer.connect(address, self.worker.limits.connect_timeout).await;
        if let Err(error) = &dialled
            && error.kind() == std::io::ErrorKind::TimedOut
        {
            self.worker.recorder.refused_connection(Limit::ConnectTimeout);
        }
        dialled
    }
}

/// Who both ends are. A node or a stranger is nobody.
fn who(judged: &Judged) -> [Option<Who>; 2] {
    [judged.source_workload, judged.destination_workload].map(|id| {
        let workload = judged.world.registry().workload(id?)?;
        let [namespace, account, name] =
            [&workload.namespace, &workload.service_account, &workload.name].map(Arc::clone);
        Some((namespace, account, name))
    })
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
