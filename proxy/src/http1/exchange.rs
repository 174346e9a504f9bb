//! One request and its answer: both bodies at once, each at the pace of its receiver.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use eastwall_policy::canonical::Refusal;
use eastwall_policy::world::CanonicalScope;
use tokio::time::Instant;

use super::codec::Codec;
use super::wire::Wire;
use super::{Asked, BodyLength, HeadLimits, Version, write};
use crate::stream::Deadline;

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
        while !self.codec.up.is_ended() && !self.progress.deaf && self.upstream.has_room() {
            if self.client.input.is_empty() {
                match self.client.poll_fill(context) {
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
        if !self.upstream.is_flushed() {
            match self.upstream.poll_flush(context) {
                Poll::Ready(Ok(())) => moved = true,
                // It may have answered before it closed: what it said is read first.
                Poll::Ready(Err(_)) => {
                    self.progress.deaf = true;
                    self.upstream.discard();
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
        while self.client.has_room() && !self.is_answered() {
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
            match self.upstream.poll_fill(context) {
                Poll::Ready(Ok(0)) => self.end_of_upstream()?,
                Poll::Ready(Ok(_)) => {
                    self.progress.answered = true;
                    moved = true;
                }
                Poll::Ready(Err(error)) => return Err(self.lost(error)),
                Poll::Pending => break,
            }
        }
        if !self.client.is_flushed() {
            match self.client.poll_flush(context) {
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
        self.progress.status.is_some() && self.codec.down.is_ended()
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
        self.progress.early = !up.is_ended() || !self.upstream.is_flushed();
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

impl Progress {
    /// Nothing came back, not even an interim answer.
    pub(super) fn is_silent(&self) -> bool {
        !self.answered
    }
}
