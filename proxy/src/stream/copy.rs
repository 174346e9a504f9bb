//! Copies between two sockets until both directions have ended: one task, one buffer a direction, no timer per byte.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::time::Instant;

use super::{Buffer, Bulk, ByteStream, Deadline};

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
    client: &'a mut ByteStream,
    upstream: &'a mut ByteStream,
    up: Way,
    down: Way,
    idle: Deadline,
    idle_timeout: Duration,
    seen: u64,
}

/// One direction. Only the buffer or only the pipe holds bytes, so that they stay in order.
#[derive(Debug)]
struct Way {
    buffer: Buffer,
    bulk: Bulk,
    total: u64,
    finished: bool,
    closed: bool,
}

impl<'a> Copy<'a> {
    /// Copies between these two, beginning with what was read from each already.
    pub(crate) fn new(
        (client, from_client): (&'a mut ByteStream, Buffer),
        (upstream, from_upstream): (&'a mut ByteStream, Buffer),
        idle_timeout: Duration,
    ) -> Self {
        let idle = Deadline::new(Instant::now() + idle_timeout);
        let [up, down] = [from_client, from_upstream].map(|first| Way::new(first, Bulk::between(client, upstream)));
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
    fn new(buffer: Buffer, bulk: Bulk) -> Self {
        let total = buffer.bytes().len() as u64;
        Self { buffer, bulk, total, finished: false, closed: false }
    }

    /// Ready when the source has ended and that end was passed on.
    fn poll(&mut self, context: &mut Context<'_>, from: &mut ByteStream, to: &mut ByteStream) -> Poll<io::Result<()>> {
        loop {
            while !self.buffer.is_empty() {
                let written = ready!(Pin::new(&mut *to).poll_write(context, self.buffer.bytes()))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.buffer.consume(written);
            }
            ready!(self.bulk.poll_drain(context, to))?;
            if self.finished {
                if !self.closed {
                    self.release();
                    ready!(Pin::new(&mut *to).poll_shutdown(context))?;
                    self.closed = true;
                }
                return Poll::Ready(Ok(()));
            }
            match self.poll_fill(context, from) {
                Poll::Ready(came) => {
                    let came = came?;
                    self.total += came as u64;
                    self.finished = came == 0;
                }
                Poll::Pending => {
                    self.release();
                    return Poll::Pending;
                }
            }
        }
    }

    /// `Ready(Ok(0))`: the end.
    fn poll_fill(&mut self, context: &mut Context<'_>, from: &mut ByteStream) -> Poll<io::Result<usize>> {
        let moved = ready!(self.bulk.poll_fill(context, from, u64::MAX))?;
        if moved > 0 {
            return Poll::Ready(Ok(moved));
        }
        let read = ready!(self.buffer.poll_read(from, context))?;
        self.bulk.was_read(!self.buffer.has_room());
        Poll::Ready(Ok(read))
    }

    /// Who waits holds neither buffer nor pipe.
    fn release(&mut self) {
        self.buffer.release();
        self.bulk.release();
    }
}

#[cfg(test)]
mod tests {
    use super::super::lab::{BULK, bulk, pair};
    use super::super::pipe;
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    async fn copy(client: &mut ByteStream, first: &[u8], upstream: &mut ByteStream, idle: Duration) -> Copied {
        Copy::new((client, Buffer::with(first)), (upstream, Buffer::default()), idle).run().await
    }

    #[tokio::test]
    async fn half_close_passes_and_the_other_way_stays_open() {
        let (mut client, mut proxy_client) = pair().await;
        let (mut server, mut proxy_upstream) = pair().await;
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
        let (mut server, mut proxy_upstream) = pair().await;
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
        assert!(pipe::count().0 > 0, "bulk went through a pipe, and the pipe was given back");
    }

    #[tokio::test]
    async fn silence_ends_it() {
        let (_client, mut proxy_client) = pair().await;
        let (_server, mut proxy_upstream) = pair().await;
        let copied = copy(&mut proxy_client, b"", &mut proxy_upstream, Duration::from_millis(20)).await;
        assert_eq!(copied.result.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_slow_reader_holds_the_writer_back() {
        let (mut client, mut proxy_client) = pair().await;
        let (mut server, mut proxy_upstream) = pair().await;
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

    /// Small, bulk, small and an end.
    async fn mixed(from: &mut TcpStream, to: &mut TcpStream, data: &[u8], before: &[u8]) {
        from.write_all(b"fix").await.unwrap();
        let mut small = vec![0; before.len()];
        to.read_exact(&mut small).await.unwrap();
        assert_eq!(small, before);
        let mut got = Vec::new();
        let send = async {
            from.write_all(data).await.unwrap();
            from.write_all(b"end").await.unwrap();
            from.shutdown().await.unwrap();
        };
        let ((), read) = tokio::join!(send, to.read_to_end(&mut got));
        assert_eq!(read.unwrap(), BULK + 3);
        assert!(got.starts_with(data) && got.ends_with(b"end"));
    }

    /// From the client; then from the server.
    async fn mixed_both_ways() -> Copied {
        let (mut client, mut proxy_client) = pair().await;
        let (mut server, mut proxy_upstream) = pair().await;
        let copy =
            tokio::spawn(
                async move { copy(&mut proxy_client, b"pre", &mut proxy_upstream, Duration::from_secs(60)).await },
            );
        mixed(&mut client, &mut server, &bulk(0), b"prefix").await;
        mixed(&mut server, &mut client, &bulk(7), b"fix").await;
        copy.await.unwrap()
    }

    #[tokio::test]
    async fn bulk_goes_through_a_pipe_and_totals_are_exact() {
        let copied = mixed_both_ways().await;
        copied.result.unwrap();
        assert_eq!((copied.received, copied.sent), (BULK as u64 + 9, BULK as u64 + 6));
        let (free, used) = pipe::count();
        assert!(free > 0, "nothing went through a pipe");
        assert_eq!(used, 0, "who waits, or has ended, holds none");
    }

    #[tokio::test]
    async fn without_a_pipe_bulk_is_copied() {
        pipe::exhaust();
        let copied = mixed_both_ways().await;
        copied.result.unwrap();
        assert_eq!((copied.received, copied.sent), (BULK as u64 + 9, BULK as u64 + 6));
        assert_eq!(pipe::count().0, 0);
    }

    #[tokio::test]
    async fn small_messages_take_no_pipe() {
        let (mut client, mut proxy_client) = pair().await;
        let (mut server, mut proxy_upstream) = pair().await;
        let mut copy = Copy::new(
            (&mut proxy_client, Buffer::default()),
            (&mut proxy_upstream, Buffer::default()),
            Duration::from_secs(60),
        );
        let talk = async {
            for _ in 0..100 {
                client.write_all(&[1; 1000]).await.unwrap();
                server.read_exact(&mut [0; 1000]).await.unwrap();
            }
        };
        tokio::select! {
            _ = copy.run() => unreachable!("nobody closed"),
            () = talk => {}
        }
        assert_eq!(copy.totals(), (100_000, 0));
        assert_eq!(pipe::count(), (0, 0));
    }

    #[tokio::test]
    async fn what_a_cut_leaves_in_a_pipe_reaches_nobody() {
        let (mut client, mut proxy_client) = pair().await;
        let (mut server, mut proxy_upstream) = pair().await;
        let mut copy = Copy::new(
            (&mut proxy_client, Buffer::default()),
            (&mut proxy_upstream, Buffer::default()),
            Duration::from_secs(60),
        );
        let data = bulk(0);
        // The server does not read, so that both sockets and the pipe fill up.
        let stalled = async {
            for piece in data.chunks(100_000).cycle() {
                if tokio::time::timeout(Duration::from_millis(200), client.write_all(piece)).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            _ = copy.run() => unreachable!("nobody closed"),
            () = stalled => {}
        }
        assert_eq!(pipe::count(), (0, 1));
        let (received, _) = copy.totals();
        drop(copy);
        assert_eq!(pipe::count(), (0, 0));
        drop(proxy_upstream);
        let mut got = Vec::new();
        let _ = server.read_to_end(&mut got).await;
        assert!(!got.is_empty() && (got.len() as u64) < received);
    }

    #[tokio::test]
    async fn urgent_data_within_bulk_stalls_nothing() {
        let (mut client, mut proxy_client) = pair().await;
        let (mut server, mut proxy_upstream) = pair().await;
        let copy =
            tokio::spawn(
                async move { copy(&mut proxy_client, b"", &mut proxy_upstream, Duration::from_secs(60)).await },
            );
        let data = bulk(0);
        let send = async {
            client.write_all(&data).await.unwrap();
            socket2::SockRef::from(&client).send_out_of_band(b"!").unwrap();
            client.write_all(&data).await.unwrap();
            client.shutdown().await.unwrap();
        };
        let mut got = Vec::new();
        let (_, read) = tokio::join!(send, server.read_to_end(&mut got));
        // As with any reader that does not ask for it, the urgent byte itself is left out.
        assert_eq!(read.unwrap(), 2 * BULK);
        drop(server);
        copy.await.unwrap().result.unwrap();
    }
}
