//! A network namespace that is entered: one helper thread that lives inside and does there what is asked of it.
//!
//! A socket keeps the namespace it was made in, so workers use it like any other. No worker ever changes its own.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// A namespace and the thread inside. The thread ends when the last handle is dropped.
#[derive(Debug)]
pub(crate) struct Namespace {
    path: Option<PathBuf>,
    identity: (u64, u64),
    jobs: mpsc::Sender<Job>,
}

impl Namespace {
    /// Enters the namespace at this path (`/proc/PID/ns/net`, `/run/netns/NAME`). Needs CAP_SYS_ADMIN.
    pub(crate) fn enter(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let identity = identity(&file.metadata()?);
        Self::start(Some(path.to_owned()), identity, move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).map_err(io::Error::from)
        })
    }

    /// The namespace that the process is in already. Needs nothing.
    pub(crate) fn current() -> io::Result<Self> {
        Self::start(None, here()?, || Ok(()))
    }

    fn start(
        path: Option<PathBuf>,
        identity: (u64, u64),
        enter: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (entered, outcome) = mpsc::channel();
        thread::Builder::new().name("netns".into()).stack_size(256 * 1024).spawn(move || {
            let result = enter();
            let inside = result.is_ok();
            // Whoever waits for it is gone only if the process ends.
            let _ = entered.send(result);
            if inside {
                queue.into_iter().for_each(|job| job());
            }
        })?;
        outcome.recv().map_err(|_| gone())??;
        Ok(Self { path, identity, jobs })
    }

    /// Whether a path leads to this namespace: a pod that was made again may have the same path.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        identity_of(path).is_ok_and(|identity| identity == self.identity)
    }

    /// Whether its own path still leads to it.
    pub(crate) fn is_at_its_path(&self) -> bool {
        self.path.as_deref().is_none_or(|path| self.is_at(path))
    }

    /// Device and inode: the same for two paths to one namespace.
    pub(crate) fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// Runs `work` inside and waits for it without blocking the worker.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (answer, outcome) = oneshot::channel();
        self.send(Box::new(move || drop(answer.send(work()))))?;
        outcome.await.map_err(|_| gone())?
    }

    /// Runs `work` inside and blocks until it is done.
    pub(crate) fn run_blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        let (answer, outcome) = mpsc::channel();
        self.send(Box::new(move || drop(answer.send(work()))))?;
        outcome.recv().map_err(|_| gone())
    }

    fn send(&self, job: Job) -> io::Result<()> {
        self.jobs.send(job).map_err(|_| gone())
    }
}

impl std::fmt::Display for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.path {
            Some(path) => write!(f, "{}", path.display()),
            None => f.write_str("the current network namespace"),
        }
    }
}

/// The namespace of the calling thread.
pub(super) fn here() -> io::Result<(u64, u64)> {
    identity_of(Path::new("/proc/thread-self/ns/net"))
}

/// Device and inode of the namespace at a path.
pub(super) fn identity_of(path: &Path) -> io::Result<(u64, u64)> {
    Ok(identity(&std::fs::metadata(path)?))
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn gone() -> io::Error {
    io::Error::other("the thread inside the network namespace is gone")
}
