//! The socket, who may speak on it, and its bounds: whoever is slow, greedy or many waits for himself.

use std::io::{self, Read, Write as _};
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::protocol::{Answer, Request};
use crate::admin::{Bound, SocketPath, bind, peer_uid};
use crate::connection::now;
use crate::intercept::{HandError, HandedPod, Node};
use crate::policy::Live;

/// What one peer can take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Bytes of one line: names, a path and some addresses.
    line_bytes: usize,
    /// The longest life of a connection, what it asks for not counted.
    connection_time: Duration,
    /// How many are served at once. More wait in the kernel's queue, for as long as the plugin's own timeout lets them.
    connections: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { line_bytes: 16 * 1024, connection_time: Duration::from_secs(10), connections: 32 }
    }
}

/// The open door. Closed, or dropped, its socket goes.
#[derive(Debug)]
pub(crate) struct Door {
    listener: UnixListener,
    closed: Arc<AtomicBool>,
    bound: Mutex<Option<Bound>>,
}

/// What a peer speaks with.
#[derive(Clone, Debug)]
struct Desk {
    node: Arc<Node>,
    live: Arc<Live>,
    bounds: Bounds,
}

/// Counts who is served.
#[derive(Debug, Default)]
struct Seats {
    taken: Mutex<usize>,
    freed: Condvar,
}

struct Seat(Arc<Seats>);

// === impl Door ===

impl Door {
    /// Binds the socket for root alone and serves it on threads of its own.
    pub(crate) fn open(path: &Path, node: Arc<Node>, live: Arc<Live>, bounds: Bounds) -> io::Result<Self> {
        let (listener, bound) = bind(&SocketPath::At(path.to_owned()), false)?;
        listener.set_nonblocking(false)?;
        let closed = Arc::new(AtomicBool::new(false));
        let desk = Desk { node, live, bounds };
        let (accepting, ends) = (listener.try_clone()?, Arc::clone(&closed));
        std::thread::Builder::new().name("cni".into()).spawn(move || accept(&accepting, &ends, &desk))?;
        Ok(Self { listener, closed, bound: Mutex::new(Some(bound)) })
    }

    /// Whoever comes from here on is refused by the kernel.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        // It wakes the thread, which is all that it is for; it cannot be shut already, or that makes no difference.
        let _ = rustix::net::shutdown(self.listener.as_fd(), rustix::net::Shutdown::Both);
        drop(self.bound.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.close();
    }
}

fn accept(listener: &UnixListener, closed: &AtomicBool, desk: &Desk) {
    let seats = Arc::new(Seats::default());
    loop {
        let seat = seats.take(desk.bounds.connections);
        let stream = match listener.accept() {
            _ if closed.load(Ordering::SeqCst) => return,
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept on the socket of the CNI plugin");
                std::thread::sleep(EXHAUSTED);
                continue;
            }
        };
        if !peer_uid(&stream).is_ok_and(may_hand_over) {
            tracing::warn!("a peer on the socket of the CNI plugin is not root");
            continue;
        }
        let desk = desk.clone();
        let served = std::thread::Builder::new().name("cni-peer".into()).spawn(move || {
            let _seat = seat;
            // What goes wrong here concerns the peer alone: it has no answer, and so no pod.
            let _ = serve(&stream, desk.bounds, |line| desk.answer(line));
            let _ = stream.shutdown(Shutdown::Both);
        });
        if let Err(error) = served {
            tracing::warn!(%error, "cannot serve the CNI plugin");
        }
    }
}

/// The mode of the file says the same; a folder or a file that was opened to others does not get anybody past this.
const fn may_hand_over(uid: u32) -> bool {
    uid == 0
}

/// Answers line by line.
fn serve(mut stream: &UnixStream, bounds: Bounds, mut answer: impl FnMut(&[u8]) -> Answer) -> io::Result<()> {
    let mut left = bounds.connection_time;
    let mut buffer = Vec::new();
    stream.set_write_timeout(Some(bounds.connection_time))?;
    loop {
        let started = Instant::now();
        let Some(length) = line(stream, &mut buffer, bounds.line_bytes, started + left)? else {
            if buffer.len() > bounds.line_bytes {
                let told = Answer::refused(format!("a line has at most {} bytes", bounds.line_bytes), false);
                stream.write_all(&told.line())?;
            }
            return Ok(());
        };
        left = left.saturating_sub(started.elapsed());
        let told = answer(buffer.get(..length).unwrap_or_default());
        stream.write_all(&told.line())?;
        buffer.drain(..=length);
    }
}

/// The length of the first line in the buffer, read as far as needed; `None`: there is none, or it is too long.
fn line(mut stream: &UnixStream, buffer: &mut Vec<u8>, most: usize, deadline: Instant) -> io::Result<Option<usize>> {
    let mut part = [0; 4096];
    loop {
        if let Some(length) = memchr::memchr(b'\n', buffer) {
            return Ok((length <= most).then_some(length));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if buffer.len() > most || left.is_zero() {
            return Ok(None);
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part)? {
            0 => return Ok(None),
            length => buffer.extend_from_slice(part.get(..length).unwrap_or_default()),
        }
    }
}

// === impl Desk ===

impl Desk {
    fn answer(&self, line: &[u8]) -> Answer {
        let request = match Request::parse(line) {
            Ok(request) => request,
            Err(error) => return Answer::refused(error, false),
        };
        let (what, pod, outcome) = match request {
            Request::Add(add) => {
                let pod = HandedPod {
                    namespace: add.namespace,
                    name: add.name,
                    uid: add.uid,
                    netns: add.netns,
                    identity: (0, 0),
                    ips: add.ips,
                    exempt: false,
                };
                ("add", pod.full_name(), self.node.add(pod, &self.live.load(), now()))
            }
            Request::Delete(delete) => {
                let pod = Request::pod(&delete.namespace, &delete.name);
                let outcome = self.node.forget(&pod, delete.uid.as_deref(), delete.netns.as_deref());
                ("delete", pod.into(), outcome.map(|()| false))
            }
            Request::Check(check) => {
                let pod = Request::pod(&check.namespace, &check.name);
                let outcome = self.node.check(&pod, &check.netns);
                ("check", pod.into(), outcome)
            }
            Request::Status(_) => return Answer::done(false),
        };
        match outcome {
            Ok(exempt) => {
                tracing::info!(what, %pod, exempt, "the CNI plugin asked");
                Answer::done(exempt)
            }
            Err(error) => {
                tracing::error!(what, %pod, %error, "the CNI plugin asked in vain");
                Answer::refused(error.to_string(), matches!(error, HandError::Leaving))
            }
        }
    }
}

// === impl Seats ===

impl Seats {
    /// Waits for one.
    fn take(self: &Arc<Self>, most: usize) -> Seat {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = self.freed.wait_while(taken, |taken| *taken >= most).unwrap_or_else(PoisonError::into_inner);
        *taken += 1;
        Seat(Arc::clone(self))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        *self.0.taken.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.freed.notify_one();
    }
}

/// Pause after the process ran out of file descriptors: trying again at once would spin.
const EXHAUSTED: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
