//! Copies between two sockets until both directions have ended: one task, one buffer a direction, no timer per byte. What
//! comes in bulk goes through a pipe of the kernel instead of the buffer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::Deadline;
use super::buffer::{Buffer, SIZE};
use super::pipe::Pipe;

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
    idle: Deadline,
    idle_timeout: Duration,
    seen: u64,
}

/// One direction.
#[derive(Debug)]
struct Way {
    buffer: Buffer,
    /// Where bulk is in flight. It is taken when there is something to move, and given back when there is nothing.
    pipe: Option<Pipe>,
    is_bulk: bool,
    total: u64,
    finished: bool,
    closed: bool,
}

impl<'a> Copy<'a> {
    /// Copies between these two, beginning with what was read from each already.
    pub(crate) fn new(
        (client, from_client): (&'a mut TcpStream, Buffer),
        (upstream, from_upstream): (&'a mut TcpStream, Buffer),
        idle_timeout: Duration,
    ) -> Self {
        let idle = Deadline::new(Instant::now() + idle_timeout);
        let (up, down) = (Way::new(from_client), Way::new(from_upstream));
        Self { client, upstream, up, down, idle, idle_timeout, seen: 0 }
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
        // PERF: the clock is read only when the timer fires, not on every read.
        let passed = self.up.total + self.down.total;
        while self.idle.poll(context).is_ready() {
            if self.seen == passed {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.seen = passed;
            self.idle = Deadline::new(Instant::now() + self.idle_timeout);
        }
        Poll::Pending
    }
}

impl Way {
    fn new(buffer: Buffer) -> Self {
        let total = buffer.bytes().len() as u64;
        Self { buffer, pipe: None, is_bulk: false, total, finished: false, closed: false }
    }

    /// Ready when the source has ended and that end was passed on.
    fn poll(&mut self, context: &mut Context<'_>, from: &mut TcpStream, to: &mut TcpStream) -> Poll<io::Result<()>> {
        loop {
            while !self.buffer.is_empty() {
                let written = ready!(Pin::new(&mut *to).poll_write(context, self.buffer.bytes()))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.buffer.consume(written);
            }
            if let Some(pipe) = &mut self.pipe {
                ready!(pipe.poll_drain(to, context))?;
            }
            if self.finished {
                if !self.closed {
                    self.pipe = None;
                    self.buffer.release();
                    ready!(Pin::new(&mut *to).poll_shutdown(context))?;
                    self.closed = true;
                }
                return Poll::Ready(Ok(()));
            }
            match self.poll_read(context, from) {
                Poll::Ready(read) => {
                    let read = read?;
                    self.total += read as u64;
                    self.finished = read == 0;
                }
                Poll::Pending => {
                    self.pipe = None;
                    self.buffer.release();
                    return Poll::Pending;
                }
            }
        }
    }

    /// Reads into the pipe while bytes come in bulk, else into the buffer.
    fn poll_read(&mut self, context: &mut Context<'_>, from: &mut TcpStream) -> Poll<io::Result<usize>> {
        if self.is_bulk {
            // Without a descriptor to be had bytes are copied.
            if self.pipe.is_none() {
                ready!(from.poll_read_ready(context))?;
                self.pipe = Pipe::take();
            }
            if let Some(pipe) = &mut self.pipe {
                match ready!(pipe.poll_fill(from, context)) {
                    // A kernel that cannot, for these sockets: bytes are copied.
                    Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
                    read => {
                        self.is_bulk = read.as_ref().is_ok_and(|read| *read >= BULK);
                        return Poll::Ready(read);
                    }
                }
            }
        }
        self.pipe = None;
        let read = ready!(self.buffer.poll_read(from, context))?;
        self.is_bulk = read >= SIZE;
        Poll::Ready(Ok(read))
    }
}

/// Less at once is cheaper to copy than to move pages for.
const BULK: usize = 4 * 1024;

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

    async fn copy(client: &mut TcpStream, first: &[u8], upstream: &mut TcpStream, idle: Duration) -> Copied {
        Copy::new((client, Buffer::with(first)), (upstream, Buffer::default()), idle).run().await
    }

    #[tokio::test]
    async fn half_close_passes_and_the_other_way_stays_open() {
        let (mut client, mut proxy_client) = pair().await;
        let (mut proxy_upstream, mut server) = pair().await;
        let copy =
            tokio::spawn(
                async move { copy(&mut proxy_client, b"pre", &mut proxy_upstream, Duration::from_secs(60)).await },
            );
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
    async fn bulk_and_single_words_pass_whole_and_in_order() {
        let (mut client, mut proxy_client) = pair().await;
        let (mut proxy_upstream, mut server) = pair().await;
        let idle = Duration::from_secs(60);
        let bulk: Vec<u8> = (0..3_000_001u32).map(|n| (n % 251) as u8).collect();
        let talk = async {
            for word in [&b"ping"[..], &bulk, b"pong", &bulk, b"end"] {
                let (sent, got) = tokio::join!(client.write_all(word), async {
                    let mut got = vec![0; word.len()];
                    server.read_exact(&mut got).await.map(|_| got)
                });
                sent.unwrap();
                assert!(got.unwrap() == word);
                // And back.
                let (sent, got) = tokio::join!(server.write_all(word), async {
                    let mut got = vec![0; word.len()];
                    client.read_exact(&mut got).await.map(|_| got)
                });
                sent.unwrap();
                assert!(got.unwrap() == word);
            }
            drop((client, server));
        };
        let (copied, ()) = tokio::join!(copy(&mut proxy_client, b"", &mut proxy_upstream, idle), talk);
        copied.result.unwrap();
        let total = 2 * bulk.len() as u64 + 11;
        assert_eq!((copied.received, copied.sent), (total, total));
        assert!(Pipe::free() > 0, "bulk went through a pipe, and the pipe was given back");
    }

    #[tokio::test]
    async fn a_half_close_behind_bulk_passes() {
        let (mut client, mut proxy_client) = pair().await;
        let (mut proxy_upstream, mut server) = pair().await;
        let bulk = vec![7; 5_000_000];
        let talk = async {
            let (sent, got) = tokio::join!(
                async {
                    client.write_all(&bulk).await.unwrap();
                    client.shutdown().await
                },
                async {
                    let mut got = Vec::new();
                    server.read_to_end(&mut got).await.map(|_| got)
                }
            );
            sent.unwrap();
            assert!(got.unwrap() == bulk);
            server.write_all(b"answer").await.unwrap();
            drop(server);
            let mut got = Vec::new();
            client.read_to_end(&mut got).await.unwrap();
            assert_eq!(got, b"answer");
        };
        let idle = Duration::from_secs(60);
        let (copied, ()) = tokio::join!(copy(&mut proxy_client, b"", &mut proxy_upstream, idle), talk);
        copied.result.unwrap();
        assert_eq!((copied.received, copied.sent), (5_000_000, 6));
    }

    #[tokio::test]
    async fn silence_ends_it() {
        let (_client, mut proxy_client) = pair().await;
        let (mut proxy_upstream, _server) = pair().await;
        let copied = copy(&mut proxy_client, b"", &mut proxy_upstream, Duration::from_millis(20)).await;
        assert_eq!(copied.result.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_slow_reader_holds_the_writer_back() {
        let (mut client, mut proxy_client) = pair().await;
        let (mut proxy_upstream, mut server) = pair().await;
        let copy =
            tokio::spawn(
                async move { copy(&mut proxy_client, b"", &mut proxy_upstream, Duration::from_secs(60)).await },
            );
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
