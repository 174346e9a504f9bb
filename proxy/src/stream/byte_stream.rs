//! What bytes come from and go to: a socket, or a tunnel inside a connection that several share.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::Tunnel;

/// One way to a peer.
#[derive(Debug)]
pub(crate) enum ByteStream {
    /// A socket of its own.
    Socket(TcpStream),
    /// One stream of an HTTP/2 connection (HBONE).
    Tunnel(Box<Tunnel>),
}

impl ByteStream {
    /// The socket, where it has one of its own.
    pub(super) fn socket(&self) -> Option<&TcpStream> {
        match self {
            Self::Socket(socket) => Some(socket),
            Self::Tunnel(_) => None,
        }
    }

    /// Ready when a read would find something: bytes, the end, or an error.
    pub(crate) fn poll_read_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Socket(socket) => socket.poll_read_ready(context),
            Self::Tunnel(tunnel) => tunnel.poll_bytes(context).map_ok(drop),
        }
    }

    /// An idle peer has nothing to say: bytes or an end mean that it must not be used. Known without asking the kernel.
    pub(crate) fn is_quiet(&mut self) -> bool {
        // A task that has used up its turn would be told to wait, whatever has come.
        let ready = std::pin::pin!(tokio::task::unconstrained(std::future::poll_fn(|context| {
            self.poll_read_ready(context)
        })));
        ready.poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// The peer sees at once, when this is dropped, that it was no ordinary end.
    pub(crate) fn set_abrupt(&mut self) {
        match self {
            // A socket that is already gone has nothing to reset.
            Self::Socket(socket) => drop(socket.set_zero_linger()),
            Self::Tunnel(tunnel) => tunnel.reset(),
        }
    }
}

/// Closes with RST (of the socket, or of the stream in its tunnel) instead of an orderly end.
pub(crate) fn reset(mut stream: ByteStream) {
    stream.set_abrupt();
}

impl From<TcpStream> for ByteStream {
    fn from(socket: TcpStream) -> Self {
        Self::Socket(socket)
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Socket(socket) => Pin::new(socket).poll_read(context, space),
            Self::Tunnel(tunnel) => tunnel.poll_read(context, space),
        }
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Socket(socket) => Pin::new(socket).poll_write(context, bytes),
            Self::Tunnel(tunnel) => tunnel.poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Socket(socket) => Pin::new(socket).poll_write_vectored(context, parts),
            Self::Tunnel(tunnel) => tunnel.poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Socket(socket) => Pin::new(socket).poll_flush(context),
            // Its connection sends as soon as it can.
            Self::Tunnel(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Socket(socket) => Pin::new(socket).poll_shutdown(context),
            Self::Tunnel(tunnel) => Poll::Ready(tunnel.finish()),
        }
    }
}
