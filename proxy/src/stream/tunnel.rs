//! One stream of an HTTP/2 connection as bytes both ways: what CONNECT opens (RFC 9113 8.5).

use std::any::Any;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::ReadBuf;

/// More than this is not copied into one frame's worth of memory at a time.
const PIECE_MAX: usize = 64 * 1024;

/// Both directions of a stream. Dropped before its end it is reset.
#[derive(Debug)]
pub(crate) struct Tunnel {
    from: RecvStream,
    to: SendStream<Bytes>,
    /// What has come and was not yet read.
    waiting: Bytes,
    finished: bool,
    /// What is to live as long as this does.
    _held: Option<Box<dyn Any + Send>>,
}

impl Tunnel {
    /// A stream whose CONNECT was answered with 2xx.
    pub(crate) fn new(from: RecvStream, to: SendStream<Bytes>) -> Self {
        Self { from, to, waiting: Bytes::new(), finished: false, _held: None }
    }

    /// Keeps something for as long as it lives.
    pub(crate) fn holding(mut self, held: impl Any + Send) -> Self {
        self._held = Some(Box::new(held));
        self
    }

    /// True when there are bytes, false at the end.
    pub(super) fn poll_bytes(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while self.waiting.is_empty() {
            match ready!(self.from.poll_data(context)) {
                Some(Ok(bytes)) => self.waiting = bytes,
                Some(Err(error)) => return Poll::Ready(Err(lost(&error))),
                None => return Poll::Ready(Ok(false)),
            }
        }
        Poll::Ready(Ok(true))
    }

    pub(super) fn poll_read(&mut self, context: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if ready!(self.poll_bytes(context))? {
            let length = self.waiting.len().min(space.remaining());
            space.put_slice(self.waiting.get(..length).unwrap_or_default());
            self.waiting.advance(length);
            // INVARIANT: the sender's window opens only by what was taken. A stream that is gone has no window.
            let _ = self.from.flow_control().release_capacity(length);
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let room = ready!(self.poll_room(context, bytes.len()))?;
        let piece = bytes.get(..room).unwrap_or(bytes);
        self.send(Bytes::copy_from_slice(piece))
    }

    pub(super) fn poll_write_vectored(
        &mut self,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let whole = parts.iter().map(|part| part.len()).sum();
        let room = ready!(self.poll_room(context, whole))?;
        let mut piece = BytesMut::with_capacity(room.min(whole));
        for part in parts {
            let rest = room - piece.len();
            piece.extend_from_slice(part.get(..rest).unwrap_or(part));
        }
        self.send(piece.freeze())
    }

    fn send(&mut self, piece: Bytes) -> Poll<io::Result<usize>> {
        let length = piece.len();
        Poll::Ready(self.to.send_data(piece, false).map(|()| length).map_err(|error| lost(&error)))
    }

    /// How much of `wanted` the receiver's windows and our own buffer take.
    fn poll_room(&mut self, context: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        if wanted == 0 {
            return Poll::Ready(Ok(0));
        }
        let wanted = wanted.min(PIECE_MAX);
        self.to.reserve_capacity(wanted);
        let mut room = self.to.capacity();
        while room == 0 {
            room = match ready!(self.to.poll_capacity(context)) {
                Some(room) => room.map_err(|error| lost(&error))?,
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            };
        }
        Poll::Ready(Ok(room.min(wanted)))
    }

    /// No more bytes will be written.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.finished, true) {
            return Ok(());
        }
        self.to.send_data(Bytes::new(), true).map_err(|error| lost(&error))
    }

    /// Ends both directions at once. SPEC: RFC 9113 8.5, CONNECT_ERROR stands for a reset of the connection.
    pub(super) fn reset(&mut self) {
        self.to.send_reset(Reason::CONNECT_ERROR);
    }
}

fn lost(error: &h2::Error) -> io::Error {
    let kind = if error.is_reset() { io::ErrorKind::ConnectionReset } else { io::ErrorKind::ConnectionAborted };
    io::Error::from(kind)
}
