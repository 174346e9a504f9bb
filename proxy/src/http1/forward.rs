//! One HTTP/1 client connection: a verdict on every request, and its way to the upstream and back.

use std::io;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use eastwall_policy::canonical::{Refusal, Scheme};
use eastwall_policy::facts::{Fact, Protocol, Request};
use eastwall_policy::verdict::{Action, Proof, Reason, Verdict};
use eastwall_policy::world::ConnectionVerdict;

use super::codec::Codec;
use super::exchange::{BothWays, End, Exchange, Progress};
use super::wire::Wire;
use super::write::{self, Answer};
use super::{BodyLength, HeadLimits, RequestHead, Version};
use crate::connection::{CHALLENGE, Session, Told, now, revoked};
use crate::identity::Judged;
use crate::observe::{DecisionId, Limit};
use crate::policy::Watch;
use crate::stream::{Buffer, ByteStream, Copied, Copy, Deadline, reset};

/// Serves the connection to its end. `first` was read from it already.
pub(crate) async fn serve(session: &Rc<Session>, client: ByteStream, first: Buffer, watch: &mut Watch) -> Copied {
    let limits = &session.worker.limits;
    let mut connection = Connection {
        session,
        watch,
        client: Wire::new(client, first),
        codec: None,
        deadline: Deadline::new(tokio::time::Instant::now() + limits.idle_timeout),
        limits: HeadLimits { bytes: limits.head_bytes, fields: limits.header_fields },
        drain: session.worker.drain.clone(),
    };
    let after = loop {
        match connection.next().await {
            After::Next => {}
            after => break after,
        }
    };
    if let Some(codec) = connection.codec.take() {
        session.worker.http1.give_back(codec);
    }
    let client = connection.client;
    let (received, sent, result) = match after {
        After::Close => {
            let (received, sent) = client.close(limits.body_drain, LINGER.min(limits.head_timeout)).await;
            (received, sent, Ok(()))
        }
        After::Next | After::Gone => (client.received, client.sent, Ok(())),
        After::Reset => {
            let (received, sent) = (client.received, client.sent);
            reset(client.stream);
            (received, sent, Err(io::ErrorKind::ConnectionReset.into()))
        }
    };
    Copied { received, sent, result }
}

/// How long a client may take to read its last answer before its connection is dropped.
const LINGER: Duration = Duration::from_secs(2);

struct Connection<'a> {
    session: &'a Rc<Session>,
    watch: &'a mut Watch,
    client: Wire,
    /// None while nothing is under way.
    codec: Option<Box<Codec>>,
    deadline: Deadline,
    limits: HeadLimits,
    drain: tokio::sync::watch::Receiver<bool>,
}

/// What becomes of the client's connection.
enum After {
    /// Another request.
    Next,
    /// The last answer is under way.
    Close,
    /// Cut.
    Reset,
    /// The client has left.
    Gone,
}

/// What the wait for a head ended with.
enum Head {
    Request(Rc<Judged>),
    Refused(Rc<Judged>, Refusal),
    /// Idle, and not to go on.
    Close,
    /// The connection may not live any more.
    Revoked,
    Gone,
}

impl Connection<'_> {
    async fn next(&mut self) -> After {
        let head = self.head().await;
        let started = Instant::now();
        let Some(mut codec) = self.codec.take() else {
            return match head {
                Head::Revoked => After::Reset,
                Head::Close => After::Close,
                _ => After::Gone,
            };
        };
        let after = match head {
            Head::Request(judged) => self.request(&mut codec, judged, started).await,
            Head::Refused(judged, refusal) => self.reject(&mut codec, &judged, refusal, started).await,
            Head::Close => After::Close,
            Head::Revoked => After::Reset,
            Head::Gone => After::Gone,
        };
        self.codec = Some(codec);
        after
    }

    /// Waits for the next head. An idle connection holds no buffers and no readers.
    async fn head(&mut self) -> Head {
        let limits = &self.session.worker.limits;
        let mut waits_for_rest = false;
        loop {
            let draining = *self.drain.borrow();
            if self.client.input.is_empty() {
                if let Some(codec) = self.codec.take() {
                    self.session.worker.http1.give_back(codec);
                }
                self.client.rest();
                // Its next request may be under way when the drain begins.
                let silence = if draining { limits.detect_timeout } else { limits.idle_timeout };
                self.deadline.set(tokio::time::Instant::now() + silence);
            } else {
                let judged = self.session.judged();
                self.watch.judged(&judged.world);
                let codec = self.codec.get_or_insert_with(|| self.session.worker.http1.codec(self.limits));
                let scope = judged.world.canonical_scope(&judged.flow);
                match codec.request.read(self.client.input.bytes(), self.limits, scope, Scheme::Http) {
                    Ok(Some(length)) => {
                        self.client.input.consume(length);
                        return Head::Request(judged);
                    }
                    Ok(None) => {}
                    Err(refusal) => {
                        if let Some(length) = codec.request.consumed() {
                            self.client.input.consume(length);
                        }
                        return Head::Refused(judged, refusal);
                    }
                }
                if !waits_for_rest {
                    waits_for_rest = true;
                    self.deadline.set(tokio::time::Instant::now() + limits.head_timeout);
                }
            }
            let idle = self.client.input.is_empty();
            let (client, deadline) = (&mut self.client, &mut self.deadline);
            let read = tokio::select! {
                biased;
                () = self.watch.changed() => {
                    let judged = self.session.judged();
                    if let ConnectionVerdict::Deny(_) = judged.world.connection_verdict(&judged.flow, now()) {
                        return Head::Revoked;
                    }
                    self.watch.judged(&judged.world);
                    continue;
                }
                _ = self.drain.wait_for(|draining| *draining), if idle && !draining => continue,
                read = std::future::poll_fn(|context| match client.poll_fill(context) {
                    Poll::Ready(read) => Poll::Ready(Some(read)),
                    Poll::Pending => deadline.poll(context).map(|()| None),
                }) => read,
            };
            match read {
                Some(Ok(0)) if idle => return Head::Gone,
                Some(Ok(0)) => return Head::Refused(self.session.judged(), Refusal::Truncated),
                Some(Ok(_)) => {}
                Some(Err(_)) => return Head::Gone,
                None if idle && draining => return Head::Close,
                None if idle => {
                    self.session.worker.recorder.refused_connection(Limit::IdleTimeout);
                    return Head::Close;
                }
                None => {
                    self.session.worker.recorder.refused_connection(Limit::HeadTimeout);
                    return Head::Refused(self.session.judged(), Refusal::HeadTimeout);
                }
            }
        }
    }

    async fn request(&mut self, codec: &mut Codec, judged: Rc<Judged>, started: Instant) -> After {
        let verdict = judge(self.session, &judged, &codec.request);
        let call = Call { decision: started.elapsed(), started };
        if verdict.action != Action::Allow {
            return self.deny(codec, &judged, &verdict, &call).await;
        }
        let mut retried = false;
        loop {
            let pooled = if retried { None } else { self.session.worker.http1.take(&judged.pool_key) };
            let reused = pooled.is_some();
            let stream = match pooled {
                Some(stream) => stream,
                None => {
                    let dialled = tokio::select! {
                        biased;
                        (judged, verdict) = revoked(self.session, self.watch, |judged| judge(self.session, judged, &codec.request)) => {
                            return self.cut(codec, &judged, &verdict, &call);
                        }
                        dialled = self.session.dial() => dialled,
                    };
                    match dialled {
                        Ok(stream) => stream,
                        Err(error) => {
                            tracing::debug!(%error, destination = %self.session.ends.destination, "no upstream");
                            return self.fail(codec, (&judged, &verdict), 502, &call).await;
                        }
                    }
                }
            };
            let mut upstream = Wire::new(stream, Buffer::default());
            upstream.output = std::mem::take(&mut codec.scratch);
            upstream.output.clear();
            write::request_head(&codec.request, &mut upstream.output);
            codec.up.begin(codec.request.body_length());
            codec.down.begin(BodyLength::None);
            let (end, progress) = {
                // The head is kept beside the readers, for it is judged again while they run.
                let bulk = BothWays::between(&self.client, &upstream);
                let mut exchange = Exchange {
                    client: &mut self.client,
                    upstream: &mut upstream,
                    codec,
                    scope: judged.world.canonical_scope(&judged.flow),
                    limits: self.limits,
                    idle: &mut self.deadline,
                    idle_timeout: self.session.worker.limits.idle_timeout,
                    last: *self.drain.borrow(),
                    progress: Progress::default(),
                    bulk,
                };
                let end = loop {
                    let swapped = tokio::select! {
                        biased;
                        () = self.watch.changed() => None,
                        end = exchange.run() => Some(end),
                    };
                    match swapped {
                        Some(end) => break Ok(end),
                        None => {
                            let judged = self.session.judged();
                            let verdict = judge(self.session, &judged, &exchange.codec.request);
                            if verdict.action != Action::Allow {
                                break Err((judged, verdict));
                            }
                            self.watch.judged(&judged.world);
                        }
                    }
                };
                (end, exchange.progress)
            };
            let end = match end {
                Ok(end) => end,
                Err((judged, verdict)) => {
                    reset(upstream.stream);
                    return self.cut(codec, &judged, &verdict, &call);
                }
            };
            if matches!(end, End::NoAnswer)
                && reused
                && !retried
                && progress.is_silent()
                && is_replayable(&codec.request)
            {
                // SPEC: RFC 9112 9.3.1: the upstream had closed the connection while it was idle.
                retried = true;
                continue;
            }
            return self.conclude(codec, upstream, end, (&judged, &verdict), progress, &call).await;
        }
    }

    /// After an exchange: the record, and what becomes of both connections.
    async fn conclude(
        &mut self,
        codec: &mut Codec,
        upstream: Wire,
        end: End,
        (judged, verdict): (&Judged, &Verdict),
        progress: Progress,
        call: &Call,
    ) -> After {
        match end {
            End::Done { keep_client, keep_upstream } => {
                self.tell(codec, (judged, verdict), progress.status, call);
                codec.scratch = upstream.output;
                if keep_upstream {
                    let limit = self.session.worker.limits.pooled;
                    self.session.worker.http1.put(&judged.pool_key, upstream.stream, limit);
                }
                if keep_client { After::Next } else { After::Close }
            }
            End::Tunnel => {
                self.tell(codec, (judged, verdict), progress.status, call);
                self.tunnel(codec, upstream, call).await
            }
            End::NoAnswer | End::BadAnswer(_) => {
                if let End::BadAnswer(refusal) = end {
                    tracing::warn!(%refusal, destination = %self.session.ends.destination, "invalid response");
                }
                reset(upstream.stream);
                self.fail(codec, (judged, verdict), 502, call).await
            }
            End::BadBody(refusal) => {
                reset(upstream.stream);
                // Where the body ends is not known any more, whatever the refusal says of heads.
                self.answer_refusal(codec, judged, (refusal, false), call).await
            }
            End::Broken(error) => {
                if error.kind() == io::ErrorKind::TimedOut {
                    self.session.worker.recorder.refused_connection(Limit::IdleTimeout);
                }
                tracing::debug!(%error, "exchange broken off");
                reset(upstream.stream);
                self.tell(codec, (judged, verdict), progress.status, call);
                After::Reset
            }
        }
    }

    /// After 101, or 2xx to CONNECT: bytes both ways, for as long as the request that opened it is allowed.
    async fn tunnel(&mut self, codec: &Codec, mut upstream: Wire, call: &Call) -> After {
        let idle = self.session.worker.limits.idle_timeout;
        let input = std::mem::take(&mut self.client.input);
        let answered = std::mem::take(&mut upstream.input);
        let already = input.bytes().len() as u64;
        let mut copy = Copy::new((&mut self.client.stream, input), (&mut upstream.stream, answered), idle);
        let copied = tokio::select! {
            biased;
            (judged, verdict) = revoked(self.session, self.watch, |judged| judge(self.session, judged, &codec.request)) => {
                let (received, sent) = copy.totals();
                self.client.received += received - already;
                self.client.sent += sent;
                reset(upstream.stream);
                return self.cut(codec, &judged, &verdict, call);
            }
            copied = copy.run() => copied,
        };
        self.client.received += copied.received - already;
        self.client.sent += copied.sent;
        match copied.result {
            Ok(()) => After::Gone,
            Err(_) => {
                reset(upstream.stream);
                After::Reset
            }
        }
    }

    /// A swap took back what was allowed: the client sees a reset.
    fn cut(&self, codec: &Codec, judged: &Judged, verdict: &Verdict, call: &Call) -> After {
        let id = self.session.recorder.decision_id();
        let facts = codec.request.facts(now());
        let told = Told {
            judged,
            verdict,
            refusal: None,
            protocol: Protocol::Http,
            request: Some(&facts),
            status: None,
            decision: call.decision,
            started: call.started,
            revoked: true,
        };
        self.session.tell(&told, Some(id));
        After::Reset
    }

    async fn deny(&mut self, codec: &mut Codec, judged: &Judged, verdict: &Verdict, call: &Call) -> After {
        let status = if verdict.reason == Reason::InvalidToken { 401 } else { 403 };
        let id = self.session.recorder.decision_id();
        let facts = codec.request.facts(now());
        let told = Told {
            judged,
            verdict,
            refusal: None,
            protocol: Protocol::Http,
            request: Some(&facts),
            status: Some(status),
            decision: call.decision,
            started: call.started,
            revoked: false,
        };
        self.session.tell(&told, Some(id));
        self.answer(codec, status, "denied by policy\n", Some(id), true).await
    }

    async fn reject(&mut self, codec: &mut Codec, judged: &Judged, refusal: Refusal, started: Instant) -> After {
        let call = Call { decision: started.elapsed(), started };
        // INVARIANT: a head that was not consumed would be read, and refused, again and again.
        let keep = !refusal.closes() && codec.request.consumed().is_some();
        self.answer_refusal(codec, judged, (refusal, keep), &call).await
    }

    async fn answer_refusal(
        &mut self,
        codec: &mut Codec,
        judged: &Judged,
        (refusal, keep): (Refusal, bool),
        call: &Call,
    ) -> After {
        let id = self.session.recorder.decision_id();
        let seen = |bytes| if <[u8]>::is_empty(bytes) { Fact::Absent } else { Fact::Known(bytes) };
        let facts = Request {
            method: seen(codec.request.method()),
            path: seen(codec.request.raw_target()),
            host: codec.request.host().map_or(Fact::Absent, Fact::Known),
            ..Request::opaque(Fact::Known(Protocol::Http), now())
        };
        let proof = if self.session.ends.principal.is_some() { Proof::Mtls } else { Proof::Address };
        let told = Told {
            judged,
            verdict: &Verdict::rejected(proof),
            refusal: Some(refusal),
            protocol: Protocol::Http,
            request: Some(&facts),
            status: Some(refusal.status()),
            decision: call.decision,
            started: call.started,
            revoked: false,
        };
        self.session.tell(&told, Some(id));
        self.answer(codec, refusal.status(), "not a valid request\n", Some(id), keep).await
    }

    async fn fail(
        &mut self,
        codec: &mut Codec,
        (judged, verdict): (&Judged, &Verdict),
        status: u16,
        call: &Call,
    ) -> After {
        self.tell(codec, (judged, verdict), Some(status), call);
        // A body that was read, wholly or in part, must not be waited for again: that would eat the next request.
        let bodiless = codec.request.body_length() == BodyLength::None;
        self.answer(codec, status, "upstream unavailable\n", None, bodiless).await
    }

    fn tell(&self, codec: &Codec, (judged, verdict): (&Judged, &Verdict), status: Option<u16>, call: &Call) {
        let facts = codec.request.facts(now());
        let told = Told {
            judged,
            verdict,
            refusal: None,
            protocol: Protocol::Http,
            request: Some(&facts),
            status,
            decision: call.decision,
            started: call.started,
            revoked: false,
        };
        self.session.tell(&told, None);
    }

    /// An answer of our own. The body that still comes is thrown away within a bound, or the connection ends: it must
    /// never be taken for the next request.
    async fn answer(
        &mut self,
        codec: &mut Codec,
        status: u16,
        body: &str,
        id: Option<DecisionId>,
        keep: bool,
    ) -> After {
        let bound = self.session.worker.limits.body_drain;
        let length = codec.request.body_length();
        let drains = match length {
            BodyLength::None => true,
            // Whether a client that expected to be asked sends its body all the same cannot be known.
            _ if codec.request.expects_continue() => false,
            BodyLength::Length(length) => length <= bound,
            BodyLength::Chunked => true,
            BodyLength::UntilClose => false,
        };
        let keep = keep && drains && codec.request.keep_alive() && !*self.drain.borrow();
        let digits = id.map(DecisionId::hexadecimal);
        let digits = digits.as_ref().and_then(|digits| std::str::from_utf8(digits).ok());
        let id = digits.map(|digits| ("x-eastwall-decision-id", digits));
        // SPEC: RFC 9110 11.6.1, a 401 names its challenge; RFC 6750 3.1.
        let challenge = (status == 401).then_some(("WWW-Authenticate", CHALLENGE));
        let lines: Vec<_> = id.into_iter().chain(challenge).collect();
        let answer = Answer {
            status,
            lines: &lines,
            body,
            head: codec.request.is_head(),
            client: codec.request.version(),
            close: !keep,
        };
        write::answer(&answer, &mut self.client.output);
        if !keep {
            return After::Close;
        }
        let client = &mut self.client;
        codec.up.begin(length);
        let reader = &mut codec.up;
        let rest = async {
            std::future::poll_fn(|context| client.poll_flush(context)).await?;
            let mut thrown = 0;
            while !reader.is_ended() {
                if client.input.is_empty() && std::future::poll_fn(|context| client.poll_fill(context)).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                let piece = reader.read(client.input.bytes()).map_err(io::Error::other)?;
                thrown += piece.consumed as u64;
                let consumed = piece.consumed;
                client.input.consume(consumed);
                if thrown > bound {
                    return Ok(After::Close);
                }
            }
            io::Result::Ok(After::Next)
        };
        match tokio::time::timeout(self.session.worker.limits.head_timeout, rest).await {
            Ok(Ok(after)) => after,
            Ok(Err(_)) | Err(_) => After::Reset,
        }
    }
}

/// When it began, and how long its decision took.
struct Call {
    decision: Duration,
    started: Instant,
}

fn judge(session: &Session, judged: &Judged, head: &RequestHead) -> Verdict {
    session.verdict(judged, &head.facts(now()))
}

/// SPEC: RFC 9110 9.2.2. A body was partly consumed by then and cannot be sent again.
fn is_replayable(head: &RequestHead) -> bool {
    head.body_length() == BodyLength::None
        && head.upgrade().is_none()
        && head.version() == Version::Http11
        && matches!(head.method(), b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE")
}
