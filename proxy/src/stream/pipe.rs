//! Bytes that pass from one socket to another inside the kernel. A socket that waits holds no pipe: pipes go back to the
//! thread and come out again.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// What a pipe is to hold, in bytes. PERF: bulk over loopback costs an eighth less CPU than with the kernel's own 64 KiB.
const SIZE: usize = 256 * 1024;

/// More pipes than this a thread does not open: each takes two descriptors, which connections are in need of too, and
/// all pipes of an unprivileged user may together have 64 MiB.
const OPEN_MAX: usize = 64;

/// More free pipes than this are closed.
const FREE_MAX: usize = 16;

/// Neither the socket nor the pipe is waited for.
const FLAGS: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { free: Vec::new(), open: 0 }) };
}

#[derive(Debug)]
struct Pool {
    free: Vec<Ends>,
    open: usize,
}

#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

/// Bytes on their way, none of which was seen.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    ends: Option<Ends>,
    held: usize,
}

impl Pipe {
    /// Whether no bytes are on their way.
    pub(super) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Moves what has arrived, `most` bytes of it, into the empty pipe. 0: nothing can be moved, and only a read tells
    /// whether that is the end, nothing for now, or something that does not go through a pipe, as urgent data.
    pub(super) fn fill(&mut self, from: &TcpStream, most: usize) -> io::Result<usize> {
        debug_assert!(self.held == 0, "where a pipe and a socket both hold bytes, either may be what cannot go on");
        if self.ends.is_none() {
            self.ends = take();
        }
        let Some(ends) = &self.ends else { return Ok(0) };
        match splice(from, None, &ends.write, None, most.min(SIZE), FLAGS) {
            Ok(moved) => {
                self.held = moved;
                Ok(moved)
            }
            Err(Errno::AGAIN | Errno::INVAL | Errno::NOSYS | Errno::PERM) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Ready when everything was moved out.
    pub(super) fn poll_drain(&mut self, context: &mut Context<'_>, to: &TcpStream) -> Poll<io::Result<()>> {
        while self.held > 0 {
            let Some(ends) = &self.ends else { break };
            ready!(to.poll_write_ready(context))?;
            match to.try_io(Interest::WRITABLE, || Ok(splice(&ends.read, None, to, None, self.held, FLAGS)?)) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(moved) => self.held -= moved,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Gives the pipe back. One that holds bytes of a connection is closed: nobody else may see them.
    pub(super) fn release(&mut self) {
        let Some(ends) = self.ends.take() else { return };
        POOL.with_borrow_mut(|pool| {
            if self.held == 0 && pool.free.len() < FREE_MAX {
                pool.free.push(ends);
            } else {
                pool.open -= 1;
            }
        });
        self.held = 0;
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.release();
    }
}

fn take() -> Option<Ends> {
    POOL.with_borrow_mut(|pool| {
        if let Some(ends) = pool.free.pop() {
            return Some(ends);
        }
        if pool.open == OPEN_MAX {
            return None;
        }
        // Without a pipe the bytes are copied.
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        pool.open += 1;
        // A smaller pipe does as well.
        let _ = fcntl_setpipe_size(&write, SIZE);
        Some(Ends { read, write })
    })
}

/// Pipes of this thread that are open: free, and in use.
#[cfg(test)]
pub(crate) fn count() -> (usize, usize) {
    POOL.with_borrow(|pool| (pool.free.len(), pool.open - pool.free.len()))
}

/// Lets this thread have no pipe, as where there are no descriptors left.
#[cfg(test)]
pub(crate) fn exhaust() {
    POOL.with_borrow_mut(|pool| {
        pool.free.clear();
        pool.open = OPEN_MAX;
    });
}
