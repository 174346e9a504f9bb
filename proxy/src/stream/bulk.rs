//! What comes in one direction in large pieces passes through a pipe and is never copied to user space.

use std::io;
use std::task::{Context, Poll, ready};

use super::ByteStream;
use super::pipe::Pipe;

/// A direction that moves less than this at a time is bulk no longer: copying it costs less than passing its pages on.
const MIN: usize = 8 * 1024;

/// The pipe of one direction. While it holds bytes nothing else may be written to where they go.
#[derive(Debug)]
pub(crate) struct Bulk {
    pipe: Pipe,
    /// Both ends are sockets.
    splices: bool,
    /// The last that came was enough for a pipe.
    flows: bool,
}

impl Bulk {
    /// Of a direction between these two.
    pub(crate) fn between(one: &ByteStream, other: &ByteStream) -> Self {
        Self { pipe: Pipe::default(), splices: one.socket().is_some() && other.socket().is_some(), flows: false }
    }

    /// Whether no bytes are on their way.
    pub(crate) fn is_empty(&self) -> bool {
        self.pipe.is_empty()
    }

    /// A read filled the whole buffer, or did not: what comes next may go through a pipe, or is copied.
    pub(crate) fn was_read(&mut self, fills: bool) {
        self.flows = self.splices && fills;
    }

    /// Moves up to `most` bytes into the empty pipe. `Ready(Ok(0))`: what is next is to be read.
    pub(crate) fn poll_fill(
        &mut self,
        context: &mut Context<'_>,
        from: &mut ByteStream,
        most: u64,
    ) -> Poll<io::Result<usize>> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        if !self.flows || most < MIN {
            return Poll::Ready(Ok(0));
        }
        if from.poll_read_ready(context)?.is_pending() {
            self.release();
            return Poll::Pending;
        }
        let moved = from.socket().map_or(Ok(0), |socket| self.pipe.fill(socket, most))?;
        if moved > 0 {
            self.flows = moved >= MIN;
        }
        Poll::Ready(Ok(moved))
    }

    /// Ready when everything has gone where it goes.
    pub(crate) fn poll_drain(&mut self, context: &mut Context<'_>, to: &ByteStream) -> Poll<io::Result<()>> {
        if let Some(socket) = to.socket() {
            ready!(self.pipe.poll_drain(context, socket))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Gives the pipe back, with what it holds: who waits holds none.
    pub(crate) fn release(&mut self) {
        self.pipe.release();
    }
}
