//! Bulk data from socket to socket through a pipe of the kernel: no byte of it is copied here (splice(2)).

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// As much as the kernel gives at once: it stops at what the pipe holds.
const MOST: usize = 1 << 20;

/// More free pipes than this are closed: each is two descriptors.
const FREE_MAX: usize = 64;

thread_local! {
    static FREE: RefCell<Vec<Ends>> = const { RefCell::new(Vec::new()) };
}

/// A pipe, and how much is in it. Empty, it goes back to the thread.
#[derive(Debug)]
pub(super) struct Pipe {
    /// `None` only while it is dropped.
    ends: Option<Ends>,
    held: usize,
}

#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    /// `None` where no descriptor is to be had.
    pub(super) fn take() -> Option<Self> {
        let free = FREE.with_borrow_mut(Vec::pop);
        let ends = match free {
            Some(ends) => ends,
            None => {
                let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
                Ends { read, write }
            }
        };
        Some(Self { ends: Some(ends), held: 0 })
    }

    /// How many the thread keeps.
    #[cfg(test)]
    pub(super) fn free() -> usize {
        FREE.with_borrow(Vec::len)
    }

    /// Takes what the socket has, into an empty pipe. `Ready(Ok(0))`: the end.
    pub(super) fn poll_fill(&mut self, from: &TcpStream, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // INVARIANT: the pipe is empty, so it is the socket that would block.
        loop {
            ready!(from.poll_read_ready(context))?;
            let moved = from.try_io(Interest::READABLE, || match &self.ends {
                Some(ends) => Ok(splice(from, None, &ends.write, None, MOST, FLAGS)?),
                None => Err(io::ErrorKind::BrokenPipe.into()),
            });
            match moved {
                Ok(moved) => {
                    self.held += moved;
                    return Poll::Ready(Ok(moved));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Gives the socket all that is in it.
    pub(super) fn poll_drain(&mut self, to: &TcpStream, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.held > 0 {
            ready!(to.poll_write_ready(context))?;
            let moved = to.try_io(Interest::WRITABLE, || match &self.ends {
                Some(ends) => Ok(splice(&ends.read, None, to, None, self.held, FLAGS)?),
                None => Err(io::ErrorKind::BrokenPipe.into()),
            });
            match moved {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(moved) => self.held = self.held.saturating_sub(moved),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

impl Drop for Pipe {
    fn drop(&mut self) {
        // What is in a pipe belongs to one connection: such a pipe is closed.
        if self.held == 0
            && let Some(ends) = self.ends.take()
        {
            FREE.with_borrow_mut(|free| {
                if free.len() < FREE_MAX {
                    free.push(ends);
                }
            });
        }
    }
}
