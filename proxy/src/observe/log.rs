//! The access log: workers append lines to buffers of their own, one thread writes them out.
//!
//! A worker never waits for a disk. Its buffer has a bound; past the first mark what was allowed is dropped, past the
//! second the rest, and both are counted.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use prometheus::IntCounter;

use super::flood::Window;
use super::metrics::Metrics;

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// Appended to this file, which is opened again on SIGHUP.
    File(PathBuf),
    /// `-`: standard output.
    Stdout,
    /// `off`: nowhere. Denials can still be asked for by their ids.
    Off,
}

impl std::str::FromStr for Destination {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "-" => Self::Stdout,
            "off" => Self::Off,
            path => Self::File(path.into()),
        })
    }
}

/// What goes where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AccessLog {
    /// Where lines go.
    pub(crate) destination: Destination,
    /// Lines for allowed requests too.
    pub(crate) allowed: bool,
}

impl From<Destination> for AccessLog {
    fn from(destination: Destination) -> Self {
        Self { destination, allowed: true }
    }
}

/// What the workers and the writer share.
#[derive(Debug)]
pub(super) struct Log {
    to: AccessLog,
    workers: Mutex<Vec<Arc<Buffer>>>,
    writer: Mutex<Option<Thread>>,
    reopen: AtomicBool,
    stop: AtomicBool,
    recent: Mutex<VecDeque<Box<str>>>,
    /// How many allowed requests may still enter the recent ones in this tick.
    recent_budget: AtomicU32,
    dropped_denials: IntCounter,
    dropped_allows: IntCounter,
    collapsed: IntCounter,
}

/// The lines of one worker that were not written yet.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    lines: Mutex<Vec<u8>>,
    flood: Mutex<Window>,
}

/// The thread that writes. Dropping it writes what is left and ends it.
#[derive(Debug)]
pub(crate) struct LogWriter {
    log: Arc<Log>,
    thread: Option<JoinHandle<()>>,
}

// === impl Log ===

impl Log {
    /// Opens the destination and starts the writer.
    pub(super) fn start(to: AccessLog, metrics: &Metrics) -> io::Result<(Arc<Self>, LogWriter)> {
        let sink = Sink::open(&to.destination)?;
        let log = Arc::new(Self {
            to,
            workers: Mutex::default(),
            writer: Mutex::default(),
            reopen: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            recent: Mutex::default(),
            recent_budget: AtomicU32::new(RECENT_A_TICK),
            dropped_denials: metrics.log_dropped.counter(&["denial"]),
            dropped_allows: metrics.log_dropped.counter(&["allow"]),
            collapsed: metrics.log_collapsed.clone(),
        });
        let writing = Arc::clone(&log);
        let thread = std::thread::Builder::new().name("access-log".into()).spawn(move || writing.write(sink))?;
        *log.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread.thread().clone());
        Ok((Arc::clone(&log), LogWriter { log, thread: Some(thread) }))
    }

    /// A buffer for one more worker.
    pub(super) fn buffer(&self) -> Arc<Buffer> {
        let buffer = Arc::<Buffer>::default();
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&buffer));
        buffer
    }

    /// Opens the file again: what a log rotation asks for.
    pub(super) fn reopen(&self) {
        self.reopen.store(true, Ordering::Release);
        self.wake();
    }

    /// The most recent lines: every refusal that was told, and a sample of the rest.
    pub(super) fn recent(&self) -> Vec<String> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.iter().map(|line| line.to_string()).collect()
    }

    /// Whether a line of an allowed request has any reader.
    pub(super) fn wants_allows(&self) -> bool {
        self.writes(false) || self.recent_budget.load(Ordering::Relaxed) > 0
    }

    fn writes(&self, matters: bool) -> bool {
        self.to.destination != Destination::Off && (matters || self.to.allowed)
    }

    /// Appends a line (without its line feed). `matters` decides what goes first when the buffer is full.
    pub(super) fn append(&self, buffer: &Buffer, line: &[u8], matters: bool) {
        if matters || self.take_recent() {
            self.remember(line);
        }
        if !self.writes(matters) {
            return;
        }
        // The lock is the worker's own: only the writer asks for it too, ten times a second, to swap two pointers.
        let mut lines = buffer.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let (bound, dropped) =
            if matters { (FULL, &self.dropped_denials) } else { (FULL_FOR_ALLOWS, &self.dropped_allows) };
        if lines.len() + line.len() >= bound {
            dropped.inc();
            return;
        }
        let before = lines.len();
        lines.extend_from_slice(line);
        lines.push(b'\n');
        let crossed = before < WAKE && lines.len() >= WAKE;
        drop(lines);
        if crossed {
            self.wake();
        }
    }

    fn take_recent(&self) -> bool {
        self.recent_budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    fn end_window(&self, buffer: &Buffer) {
        let collapsed = buffer.flood().end();
        for collapsed in collapsed {
            self.collapsed.inc_by(collapsed.count);
            let mut line = match collapsed.line.split_last() {
                Some((_, open)) => open.to_vec(),
                None => format!(
                    r#"{{"timestamp":"{}","event":"request","verdict":"deny","reason":"flood""#,
                    jiff::Timestamp::now()
                )
                .into_bytes(),
            };
            line.extend_from_slice(format!(",\"collapsed\":{}}}", collapsed.count).as_bytes());
            self.append(buffer, &line, true);
        }
    }

    fn wake(&self) {
        if let Some(writer) = &*self.writer.lock().unwrap_or_else(PoisonError::into_inner) {
            writer.unpark();
        }
    }

    fn remember(&self, line: &[u8]) {
        let line = String::from_utf8_lossy(line).into_owned().into_boxed_str();
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() >= RECENT {
            recent.pop_front();
        }
        recent.push_back(line);
    }

    fn write(&self, mut sink: Sink) {
        let mut spare = Vec::new();
        let mut window_ends = Instant::now() + WINDOW;
        loop {
            let stopping = self.stop.load(Ordering::Acquire);
            if !stopping {
                std::thread::park_timeout(TICK);
            }
            self.recent_budget.store(RECENT_A_TICK, Ordering::Relaxed);
            if self.reopen.swap(false, Ordering::AcqRel) {
                match Sink::open(&self.to.destination) {
                    Ok(fresh) => sink = fresh,
                    Err(error) => tracing::error!(%error, "cannot open the access log again: the old file stays open"),
                }
            }
            let end_window = stopping || Instant::now() >= window_ends;
            if end_window {
                window_ends = Instant::now() + WINDOW;
            }
            let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner).clone();
            for worker in &workers {
                if end_window {
                    self.end_window(worker);
                }
                std::mem::swap(&mut spare, &mut *worker.lines.lock().unwrap_or_else(PoisonError::into_inner));
                if let Err(error) = sink.write(&spare) {
                    let lost = spare.iter().filter(|byte| **byte == b'\n').count() as u64;
                    self.dropped_denials.inc_by(lost);
                    tracing::error!(%error, lost, "cannot write the access log");
                }
                spare.clear();
                // A flood's buffer is not kept for ever.
                spare.shrink_to(FULL_FOR_ALLOWS);
            }
            if stopping {
                return;
            }
        }
    }
}

// === impl Buffer ===

impl Buffer {
    /// The denials of this worker's current window.
    pub(super) fn flood(&self) -> MutexGuard<'_, Window> {
        self.flood.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl LogWriter ===

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.log.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("the access log's thread had ended before");
            }
        }
    }
}

/// What lines are written to.
enum Sink {
    File(File),
    Stdout,
    Nowhere,
}

impl Sink {
    fn open(destination: &Destination) -> io::Result<Self> {
        match destination {
            // Requests are nobody else's business: readable by the owner and the group.
            Destination::File(path) => {
                OpenOptions::new().append(true).create(true).mode(0o640).open(path).map(Self::File)
            }
            Destination::Stdout => Ok(Self::Stdout),
            Destination::Off => Ok(Self::Nowhere),
        }
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        match self {
            Self::File(file) => file.write_all(lines),
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(lines)?;
                stdout.flush()
            }
            Self::Nowhere => Ok(()),
        }
    }
}

/// How long a line may wait.
const TICK: Duration = Duration::from_millis(100);

/// How long the same denial is one flood.
const WINDOW: Duration = Duration::from_secs(1);

/// Bytes of a worker's buffer that wake the writer before its tick.
const WAKE: usize = 64 * 1024;

/// Bytes from which on lines of allowed requests are dropped.
const FULL_FOR_ALLOWS: usize = 1024 * 1024;

/// Bytes from which on every line is dropped.
const FULL: usize = 2 * 1024 * 1024;

/// Lines that `/flows` shows.
const RECENT: usize = 1024;

/// Allowed requests that enter them in one tick.
const RECENT_A_TICK: u32 = 10;
