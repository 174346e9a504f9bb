//! One stream: judged, sent upstream, answered; judged again whenever the world is swapped under it.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use eastwall_policy::canonical::{self, Refusal};
use eastwall_policy::facts::Protocol;
use eastwall_policy::verdict::{Action, Proof, Reason as Refused, Verdict};
use h2::client::ResponseFuture;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::sync::Notify;

use super::IDLE_TICKS;
use super::answer::Answer;
use super::head::{self, Forward, Head, strip};
use super::pool::NoUpstream;
use super::relay::{Broken, reason, relay};
use super::serve::Hurry;
use crate::connection::{Session, Told, now, revoked};
use crate::identity::Judged;
use crate::observe::{DecisionId, Limit};
use crate::policy::Watch;

/// Serves one stream to its end.
pub(super) async fn stream(
    session: Rc<Session>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    hurry: Rc<Hurry>,
    started: Instant,
) {
    let mut watch = session.worker.news.watch();
    let judged = session.judged();
    watch.judged(&judged.world);
    let (parts, body) = request.into_parts();
    let protocol = head::protocol(&parts.method, &parts.headers);
    let scope = judged.world.canonical_scope(&judged.flow);
    let (head, forward) = match Head::new(parts, protocol, scope, &session.worker.limits) {
        Ok(read) => read,
        Err(refusal) => return reject(&session, &judged, refusal, protocol, started, &mut respond),
    };
    let (asked, now) = (Instant::now(), now());
    let verdict = session.verdict(&judged, &head.request(now));
    let call = Call { session: &session, head: &head, started, now, decision: asked.elapsed() };
    let mut given = Given { respond, stream: None, status: None };
    if verdict.action != Action::Allow {
        return call.deny(&judged, &verdict, false, &mut given);
    }
    let end = call.run(&judged, forward, body, &mut given, &mut watch).await;
    match end {
        End::Done => {}
        End::Revoked(judged, verdict) => return call.deny(&judged, &verdict, true, &mut given),
        End::Reset(reason) => {
            if given.status.is_none() {
                hurry.abandon();
            }
            given.reset(reason);
        }
        End::NoAnswer => given.refuse(Answer::Unavailable, protocol),
    }
    call.tell(&judged, &verdict, given.status, false, None);
}

/// A stream that was judged.
struct Call<'a> {
    session: &'a Session,
    head: &'a Head,
    started: Instant,
    /// When it was judged, in seconds since the epoch.
    now: i64,
    decision: Duration,
}

/// What the client was given so far.
struct Given {
    respond: SendResponse<Bytes>,
    stream: Option<SendStream<Bytes>>,
    status: Option<u16>,
}

/// For how long nothing has moved on a stream.
struct Quiet {
    /// Bytes that had moved at the tick `since`.
    seen: u64,
    since: u64,
}

/// How a stream ended.
enum End {
    /// With the upstream's answer, whole.
    Done,
    /// A swap took back what was allowed.
    Revoked(Rc<Judged>, Verdict),
    /// One side broke off, and the other is told so.
    Reset(Reason),
    /// The upstream cannot be reached, or was lost before its answer.
    NoAnswer,
}

// === impl Call ===

impl Call<'_> {
    async fn run(
        &self,
        judged: &Judged,
        forward: Forward,
        mut body: RecvStream,
        given: &mut Given,
        watch: &mut Watch,
    ) -> End {
        let again = |judged: &Judged| self.session.verdict(judged, &self.head.request(now()));
        let sent = tokio::select! {
            biased;
            (judged, verdict) = revoked(self.session, watch, again) => return End::Revoked(judged, verdict),
            sent = self.send(judged, forward, body.is_end_stream()) => sent,
            // Whoever waits for a place upstream and leaves must not go on waiting.
            reset = poll_fn(|context| given.respond.poll_reset(context)) => {
                return End::Reset(reset.unwrap_or(Reason::CANCEL));
            }
        };
        let (mut response, mut upstream) = match sent {
            Ok(sent) => sent,
            Err(error) => {
                tracing::debug!(%error, destination = %self.session.ends.destination, "no upstream");
                return End::NoAnswer;
            }
        };
        let moved = Cell::new(0);
        let answered = Notify::new();
        let mut up_open = !body.is_end_stream();
        let mut up = pin!(async {
            if self.head.is_connect() {
                // Nothing passes before a 2xx.
                answered.notified().await;
            }
            let scope = judged.world.canonical_scope(&judged.flow);
            relay(&mut body, &mut upstream, &moved, |trailers| {
                strip(trailers);
                head::bounded(trailers, 0, &self.session.worker.limits).is_ok()
                    && canonical::trailers(lines(trailers), scope).is_ok()
            })
            .await
        });
        let mut down = pin!(down(&mut response, given, &moved, &answered));
        let mut quiet = Quiet { seen: 0, since: self.session.worker.news.ticks() };
        loop {
            tokio::select! {
                biased;
                (judged, verdict) = revoked(self.session, watch, again) => return End::Revoked(judged, verdict),
                end = &mut down => return end,
                result = &mut up, if up_open => {
                    up_open = false;
                    match result {
                        // What the upstream no longer wants is not sent; its answer, or its reset, comes down.
                        Ok(()) | Err(Broken::Sink(_)) => {}
                        Err(Broken::Source(reason)) => return End::Reset(reason),
                        Err(Broken::Trailers) => return End::Reset(Reason::PROTOCOL_ERROR),
                    }
                }
                // Polled at each tick, because `revoked` is.
                () = poll_fn(|_| quiet.poll(moved.get(), self.session.worker.news.ticks())) => {
                    self.session.worker.recorder.refused_connection(Limit::StreamIdle);
                    return End::Reset(Reason::CANCEL);
                }
            }
        }
    }

    /// Sends the head upstream.
    async fn send(
        &self,
        judged: &Judged,
        forward: Forward,
        end: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), NoUpstream> {
        let mut sender = self.session.worker.http2.acquire(self.session, &judged.pool_key, self.started).await?;
        let request = self.head.forwarded(forward).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok(sender.send_request(request, end)?)
    }

    fn deny(&self, judged: &Judged, verdict: &Verdict, revoked: bool, given: &mut Given) {
        let id = self.session.recorder.decision_id();
        let answer = match verdict.reason {
            Refused::InvalidToken => Answer::Unauthenticated(id),
            _ => Answer::Denied(id),
        };
        given.refuse(answer, self.head.protocol());
        self.tell(judged, verdict, given.status, revoked, Some(id));
    }

    fn tell(&self, judged: &Judged, verdict: &Verdict, status: Option<u16>, revoked: bool, id: Option<DecisionId>) {
        let told = Told {
            judged,
            verdict,
            refusal: None,
            protocol: self.head.protocol(),
            request: Some(&self.head.request(self.now)),
            status,
            decision: self.decision,
            started: self.started,
            revoked,
        };
        self.session.tell(&told, id);
    }
}

// === impl Quiet ===

impl Quiet {
    /// Ready when as many ticks have passed as make up the bound, each of them whole.
    fn poll(&mut self, moved: u64, ticks: u64) -> Poll<()> {
        if moved != self.seen {
            *self = Self { seen: moved, since: ticks };
        }
        if ticks - self.since > u64::from(IDLE_TICKS) { Poll::Ready(()) } else { Poll::Pending }
    }
}

// === impl Given ===

impl Given {
    /// Answers, or ends the answer that has begun.
    fn refuse(&mut self, answer: Answer, protocol: Protocol) {
        match &mut self.stream {
            Some(stream) => answer.cut(stream, protocol),
            None => {
                self.status = Some(answer.status(protocol));
                answer.send(&mut self.respond, protocol);
            }
        }
    }

    fn reset(&mut self, reason: Reason) {
        match &mut self.stream {
            Some(stream) => stream.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
    }
}

/// The upstream's answer, on its way to the client.
async fn down(response: &mut ResponseFuture, given: &mut Given, moved: &Cell<u64>, answered: &Notify) -> End {
    let mut interim = 0;
    let answer = poll_fn(|context| {
        if let Poll::Ready(reset) = given.respond.poll_reset(context) {
            return Poll::Ready(Err(reset.unwrap_or(Reason::CANCEL)));
        }
        while let Poll::Ready(Some(Ok(mut early))) = response.poll_informational(context) {
            interim += 1;
            if interim > INTERIM_MAX {
                // Nothing holds back heads that no window bounds.
                return Poll::Ready(Err(Reason::ENHANCE_YOUR_CALM));
            }
            strip(early.headers_mut());
            // A client that is gone shows as a reset.
            let _ = given.respond.send_informational(early);
        }
        Pin::new(&mut *response).poll(context).map(Ok)
    })
    .await;
    let (mut parts, mut body) = match answer {
        Ok(Ok(response)) => response.into_parts(),
        Ok(Err(error)) if error.is_reset() => return End::Reset(reason(&error)),
        Ok(Err(_)) => return End::NoAnswer,
        Err(reset) => return End::Reset(reset),
    };
    strip(&mut parts.headers);
    let success = parts.status.is_success();
    given.status = Some(parts.status.as_u16());
    let end = body.is_end_stream();
    let stream = match given.respond.send_response(Response::from_parts(parts, ()), end) {
        Ok(stream) => given.stream.insert(stream),
        Err(_) => return End::Reset(Reason::CANCEL),
    };
    if success {
        answered.notify_one();
    }
    if end {
        return End::Done;
    }
    let trailers = |trailers: &mut HeaderMap| {
        strip(trailers);
        canonical::response_trailers(lines(trailers)).is_ok()
    };
    match relay(&mut body, stream, moved, trailers).await {
        Ok(()) => End::Done,
        Err(Broken::Source(reason) | Broken::Sink(reason)) => End::Reset(reason),
        Err(Broken::Trailers) => End::Reset(Reason::PROTOCOL_ERROR),
    }
}

/// More 1xx than any server has to say.
const INTERIM_MAX: u32 = 32;

fn lines(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
}

/// Not a canonical request: judged by no rule.
fn reject(
    session: &Session,
    judged: &Judged,
    refusal: Refusal,
    protocol: Protocol,
    started: Instant,
    respond: &mut SendResponse<Bytes>,
) {
    let id = session.recorder.decision_id();
    let answer = Answer::Rejected(refusal.status(), id);
    answer.send(respond, protocol);
    let proof = if session.ends.principal.is_some() { Proof::Mtls } else { Proof::Address };
    let told = Told {
        judged,
        verdict: &Verdict::rejected(proof),
        refusal: Some(refusal),
        protocol,
        request: None,
        status: Some(answer.status(protocol)),
        decision: started.elapsed(),
        started,
        revoked: false,
    };
    session.tell(&told, Some(id));
}
