//! The thread that turns what changes on disk, or with time, into the world in force.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use eastwall_policy::source::Bounds;
use eastwall_policy::world::World;
use tokio::sync::oneshot;

use super::courtesy::courteously;
use super::live::Live;
use super::maker::Maker;
use super::status::Status;
use super::survey::survey;
use super::watch::{Change, FolderWatch};
use crate::allocator;
use crate::observe::Recorder;

/// Where the world comes from.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// Files and folders of policies.
    pub(crate) policies: Vec<PathBuf>,
    /// The workloads file.
    pub(crate) workloads: Option<PathBuf>,
    /// What a gateway stands in front of.
    pub(crate) upstream: Option<SocketAddr>,
    /// Without a good table everything protected is closed (the default).
    pub(crate) start_closed: bool,
    /// Bounds on what is read.
    pub(crate) bounds: Bounds,
    /// Who keeps the sources up to date; `None`: whoever writes the files.
    pub(crate) controller: Option<Followed>,
}

/// A controller keeps the sources up to date.
#[derive(Clone, Debug)]
pub(crate) struct Followed {
    /// The node that this proxy runs on.
    pub(crate) node: Option<Arc<str>>,
    /// Nothing was heard of it for too long: the registry proves nothing.
    pub(crate) is_silent: bool,
}

/// Asks for reloads, and tells how they went. Dropping the last one ends the thread.
#[derive(Clone, Debug)]
pub(crate) struct Reloader {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    sender: mpsc::Sender<Message>,
    status: Arc<Mutex<Arc<Status>>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Message {
    Change(Change),
    Reload(Option<oneshot::Sender<Arc<Status>>>),
    /// The controller is silent, or heard again.
    Silent(bool),
    Stop,
}

/// Reads the first world, and starts the thread that keeps it up to date. Never fails for a bad policy: what is not
/// good is closed, and readiness says so.
pub(crate) fn start(origin: Origin, recorder: &Recorder) -> io::Result<(Arc<Live>, Reloader)> {
    let (sender, receiver) = mpsc::channel();
    let paths: Vec<PathBuf> =
        origin.policies.iter().chain(&origin.workloads).filter(|path| path.as_os_str() != "-").cloned().collect();
    let told = sender.clone();
    let mut watch = FolderWatch::new(paths.clone(), move |change| {
        // A receiver that is gone is a proxy that ends.
        let _ = told.send(Message::Change(change));
    });
    // Watch first: what changes while the first world is made is then seen.
    let seen = look(&paths, &mut watch);
    let has_registry = origin.workloads.is_some();
    let (maker, world) = Maker::start(origin, recorder.clone());
    maker.count_unprotected(&world);
    let live = Arc::new(Live::new(world, has_registry, recorder.metrics().revocation_seconds()));
    let status = Arc::new(Mutex::new(Arc::new(maker.status().clone())));
    let keeper = Keeper {
        paths,
        watch,
        maker,
        live: Arc::clone(&live),
        status: Arc::clone(&status),
        fingerprint: seen,
        pending: Pending::default(),
        retired: Vec::new(),
        untidy_since: Some(Instant::now()),
    };
    let thread = std::thread::Builder::new().name("policy".into()).spawn(move || keeper.run(&receiver))?;
    Ok((live, Reloader { inner: Arc::new(Inner { sender, status, thread: Some(thread) }) }))
}

// === impl Reloader ===

impl Reloader {
    /// Reads everything again, changed or not; the receiver gets the status afterwards.
    pub(crate) fn reload(&self) -> oneshot::Receiver<Arc<Status>> {
        let (sender, receiver) = oneshot::channel();
        // A thread that is gone drops the sender, and the receiver tells.
        let _ = self.inner.sender.send(Message::Reload(Some(sender)));
        receiver
    }

    /// The same without waiting: SIGHUP.
    pub(crate) fn request(&self) {
        let _ = self.inner.sender.send(Message::Reload(None));
    }

    /// Nothing was heard of the controller for too long, or it is heard again.
    pub(crate) fn controller_is_silent(&self, is_silent: bool) {
        let _ = self.inner.sender.send(Message::Silent(is_silent));
    }

    /// How the last reload went.
    pub(crate) fn status(&self) -> Arc<Status> {
        Arc::clone(&self.inner.status.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _ = self.sender.send(Message::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the policy thread had ended before");
        }
    }
}

// === the thread ===

struct Keeper {
    paths: Vec<PathBuf>,
    watch: FolderWatch,
    maker: Maker,
    live: Arc<Live>,
    status: Arc<Mutex<Arc<Status>>>,
    fingerprint: [u8; 32],
    pending: Pending,
    /// Worlds that were in force, until no connection is judged by them any more: to free one takes longer than a
    /// request may wait.
    retired: Vec<Arc<World>>,
    /// When something was last read or freed, unless the allocator has given back what that left.
    untidy_since: Option<Instant>,
}

/// Changes that were not read yet.
#[derive(Debug, Default)]
struct Pending {
    since: Option<Instant>,
    last: Option<Instant>,
    /// Files that somebody has open for writing: half a file is worse than an old one.
    writing: BTreeMap<PathBuf, Instant>,
}

impl Pending {
    fn note(&mut self, change: Change, now: Instant) {
        match change {
            Change::Writing(path) => {
                self.writing.insert(path, now);
            }
            Change::Written(path) => {
                self.writing.remove(&path);
            }
            Change::Moved | Change::Lost => {}
        }
        self.since.get_or_insert(now);
        self.last = Some(now);
    }

    /// When to read: soon after the last change; later while a writer has not closed; but not never.
    fn due(&self) -> Option<Instant> {
        let (since, last) = (self.since?, self.last?);
        let quiet = if self.writing.is_empty() { QUIET } else { SLOW_WRITER };
        Some((last + quiet).min(since + LONGEST_WAIT))
    }
}

impl Keeper {
    fn run(mut self, receiver: &mpsc::Receiver<Message>) {
        let mut poll = Instant::now() + POLL;
        // What changed between the first look and the first world.
        self.pending.note(Change::Lost, Instant::now());
        loop {
            let now = Instant::now();
            let wake = [self.pending.due(), self.maker.again(), Some(poll), Some(now + TICK)];
            let wake = wake.into_iter().flatten().min().unwrap_or(now);
            match receiver.recv_timeout(wake.saturating_duration_since(now)) {
                Ok(Message::Change(change)) => {
                    self.pending.note(change, Instant::now());
                    continue;
                }
                Ok(Message::Reload(reply)) => {
                    courteously(|| self.read());
                    if let Some(reply) = reply {
                        // Whoever asked may be gone.
                        let _ = reply.send(Arc::new(self.maker.status().clone()));
                    }
                }
                Ok(Message::Silent(is_silent)) => {
                    if let Some(world) = self.maker.controller_is_silent(is_silent) {
                        self.swap(&world);
                    }
                    self.publish();
                }
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => self.rest(),
            }
            let now = Instant::now();
            if self.pending.due().is_some_and(|due| due <= now) || self.maker.again().is_some_and(|again| again <= now)
            {
                courteously(|| self.read());
            }
            if now >= poll {
                poll = now + POLL;
                if self.pending.since.is_none() && look(&self.paths, &mut self.watch) != self.fingerprint {
                    self.pending.note(Change::Lost, now);
                }
            }
            if let Some(world) = courteously(|| self.maker.expire()) {
                self.swap(&world);
                self.publish();
            }
            let before = self.retired.len();
            self.retired.retain(|world| Arc::strong_count(world) > 1);
            if self.retired.len() < before {
                self.untidy_since = Some(now);
            }
        }
    }

    /// Nothing came for a while: what the last change took goes back. Where changes follow each other it would be
    /// wanted again at once.
    fn rest(&mut self) {
        if self.untidy_since.is_some_and(|since| since.elapsed() >= REST) {
            self.untidy_since = None;
            allocator::give_back();
        }
    }

    fn read(&mut self) {
        self.pending = Pending::default();
        self.untidy_since = Some(Instant::now());
        let mut before = look(&self.paths, &mut self.watch);
        let mut gathered = self.maker.gather(Instant::now());
        for _ in 0..ATTEMPTS {
            let after = look(&self.paths, &mut self.watch);
            if after == before {
                break;
            }
            // It changed under our eyes: what is half old and half new is not used.
            std::thread::sleep(QUIET);
            before = look(&self.paths, &mut self.watch);
            gathered = self.maker.gather(Instant::now());
        }
        self.fingerprint = before;
        if let Some(world) = self.maker.apply(gathered) {
            self.swap(&world);
        }
        self.publish();
    }

    fn swap(&mut self, world: &Arc<World>) {
        self.retired.push(self.live.load());
        self.live.swap(Arc::clone(world));
        self.maker.count_unprotected(world);
    }

    fn publish(&self) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(self.maker.status().clone());
    }
}

fn look(paths: &[PathBuf], watch: &mut FolderWatch) -> [u8; 32] {
    let survey = survey(paths.iter().map(PathBuf::as_path));
    watch.follow(&survey.folders);
    survey.fingerprint
}

/// After the last change. Short: the bar from a changed document to its enforcement is 100 ms.
const QUIET: Duration = Duration::from_millis(20);

/// After the last write of a writer that has not closed its file.
const SLOW_WRITER: Duration = Duration::from_secs(1);

/// A folder that never comes to rest is read all the same.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Looks without being told: network file systems tell nothing, and inotify has limits.
const POLL: Duration = Duration::from_secs(5);

/// Readings of a folder that changes each time, before the last one is taken as it is.
const ATTEMPTS: u32 = 20;

/// How long after a change the memory that it took goes back to the system.
const REST: Duration = Duration::from_secs(2);

/// How late an expiry may be.
const TICK: Duration = Duration::from_millis(250);
