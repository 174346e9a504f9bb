//! One side of an exchange: a socket, what was read from it and not yet used, what is to be written to it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use crate::stream::{Buffer, ByteStream};

/// Where reading from the one side stops until the other side has taken what waits for it.
const HIGH_WATER: usize = 64 * 1024;

/// A socket and its two buffers.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) stream: ByteStream,
    pub(super) input: Buffer,
    pub(super) output: Vec<u8>,
    written: usize,
    /// The peer has ended its direction.
    pub(super) ended: bool,
    /// Bytes read.
    pub(super) received: u64,
    /// Bytes written.
    pub(super) sent: u64,
}

impl Wire {
    /// Begins with what was read already.
    pub(super) fn new(stream: ByteStream, first: Buffer) -> Self {
        let received = first.bytes().len() as u64;
        Self { stream, input: first, output: Vec::new(), written: 0, ended: false, received, sent: 0 }
    }

    /// Reads once. `Ready(Ok(0))`: the peer has ended its direction.
    pub(super) fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Ok(0));
        }
        let read = ready!(self.input.poll_read(&mut self.stream, context))?;
        self.received += read as u64;
        self.ended = read == 0;
        Poll::Ready(Ok(read))
    }

    /// Writes all that is to be written.
    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.output.get(self.written..)
            && !rest.is_empty()
        {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
            self.sent += written as u64;
        }
        self.output.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// Forgets what was not written.
    pub(super) fn discard(&mut self) {
        self.output.clear();
        self.written = 0;
    }

    /// Everything was written.
    pub(super) fn is_flushed(&self) -> bool {
        self.output.is_empty()
    }

    /// More may be put into `output`.
    pub(super) fn has_room(&self) -> bool {
        self.output.len() - self.written < HIGH_WATER
    }

    /// Gives back what an idle connection does not need.
    pub(super) fn rest(&mut self) {
        self.input.release();
        if self.output.is_empty() && self.output.capacity() > IDLE_OUTPUT {
            self.output = Vec::new();
        }
    }

    /// Writes what is left, says that no more comes, and lets the peer read it: bytes that arrive meanwhile are thrown
    /// away, so that no reset overtakes the answer. Bounded in bytes and time.
    pub(super) async fn close(mut self, bytes: u64, time: std::time::Duration) -> (u64, u64) {
        let orderly = async {
            std::future::poll_fn(|context| self.poll_flush(context)).await?;
            std::future::poll_fn(|context| Pin::new(&mut self.stream).poll_shutdown(context)).await?;
            let mut thrown = 0;
            while thrown < bytes && !self.ended {
                let waiting = self.input.bytes().len();
                self.input.consume(waiting);
                thrown += std::future::poll_fn(|context| self.poll_fill(context)).await? as u64;
            }
            io::Result::Ok(())
        };
        // However it ends, the socket is dropped.
        let _ = tokio::time::timeout(time, orderly).await;
        (self.received, self.sent)
    }
}

/// What an idle connection may keep for its next answer.
const IDLE_OUTPUT: usize = 1024;
