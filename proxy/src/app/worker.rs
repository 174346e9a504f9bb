//! Workers: each one thread with a current-thread runtime, that accepts from every listener and keeps what it accepts.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::slots::{Full, Slots};
use crate::config::Limits;
use crate::intercept::Accepted;
use crate::observe::{Limit, Recorder};
use crate::policy::Live;
use crate::{connection, http1, http2};

/// What the connections of one worker share. Nothing in it is shared with another worker but the world in force and
/// the count of connections.
#[derive(Debug)]
pub(crate) struct Worker {
    /// The world in force.
    pub(crate) live: Arc<Live>,
    /// Every bound.
    pub(crate) limits: Arc<Limits>,
    /// Where verdicts are told.
    pub(crate) recorder: Recorder,
    /// Becomes true when the process is to end.
    pub(crate) drain: watch::Receiver<bool>,
    /// Idle HTTP/1 connections to upstreams.
    pub(crate) http1: http1::Pool,
    /// HTTP/2 connections to upstreams.
    pub(crate) http2: http2::Pool,
    slots: Arc<Slots>,
}

/// Makes of an accepted socket a connection with source, destination and direction; an error closes it unread.
pub(crate) type Intake = Arc<dyn Fn(TcpStream, SocketAddr) -> io::Result<Accepted> + Send + Sync>;

/// All workers of the process.
#[derive(Debug)]
pub(crate) struct Workers {
    jobs: Vec<mpsc::UnboundedSender<Listening>>,
    drain: watch::Sender<bool>,
    slots: Arc<Slots>,
}

/// One listening socket, as one worker holds it.
struct Listening {
    socket: std::net::TcpListener,
    intake: Intake,
    stop: CancellationToken,
}

// === impl Workers ===

impl Workers {
    /// Starts this many threads.
    pub(crate) fn start(count: NonZeroUsize, live: &Arc<Live>, limits: Limits, recorder: &Recorder) -> io::Result<Self> {
        let slots = Slots::new(limits.connections, limits.connections_per_source);
        let drain = watch::Sender::new(false);
        let limits = Arc::new(limits);
        let mut jobs = Vec::new();
        for number in 0..count.get() {
            let (sender, receiver) = mpsc::unbounded_channel();
            let (live, limits, slots) = (Arc::clone(live), Arc::clone(&limits), Arc::clone(&slots));
            let (recorder, drain) = (recorder.for_worker(), drain.subscribe());
            std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                let worker = || Worker {
                    live,
                    http1: http1::Pool::new(&limits),
                    http2: http2::Pool::default(),
                    limits,
                    recorder,
                    drain,
                    slots,
                };
                if let Err(error) = run(worker, receiver) {
                    tracing::error!(%error, "worker cannot run");
                }
            })?;
            jobs.push(sender);
        }
        Ok(Self { jobs, drain, slots })
    }

    /// Lets every worker accept from this socket until the token is cancelled or the process drains.
    pub(crate) fn listen(&self, socket: &std::net::TcpListener, intake: &Intake) -> io::Result<CancellationToken> {
        socket.set_nonblocking(true)?;
        let stop = CancellationToken::new();
        for jobs in &self.jobs {
            let listening =
                Listening { socket: socket.try_clone()?, intake: Arc::clone(intake), stop: stop.clone() };
            jobs.send(listening).map_err(|_| io::Error::other("a worker has ended"))?;
        }
        Ok(stop)
    }

    /// Accepts no more, ends what is idle, lets what is in flight end within the bound. True when nothing was cut.
    pub(crate) async fn drain(&self, bound: Duration) -> bool {
        self.drain.send_replace(true);
        let empty = async {
            while self.slots.taken() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(bound, empty).await.is_ok()
    }

    /// Connections that are open.
    pub(crate) fn connections(&self) -> usize {
        self.slots.taken()
    }
}

fn run(worker: impl FnOnce() -> Worker, mut jobs: mpsc::UnboundedReceiver<Listening>) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(async {
        let worker = Rc::new(worker());
        tokio::task::spawn_local(sweep(Rc::clone(&worker)));
        while let Some(listening) = jobs.recv().await {
            tokio::task::spawn_local(listen(Rc::clone(&worker), listening));
        }
        // Nobody is left who could give another listener; what was accepted goes on until the process ends.
        std::future::pending::<()>().await;
    });
    Ok(())
}

/// Closes upstream connections that nobody used for a while, or that the upstream closed.
async fn sweep(worker: Rc<Worker>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        worker.http1.sweep();
    }
}

async fn listen(worker: Rc<Worker>, listening: Listening) {
    let Listening { socket, intake, stop } = listening;
    let listener = match TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "cannot accept from a listener");
            return;
        }
    };
    let mut drain = worker.drain.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = drain.wait_for(|draining| *draining) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, remote)) => accept(&worker, &intake, stream, remote),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // Out of descriptors, most likely: they come back when connections end.
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn accept(worker: &Rc<Worker>, intake: &Intake, stream: TcpStream, remote: SocketAddr) {
    let slot = match worker.slots.take(remote.ip()) {
        Ok(slot) => slot,
        Err(full) => {
            worker.recorder.refused_connection(match full {
                Full::Total => Limit::Connections,
                Full::Source => Limit::ConnectionsPerSource,
            });
            return crate::stream::reset(stream);
        }
    };
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %remote, "connection lost while it was accepted");
        return;
    }
    match intake(stream, remote) {
        Ok(accepted) => {
            let worker = Rc::clone(worker);
            tokio::task::spawn_local(async move {
                connection::serve(accepted, worker).await;
                drop(slot);
            });
        }
        Err(error) => tracing::debug!(%error, %remote, "connection refused"),
    }
}

/// The client gave up between its SYN and our accept: accept(2) names these.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
