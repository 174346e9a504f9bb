//! Memory for bytes in flight. A socket that waits holds none: buffers go back to the thread and come out again.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use super::ByteStream;

/// Large enough that bulk data is bound by the kernel.
pub(crate) const SIZE: usize = 32 * 1024;

/// More free buffers than this are given back to the allocator.
const FREE_MAX: usize = 256;

thread_local! {
    // PERF: initialised once, so that reading into one neither allocates nor clears memory.
    static FREE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes that were read and not yet used.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    memory: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// Begins with these bytes.
    #[cfg(test)]
    pub(crate) fn with(bytes: &[u8]) -> Self {
        let mut buffer = Self::default();
        if !bytes.is_empty() {
            buffer.memory = take();
            if buffer.memory.len() < bytes.len() {
                buffer.memory.resize(bytes.len(), 0);
            }
            if let Some(space) = buffer.memory.get_mut(..bytes.len()) {
                space.copy_from_slice(bytes);
            }
            buffer.end = bytes.len();
        }
        buffer
    }

    /// What is there.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.memory.get(self.start..self.end).unwrap_or_default()
    }

    /// Whether nothing is there.
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// More may be read ahead without growing.
    pub(crate) fn has_room(&self) -> bool {
        self.end - self.start < SIZE
    }

    /// The first `count` bytes were used.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start = self.end.min(self.start + count);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Gives memory back if nothing is in it.
    pub(crate) fn release(&mut self) {
        if self.is_empty() && !self.memory.is_empty() {
            let memory = std::mem::take(&mut self.memory);
            FREE.with_borrow_mut(|free| {
                if memory.len() == SIZE && free.len() < FREE_MAX {
                    free.push(memory);
                }
            });
        }
    }

    /// [`Self::poll_read`] to wait for. Cancel safe.
    pub(crate) async fn read(&mut self, stream: &mut ByteStream) -> io::Result<usize> {
        std::future::poll_fn(|context| self.poll_read(stream, context)).await
    }

    /// Reads once behind what is there; grows only where there is no room at all. `Ready(Ok(0))`: the end.
    pub(crate) fn poll_read(&mut self, stream: &mut ByteStream, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.memory.is_empty() {
            // Memory is taken when there is something to read, not before.
            ready!(stream.poll_read_ready(context))?;
            self.memory = take();
        } else if self.end == self.memory.len() {
            if self.start > 0 {
                self.memory.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            } else {
                self.memory.resize(self.memory.len() * 2, 0);
            }
        }
        let mut space = ReadBuf::new(self.memory.get_mut(self.end..).unwrap_or_default());
        let result = Pin::new(stream).poll_read(context, &mut space);
        let read = space.filled().len();
        self.end += read;
        match result {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(read)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                // A socket can be called ready when it is not.
                self.release();
                Poll::Pending
            }
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.start = self.end;
        self.release();
    }
}

fn take() -> Vec<u8> {
    FREE.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; SIZE])
}
