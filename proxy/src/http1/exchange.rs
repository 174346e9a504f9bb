//! One request and its answer: both bodies at once, each at the pace of its receiver.

use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use eastwall_policy::canonical::Refusal;
use eastwall_policy::world::CanonicalScope;
use tokio::time::Instant;

use super::codec::Codec;
use super::wire::Wire;
use super::{Asked, BodyLength, BodyReader, HeadLimits, Version, write};
use crate::stream::{Bulk, Deadline};

/// How an exchange ended.
#[derive(Debug)]
pub(super) enum End {
    /// The answer is with the client, whole.
    Done {
        /// The client's connection goes on.
        keep_client: bool,
        /// The upstream's connection may serve another request.
        keep_upstream: bool,
    },
    /// From here on bytes are not HTTP.
    Tunnel,
    /// The upstream was lost before it answered.
    NoAnswer,
    /// What the upstream answered is no valid response; nothing of it was passed on.
    BadAnswer(Refusal),
    /// The body of the request is no valid body; nothing was answered yet.
    BadBody(Refusal),
    /// One side was lost in the middle, or is silent for too long: nothing can be said any more.
    Broken(io::Error),
}

/// An exchange under way.
pub(super) struct Exchange<'a> {
    pub(super) client: &'a mut Wire,
    pub(super) upstream: &'a mut Wire,
    pub(super) codec: &'a mut Codec,
    pub(super) scope: &'a CanonicalScope,
    pub(super) limits: HeadLimits,
    pub(super) idle: &'a mut Deadline,
    pub(super) idle_timeout: Duration,
    /// The client's connection ends with this answer, whatever it is.
    pub(super) last: bool,
    pub(super) progress: Progress,
    /// The bodies' ways past user space.
    pub(super) bulk: BothWays,
}

/// Large bodies with a length. While one of these holds bytes, no more is put into the output that they follow.
#[derive(Debug)]
pub(super) struct BothWays {
    up: Bulk,
    down: Bulk,
}

/// How far it is.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Status of the answer whose head was passed on.
    pub(super) status: Option<u16>,
    /// A byte of an answer has arrived.
    answered: bool,
    rechunk: bool,
    close: bool,
    /// The answer began before the request had ended.
    early: bool,
    /// The upstream takes no more.
    deaf: bool,
    interim: u8,
}

/// More 1xx than any server has to say.
const INTERIM_MAX: u8 = 32;

impl Exchange<'_> {
    /// Runs to the end.
    pub(super) async fn run(&mut self) -> End {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<End> {
        loop {
            let moved = match self.up(context).and_then(|up| self.down(context).map(|down| up | down)) {
                Ok(moved) => moved,
                Err(end) => return Poll::Ready(end),
            };
            if !moved {
                break;
            }
            self.idle.set(Instant::now() + self.idle_timeout);
        }
        match self.idle.poll(context) {
            Poll::Ready(()) => Poll::Ready(End::Broken(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }

    /// The request's way: true when something moved.
    fn up(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        let mut moved = false;
        while !self.codec.up.is_ended() && !self.progress.deaf && self.upstream.has_room() && self.bulk.up.is_empty() {
            if self.client.input.is_empty() {
                match poll_more(context, self.client, self.upstream, &mut self.bulk.up, &mut self.codec.up) {
                    Poll::Ready(Ok(0)) => return Err(End::Broken(io::ErrorKind::UnexpectedEof.into())),
                    Poll::Ready(Ok(_)) => moved = true,
                    Poll::Ready(Err(error)) => return Err(End::Broken(error)),
                    Poll::Pending => break,
                }
            }
            self.take_body()?;
        }
        if self.codec.up.is_ended() && self.client.input.has_room() && !self.client.ended {
            // What comes now is the next request, and waits. But a reset means that nobody waits for this answer.
            match self.client.poll_fill(context) {
                Poll::Ready(Ok(read)) => moved |= read > 0,
                Poll::Ready(Err(error)) => return Err(End::Broken(error)),
                Poll::Pending => {}
            }
        }
        if !is_flushed(self.upstream, &self.bulk.up) {
            match poll_flush(context, self.upstream, &mut self.bulk.up) {
                Poll::Ready(Ok(())) => moved = true,
                // It may have answered before it closed: what it said is read first.
                Poll::Ready(Err(_)) => {
                    self.progress.deaf = true;
                    self.upstream.discard();
                    self.bulk.up.release();
                }
                Poll::Pending => {}
            }
        }
        Ok(moved)
    }

    fn take_body(&mut self) -> Result<(), End> {
        let Codec { request, up, .. } = &mut *self.codec;
        let refused = |refusal| match self.progress.status {
            None => End::BadBody(refusal),
            Some(_) => End::Broken(io::Error::other(refusal)),
        };
        let piece = up.read(self.client.input.bytes()).map_err(refused)?;
        let chunked = request.body_length() == BodyLength::Chunked;
        if chunked {
            write::chunk(piece.data, &mut self.upstream.output);
        } else {
            self.upstream.output.extend_from_slice(piece.data);
        }
        let (consumed, end) = (piece.consumed, piece.end);
        self.client.input.consume(consumed);
        if end && chunked {
            let trailers = up.request_trailers(self.scope).map_err(refused)?;
            write::last_chunk(trailers, &mut self.upstream.output);
        }
        Ok(())
    }

    /// The answer's way: true when something moved.
    fn down(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        let mut moved = false;
        while self.client.has_room() && self.bulk.down.is_empty() && !self.is_answered() {
            if self.progress.status.is_none() {
                if !self.upstream.input.is_empty() && self.take_head()? {
                    moved = true;
                    continue;
                }
            } else if !self.upstream.input.is_empty() {
                self.take_answer()?;
                moved = true;
                continue;
            }
            match poll_more(context, self.upstream, self.client, &mut self.bulk.down, &mut self.codec.down) {
                Poll::Ready(Ok(0)) => self.end_of_upstream()?,
                Poll::Ready(Ok(_)) => {
                    self.progress.answered = true;
                    moved = true;
                }
                Poll::Ready(Err(error)) => return Err(self.lost(error)),
                Poll::Pending => break,
            }
        }
        if !is_flushed(self.client, &self.bulk.down) {
            match poll_flush(context, self.client, &mut self.bulk.down) {
                Poll::Ready(Ok(())) => moved = true,
                Poll::Ready(Err(error)) => return Err(End::Broken(error)),
                Poll::Pending => return Ok(moved),
            }
        }
        if !self.is_answered() {
            return Ok(moved);
        }
        if self.codec.response.is_tunnel() {
            return Err(End::Tunnel);
        }
        let Progress { close, early, deaf, .. } = self.progress;
        Err(End::Done {
            keep_client: !close,
            keep_upstream: self.codec.response.keep_alive() && !early && !deaf && self.upstream.input.is_empty(),
        })
    }

    fn is_answered(&self) -> bool {
        self.progress.status.is_some() && self.codec.down.is_ended() && self.bulk.down.is_empty()
    }

    /// Reads a head, if it is whole; interim ones are passed on as they come.
    fn take_head(&mut self) -> Result<bool, End> {
        let Codec { request, response, up, down, .. } = &mut *self.codec;
        let input = &mut self.upstream.input;
        let read = response.read(input.bytes(), self.limits, Asked::from(&*request)).map_err(End::BadAnswer)?;
        let Some(length) = read else { return Ok(false) };
        input.consume(length);
        let client = request.version();
        if response.is_interim() {
            self.progress.interim += 1;
            if self.progress.interim > INTERIM_MAX {
                return Err(End::BadAnswer(Refusal::HeadTooLarge));
            }
            // SPEC: RFC 9110 15.2, a client of HTTP/1.0 knows none.
            if client == Version::Http11 {
                write::response_head(response, client, false, &mut self.client.output);
            }
            return Ok(true);
        }
        let body = response.body_length();
        self.progress.early = !up.is_ended() || !is_flushed(self.upstream, &self.bulk.up);
        if response.is_tunnel() && self.progress.early {
            // It switched before it can have read what it was asked.
            return Err(End::BadAnswer(Refusal::UnaskedUpgrade));
        }
        self.progress.rechunk = write::rechunks(body, client);
        let unframed = body == BodyLength::UntilClose || (body == BodyLength::Chunked && !self.progress.rechunk);
        self.progress.close = self.last || !request.keep_alive() || self.progress.early || unframed;
        write::response_head(response, client, self.progress.close, &mut self.client.output);
        self.progress.status = Some(response.status());
        down.begin(body);
        Ok(true)
    }

    fn take_answer(&mut self) -> Result<(), End> {
        let down = &mut self.codec.down;
        let piece = down.read(self.upstream.input.bytes()).map_err(|refusal| End::Broken(io::Error::other(refusal)))?;
        if self.progress.rechunk {
            write::chunk(piece.data, &mut self.client.output);
        } else {
            self.client.output.extend_from_slice(piece.data);
        }
        let (consumed, end) = (piece.consumed, piece.end);
        self.upstream.input.consume(consumed);
        if end && self.progress.rechunk {
            let trailers = down.response_trailers().map_err(|refusal| End::Broken(io::Error::other(refusal)))?;
            write::last_chunk(trailers, &mut self.client.output);
        }
        Ok(())
    }

    fn end_of_upstream(&mut self) -> Result<(), End> {
        match self.progress.status {
            Some(_) => self.codec.down.finish().map_err(|refusal| End::Broken(io::Error::other(refusal))),
            None => Err(self.lost(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    fn lost(&self, error: io::Error) -> End {
        match self.progress.status {
            None => End::NoAnswer,
            Some(_) => End::Broken(error),
        }
    }
}

/// The next of a body: into the pipe where it may, or else into the input. `Ready(Ok(0))`: the peer has ended its
/// direction.
fn poll_more(
    context: &mut Context<'_>,
    from: &mut Wire,
    to: &mut Wire,
    bulk: &mut Bulk,
    body: &mut BodyReader,
) -> Poll<io::Result<usize>> {
    let passed = ready!(bulk.poll_fill(context, &mut from.stream, body.left()))?;
    if passed > 0 {
        body.passed(passed);
        from.received += passed as u64;
        to.sent += passed as u64;
        return Poll::Ready(Ok(passed));
    }
    let read = ready!(from.poll_fill(context))?;
    bulk.was_read(!from.input.has_room());
    Poll::Ready(Ok(read))
}

/// Writes all that is to be written, and then what is in the pipe.
fn poll_flush(context: &mut Context<'_>, to: &mut Wire, bulk: &mut Bulk) -> Poll<io::Result<()>> {
    ready!(to.poll_flush(context))?;
    bulk.poll_drain(context, &to.stream)
}

fn is_flushed(to: &Wire, bulk: &Bulk) -> bool {
    to.is_flushed() && bulk.is_empty()
}

impl BothWays {
    /// Nothing is in them.
    pub(super) fn between(client: &Wire, upstream: &Wire) -> Self {
        let [up, down] = [(); 2].map(|()| Bulk::between(&client.stream, &upstream.stream));
        Self { up, down }
    }
}

impl Progress {
    /// Nothing came back, not even an interim answer.
    pub(super) fn is_silent(&self) -> bool {
        !self.answered
    }
}

#[cfg(test)]
mod tests {
    use eastwall_policy::canonical::Scheme;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::stream::lab::{BULK, bulk, pair};
    use crate::stream::{Buffer, pipes, without_pipes};

    struct Site {
        client: Wire,
        upstream: Wire,
        codec: Box<Codec>,
        scope: CanonicalScope,
    }

    impl Site {
        /// `client` and `upstream`, whose first request with this head is about to be passed on.
        async fn new(head: &str) -> (TcpStream, TcpStream, Self) {
            let ((mut near, client), (far, upstream)) = (pair().await, pair().await);
            let [mut client, mut upstream] = [client, upstream].map(|stream| Wire::new(stream, Buffer::default()));
            let limits = HeadLimits::default();
            let (mut codec, scope) = (Codec::new(limits), CanonicalScope::default());
            near.write_all(head.as_bytes()).await.unwrap();
            while client.input.bytes().len() < head.len() {
                std::future::poll_fn(|context| client.poll_fill(context)).await.unwrap();
            }
            let read = codec.request.read(client.input.bytes(), limits, &scope, Scheme::Http).unwrap();
            client.input.consume(read.unwrap());
            write::request_head(&codec.request, &mut upstream.output);
            codec.up.begin(codec.request.body_length());
            codec.down.begin(BodyLength::None);
            (near, far, Self { client, upstream, codec, scope })
        }

        async fn run(&mut self) -> End {
            let mut idle = Deadline::new(Instant::now() + Duration::from_secs(60));
            let bulk = BothWays::between(&self.client, &self.upstream);
            let mut exchange = Exchange {
                client: &mut self.client,
                upstream: &mut self.upstream,
                codec: &mut self.codec,
                scope: &self.scope,
                limits: HeadLimits::default(),
                idle: &mut idle,
                idle_timeout: Duration::from_secs(60),
                last: false,
                progress: Progress::default(),
                bulk,
            };
            exchange.run().await
        }
    }

    async fn head_of(stream: &mut TcpStream) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    /// A large body each way, with the next request and the bytes of the next answer right behind.
    async fn exchange_of_large_bodies() {
        let head = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {BULK}\r\n\r\n");
        let (mut near, mut far, mut site) = Site::new(&head).await;
        let talk = async {
            let asked = async {
                near.write_all(&bulk(1)).await.unwrap();
                near.write_all(b"GET /next HTTP/1.1\r\n").await.unwrap();
            };
            let received = async {
                assert!(head_of(&mut far).await.contains(&format!("Content-Length: {BULK}\r\n")));
                let mut got = vec![0; BULK];
                far.read_exact(&mut got).await.unwrap();
                assert!(got == bulk(1));
            };
            tokio::join!(asked, received);
            let answered = async {
                far.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {BULK}\r\n\r\n").as_bytes()).await.unwrap();
                far.write_all(&bulk(2)).await.unwrap();
            };
            let received = async {
                head_of(&mut near).await;
                let mut got = vec![0; BULK];
                near.read_exact(&mut got).await.unwrap();
                assert!(got == bulk(2));
            };
            tokio::join!(answered, received);
        };
        let (end, ()) = tokio::join!(site.run(), talk);
        assert!(matches!(end, End::Done { keep_client: true, keep_upstream: true }), "{end:?}");
        assert_eq!(site.client.input.bytes(), b"GET /next HTTP/1.1\r\n", "the next request was not passed on");
        assert_eq!(site.upstream.received, site.client.sent);
        assert!(far.try_read(&mut [0; 1]).is_err(), "nothing more reaches the upstream");
    }

    #[tokio::test]
    async fn large_bodies_pass_through_pipes_to_their_last_byte() {
        exchange_of_large_bodies().await;
        let (free, used) = pipes();
        assert!(free > 0, "nothing went through a pipe");
        assert_eq!(used, 0, "who has ended holds none");
    }

    #[tokio::test]
    async fn without_a_pipe_large_bodies_are_copied() {
        without_pipes();
        exchange_of_large_bodies().await;
        assert_eq!(pipes().0, 0);
    }

    #[tokio::test]
    async fn a_body_in_chunks_is_read_and_takes_no_pipe() {
        let (mut near, mut far, mut site) =
            Site::new("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        let talk = async {
            let asked = async {
                for piece in bulk(1).chunks(100_000) {
                    near.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await.unwrap();
                    near.write_all(piece).await.unwrap();
                    near.write_all(b"\r\n").await.unwrap();
                }
                near.write_all(b"0\r\n\r\n").await.unwrap();
            };
            let received = async {
                let mut got = Vec::new();
                while !got.ends_with(b"\r\n0\r\n\r\n") {
                    far.read_buf(&mut got).await.unwrap();
                }
                far.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            };
            tokio::join!(asked, received);
            head_of(&mut near).await;
        };
        let (end, ()) = tokio::join!(site.run(), talk);
        assert!(matches!(end, End::Done { keep_client: true, keep_upstream: true }), "{end:?}");
        assert_eq!(pipes(), (0, 0));
    }

    #[tokio::test]
    async fn an_answer_in_the_middle_of_a_large_body_ends_both_connections() {
        let (mut near, mut far, mut site) =
            Site::new("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n").await;
        let talk = async {
            head_of(&mut far).await;
            let sent = async {
                // Until nobody takes any more of it.
                while tokio::time::timeout(Duration::from_millis(200), near.write_all(&[1; 100_000])).await.is_ok() {}
            };
            sent.await;
            assert_eq!(pipes().1, 1, "it waits in a pipe");
            far.write_all(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            assert!(head_of(&mut near).await.contains("413"));
        };
        let (end, ()) = tokio::join!(site.run(), talk);
        assert!(matches!(end, End::Done { keep_client: false, keep_upstream: false }), "{end:?}");
        assert_eq!(pipes(), (0, 0), "a pipe that holds bytes is closed");
    }

    #[tokio::test]
    async fn an_upstream_that_leaves_in_the_middle_of_a_large_body_truncates_it() {
        let (mut near, mut far, mut site) = Site::new("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let talk = async {
            head_of(&mut far).await;
            let answered = async {
                far.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {BULK}\r\n\r\n").as_bytes()).await.unwrap();
                far.write_all(&bulk(2)[..BULK / 2]).await.unwrap();
                drop(far);
            };
            let received = async {
                head_of(&mut near).await;
                let mut got = vec![0; BULK / 2];
                near.read_exact(&mut got).await.unwrap();
                assert!(got == bulk(2)[..BULK / 2]);
            };
            tokio::join!(answered, received);
        };
        let (end, ()) = tokio::join!(site.run(), talk);
        assert!(matches!(end, End::Broken(_)), "{end:?}");
    }
}
