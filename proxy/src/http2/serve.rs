//! One HTTP/2 client connection: takes its streams, each of which goes its own way.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use eastwall_policy::world::ConnectionVerdict;
use h2::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::Frames;
use super::{CONNECTION_WINDOW, STREAM_WINDOW, Windows, exchange, server};
use crate::connection::{Session, now};
use crate::observe::Limit;
use crate::policy::Watch;
use crate::stream::{Buffer, ByteStream, Copied, Deadline};

/// Serves the connection to its end. `first` was read from it already and begins with the preface.
pub(crate) async fn serve(session: &Rc<Session>, client: ByteStream, first: Buffer, watch: &mut Watch) -> Copied {
    let first = first.bytes().to_vec();
    let mut frames = Frames::after(PREFACE);
    frames.seen(&first);
    let counts = Rc::new(Counts {
        received: Cell::new(first.len() as u64),
        sent: Cell::new(0),
        cut: Cell::new(false),
        frames: RefCell::new(frames),
    });
    let io = Counted { stream: client, first, read: 0, counts: Rc::clone(&counts) };
    let result = streams(session, io, &counts, watch).await;
    Copied { received: counts.received.get(), sent: counts.sent.get(), result }
}

async fn streams(session: &Rc<Session>, io: Counted, counts: &Counts, watch: &mut Watch) -> io::Result<()> {
    let limits = &session.worker.limits;
    let windows = Windows { stream: STREAM_WINDOW, connection: CONNECTION_WINDOW };
    let handshake = server(limits, windows, limits.head_bytes).handshake(io);
    let mut connection = match tokio::time::timeout(limits.head_timeout, handshake).await {
        Ok(connection) => connection.map_err(io::Error::other)?,
        Err(_) => {
            session.worker.recorder.refused_connection(Limit::HeadTimeout);
            return Err(io::ErrorKind::TimedOut.into());
        }
    };
    let mut drain = session.worker.drain.clone();
    let mut draining = *drain.borrow_and_update();
    if draining {
        connection.graceful_shutdown();
    }
    let hurry = Rc::new(Hurry::default());
    let mut idle = Deadline::new(tokio::time::Instant::now() + limits.idle_timeout);
    let mut unfinished: Option<Deadline> = None;
    loop {
        let accepted = tokio::select! {
            accepted = poll_fn(|context| {
                if let Poll::Ready(accepted) = connection.poll_accept(context) {
                    return Poll::Ready(Ok(accepted));
                }
                if !counts.frames.borrow().is_unfinished() {
                    unfinished = None;
                    return Poll::Pending;
                }
                let end = tokio::time::Instant::now() + limits.head_timeout;
                unfinished.get_or_insert_with(|| Deadline::new(end)).poll(context).map(Err)
            }) => accepted,
            _ = drain.changed(), if !draining => {
                draining = true;
                connection.graceful_shutdown();
                continue;
            }
            () = watch.changed() => {
                let judged = session.judged();
                if let ConnectionVerdict::Deny(_) = judged.world.connection_verdict(&judged.flow, now()) {
                    // Each stream judges itself and ends with its own word, for which there is a moment.
                    counts.cut.set(true);
                    if !connection.has_streams() {
                        return Err(io::ErrorKind::PermissionDenied.into());
                    }
                    idle.set(tokio::time::Instant::now() + LAST_WORD);
                }
                watch.judged(&judged.world);
                continue;
            }
            () = poll_fn(|context| idle.poll(context)) => {
                let again = if counts.cut.get() {
                    return Err(io::ErrorKind::PermissionDenied.into());
                } else if connection.has_streams() {
                    limits.idle_timeout
                } else if draining {
                    return Err(io::ErrorKind::TimedOut.into());
                } else {
                    session.worker.recorder.refused_connection(Limit::IdleTimeout);
                    draining = true;
                    connection.graceful_shutdown();
                    limits.head_timeout
                };
                idle.set(tokio::time::Instant::now() + again);
                continue;
            }
        };
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(()) => {
                session.worker.recorder.refused_connection(Limit::HeadTimeout);
                return Err(io::ErrorKind::TimedOut.into());
            }
        };
        match accepted {
            // A stream that comes after the cut keeps nothing alive.
            Some(Ok((_, mut respond))) if counts.cut.get() => respond.send_reset(Reason::REFUSED_STREAM),
            Some(Ok(_)) if hurry.is_flood(limits.stream_resets) => {
                // CVE-2023-44487: streams that were accepted, sent upstream, and reset before their answer.
                session.worker.recorder.refused_connection(Limit::StreamResets);
                connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            }
            Some(Ok((request, respond))) => {
                hurry.streams.set(hurry.streams.get() + 1);
                let started = Instant::now();
                idle.set(tokio::time::Instant::from_std(started) + limits.idle_timeout);
                let stream = exchange::stream(Rc::clone(session), request, respond, Rc::clone(&hurry), started);
                // PERF: the runtime moves a task several times.
                tokio::task::spawn_local(Box::pin(stream));
            }
            Some(Err(error)) => {
                if let Some(limit) = met(&error, counts) {
                    session.worker.recorder.refused_connection(limit);
                }
                return Err(io::Error::other(error));
            }
            None => return Ok(()),
        }
    }
}

/// The bound that made the codec give the connection up, if it was one.
fn met(error: &h2::Error, counts: &Counts) -> Option<Limit> {
    if error.is_remote() || error.is_io() {
        return None;
    }
    match error.reason() {
        // CVE-2024-27316: a field block in ever more frames. SPEC: RFC 9113 6.10, in a block nothing else comes.
        Some(Reason::ENHANCE_YOUR_CALM | Reason::COMPRESSION_ERROR) if counts.frames.borrow().is_in_block() => {
            Some(Limit::HeadBytes)
        }
        Some(Reason::ENHANCE_YOUR_CALM) => Some(Limit::StreamResets),
        _ => None,
    }
}

/// How often a client does not wait for what it asked for.
#[derive(Debug, Default)]
pub(super) struct Hurry {
    streams: Cell<usize>,
    abandoned: Cell<usize>,
}

impl Hurry {
    /// A stream was reset before its answer began.
    pub(super) fn abandon(&self) {
        self.abandoned.set(self.abandoned.get() + 1);
    }

    /// Cancelling is a right; to do little else is an attack.
    fn is_flood(&self, limit: usize) -> bool {
        self.abandoned.get() > limit && self.abandoned.get() > self.streams.get() / 2
    }
}

/// Bytes of the connection preface.
const PREFACE: usize = 24;

/// Within the second that a revocation may take.
const LAST_WORD: Duration = Duration::from_millis(300);

struct Counts {
    received: Cell<u64>,
    sent: Cell<u64>,
    /// A swap took the connection back: it ends with a reset.
    cut: Cell<bool>,
    /// Where in its frames the client is.
    frames: RefCell<Frames>,
}

/// The client's socket: first what was read already, then the rest; counts what passes.
struct Counted {
    stream: ByteStream,
    first: Vec<u8>,
    read: usize,
    counts: Rc<Counts>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.counts.cut.get() {
            self.stream.set_abrupt();
        }
    }
}

impl AsyncRead for Counted {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let rest = this.first.get(this.read..).unwrap_or_default();
        if !rest.is_empty() {
            let length = rest.len().min(space.remaining());
            space.put_slice(rest.get(..length).unwrap_or_default());
            this.read += length;
            if this.read == this.first.len() {
                this.first = Vec::new();
                this.read = 0;
            }
            return Poll::Ready(Ok(()));
        }
        let before = space.filled().len();
        let result = Pin::new(&mut this.stream).poll_read(context, space);
        this.counts.frames.borrow_mut().seen(space.filled().get(before..).unwrap_or_default());
        this.counts.received.set(this.counts.received.get() + (space.filled().len() - before) as u64);
        result
    }
}

impl AsyncWrite for Counted {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(written)) = result {
            this.counts.sent.set(this.counts.sent.get() + written as u64);
        }
        result
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write_vectored(context, parts);
        if let Poll::Ready(Ok(written)) = result {
            this.counts.sent.set(this.counts.sent.get() + written as u64);
        }
        result
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cancelling_is_a_right_and_a_flood_of_it_is_not() {
        for (streams, abandoned, flood) in
            [(100, 100, false), (101, 101, true), (10_000, 4_000, false), (10_000, 5_001, true)]
        {
            let hurry = Hurry { streams: Cell::new(streams), abandoned: Cell::new(abandoned) };
            assert_eq!(hurry.is_flood(100), flood, "{abandoned} of {streams}");
        }
    }
}
