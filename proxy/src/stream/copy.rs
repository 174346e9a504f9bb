//! Copies between two sockets until both directions have ended: one task, one buffer a direction, no timer per byte.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Enough for a bulk transfer to be bound by the kernel, small enough for many idle connections: a direction without
/// bytes in flight holds none.
const BUFFER: usize = 64 * 1024;

/// How a copy ended, and what passed.
#[derive(Debug)]
pub(crate) struct Copied {
    /// Bytes from the client.
    pub(crate) received: u64,
    /// Bytes to the client.
    pub(crate) sent: u64,
    /// `Ok`: both ends closed, each in its own time. An error means that the sockets are to be reset.
    pub(crate) result: io::Result<()>,
}

/// Two sockets, and what is in flight between them.
#[derive(Debug)]
pub(crate) struct Copy<'a> {
    client: &'a mut TcpStream,
    upstream: &'a mut TcpStream,
    up: Way,
    down: Way,
    idle: Pin<Box<tokio::time::Sleep>>,
    idle_timeout: Duration,
    seen: u64,
}

/// One direction.
#[derive(Debug, Default)]
struct Way {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    total: u64,
    finished: bool,
    closed: bool,
}

impl<'a> Copy<'a> {
    /// Copies between these two; `first` are bytes that were already read from the client.
    pub(crate) fn new(client: &'a mut TcpStream, upstream: &'a mut TcpStream, first: &[u8], idle_timeout: Duration) -> Self {
        let up = Way { buffer: first.to_vec(), end: first.len(), total: first.len() as u64, ..Way::default() };
        let idle = Box::pin(tokio::time::sleep(idle_timeout));
        Self { client, upstream, up, down: Way::default(), idle, idle_timeout, seen: 0 }
    }

    /// Runs until both directions have ended, one fails, or nothing moved for the idle time. Cancel safe: what was read
    /// stays in the buffers.
    pub(crate) async fn run(&mut self) -> Copied {
        let result = std::future::poll_fn(|context| self.poll(context)).await;
        Copied { received: self.up.total, sent: self.down.total, result }
    }

    /// Bytes that passed so far: from the client, to the client.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.up.total, self.down.total)
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let up = self.up.poll(context, self.client, self.upstream)?;
        let down = self.down.poll(context, self.upstream, self.client)?;
        if up.is_ready() && down.is_ready() {
            return Poll::Ready(Ok(()));
        }
        // PERF: the timer is moved only when it fires, not on every read.
        let passed = self.up.total + self.down.total;
        while self.idle.as_mut().poll(context).is_ready() {
            if self.seen == passed {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.seen = passed;
            let next = Instant::now() + self.idle_timeout;
            self.idle.as_mut().reset(next);
        }
        Poll::Pending
    }
}

impl Way {
    /// Ready when the source has ended and that end was passed on.
    fn poll(&mut self, context: &mut Context<'_>, from: &mut TcpStream, to: &mut TcpStream) -> Poll<io::Result<()>> {
        loop {
            while self.start < self.end {
                let pending = self.buffer.get(self.start..self.end).unwrap_or_default();
                let written = ready!(Pin::new(&mut *to).poll_write(context, pending))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.start += written;
            }
            if self.finished {
                if !self.closed {
                    ready!(Pin::new(&mut *to).poll_shutdown(context))?;
                    self.closed = true;
                    self.buffer = Vec::new();
                }
                return Poll::Ready(Ok(()));
            }
            if self.buffer.len() < BUFFER {
                // Wait for bytes before taking memory for them.
                ready!(from.poll_read_ready(context))?;
                self.buffer.resize(BUFFER, 0);
            }
            let mut space = ReadBuf::new(&mut self.buffer);
            match Pin::new(&mut *from).poll_read(context, &mut space) {
                Poll::Ready(result) => result?,
                Poll::Pending => {
                    self.buffer = Vec::new();
                    self.start = 0;
                    self.end = 0;
                    return Poll::Pending;
                }
            }
            self.start = 0;
            self.end = space.filled().len();
            self.total += self.end as u64;
            self.finished = self.end == 0;
        }
    }
}

/// Closes with RST instead of FIN, so that the peer sees at once that this was no ordinary end.
pub(crate) fn reset(stream: TcpStream) {
    // A socket that is already gone has nothing to reset.
    let _ = stream.set_zero_linger();
    drop(stream);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        (near, far)
    }

    #[tokio::test]
    async fn half_close_passes_and_the_other_way_stays_open() {
        let (mut client, mut proxy_client) = pair().await;
        let (mut proxy_upstream, mut server) = pair().await;
        let copy = tokio::spawn(async move {
            Copy::new(&mut proxy_client, &mut proxy_upstream, b"pre", Duration::from_secs(60)).run().await
        });
        client.write_all(b"fix").await.unwrap();
        client.shutdown().await.unwrap();
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"prefix");
        server.write_all(b"answer after the end").await.unwrap();
        drop(server);
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"answer after the end");
        let copied = copy.await.unwrap();
        assert!(copied.result.is_ok());
        assert_eq!((copied.received, copied.sent), (6, 20));
    }

    #[tokio::test]
    async fn silence_ends_it() {
        let (_client, mut proxy_client) = pair().await;
        let (mut proxy_upstream, _server) = pair().await;
        let copied = Copy::new(&mut proxy_client, &mut proxy_upstream, b"", Duration::from_millis(20)).run().await;
        assert_eq!(copied.result.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_slow_reader_holds_the_writer_back() {
        let (mut client, mut proxy_client) = pair().await;
        let (mut proxy_upstream, mut server) = pair().await;
        let copy = tokio::spawn(async move {
            Copy::new(&mut proxy_client, &mut proxy_upstream, b"", Duration::from_secs(60)).run().await
        });
        let data: Vec<u8> = (0..8_000_000u32).map(|n| (n % 251) as u8).collect();
        let sent = data.clone();
        let writer = tokio::spawn(async move {
            client.write_all(&sent).await.unwrap();
            client
        });
        let mut got = Vec::new();
        let mut piece = vec![0; 100_000];
        while got.len() < data.len() {
            let n = server.read(&mut piece).await.unwrap();
            got.extend_from_slice(&piece[..n]);
            tokio::task::yield_now().await;
        }
        assert!(got == data);
        drop(writer.await.unwrap());
        drop(server);
        copy.await.unwrap().result.unwrap();
    }
}
