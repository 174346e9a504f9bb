//! From an accepted socket to the room of its protocol.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eastwall_policy::canonical;
use eastwall_policy::facts::{Direction, Fact, Protocol, Request};
use eastwall_policy::registry::ApplicationProtocol;
use eastwall_policy::verdict::{Action, Proof, Reason, Verdict};
use eastwall_policy::world::ConnectionVerdict;
use tokio::time::timeout;

use super::{Session, Told, now, opaque};
use crate::app::Worker;
use crate::detect::{Sniffed, sniff};
use crate::intercept::Accepted;
use crate::observe::{ConnectionEnd, Limit};
use crate::policy::Watch;
use crate::stream::{Buffer, ByteStream, Copied, reset};
use crate::{http1, http2, tls};

/// Serves one connection to its end.
///
/// `principal`: the identity that the peer has proven.
pub(crate) async fn serve(accepted: Accepted<ByteStream>, principal: Option<Arc<str>>, worker: Rc<Worker>) {
    let mut watch = worker.news.watch();
    let (session, client) = Session::new(accepted, principal, worker);
    let session = Rc::new(session);
    let copied = route(&session, client, &mut watch).await;
    session.recorder.closed(&ConnectionEnd { received: copied.received, sent: copied.sent });
}

/// What the first bytes are, and the bytes.
enum Kind {
    Http1,
    Http2,
    Tls,
    /// None of these (`Known(Tcp)`), or nothing was said in time.
    Opaque(Fact<Protocol>),
    /// Too little was said in time.
    Late,
    /// Not what the port declares.
    Mismatch(Protocol),
    /// The client left without a word.
    Gone,
}

async fn route(session: &Rc<Session>, mut client: ByteStream, watch: &mut Watch) -> Copied {
    let asked = Instant::now();
    let judged = session.judged();
    watch.judged(&judged.world);
    let verdict = judged.world.connection_verdict(&judged.flow, now());
    let decision = asked.elapsed();
    // HTTP is canonicalised on an open workload too, so its bytes are looked at; what is no HTTP passes as it is.
    let is_open = |reason| matches!(reason, Reason::Unprotected | Reason::BreakGlass);
    let open_http = matches!(&verdict, ConnectionVerdict::Opaque(verdict) if is_open(verdict.reason))
        && session.ends.direction == Direction::Inbound
        && matches!(
            judged.declared,
            Some(ApplicationProtocol::Http | ApplicationProtocol::Http2 | ApplicationProtocol::Grpc)
        );
    let looks = judged.asks_for_tokens().is_some();
    if !open_http
        && !looks
        && let ConnectionVerdict::Opaque(verdict) = &verdict
    {
        let allowed = (&*judged, verdict, decision);
        return opaque::pass(session, client, Buffer::default(), Protocol::Tcp, allowed, None, watch).await;
    }
    let declared = if open_http && !looks { None } else { judged.declared };
    drop(judged);

    let mut first = Buffer::default();
    let detected = tokio::select! {
        biased;
        () = taken_back(session, watch) => {
            reset(client);
            return nothing(first.bytes(), Err(io::ErrorKind::PermissionDenied.into()));
        }
        detected = detect(session, &mut client, declared, &mut first) => detected,
    };
    let kind = match detected {
        Ok(kind) => kind,
        Err(error) => return nothing(first.bytes(), Err(error)),
    };
    match kind {
        Kind::Http1 => http1::serve(session, client, first, watch).await,
        Kind::Http2 => http2::serve(session, client, first, watch).await,
        Kind::Tls => tls_through(session, client, first, watch).await,
        Kind::Opaque(protocol) => bytes(session, client, first, (protocol, false), watch).await,
        Kind::Late => bytes(session, client, first, (Fact::Unknown, true), watch).await,
        Kind::Mismatch(protocol) => mismatch(session, client, &first, protocol).await,
        Kind::Gone => nothing(first.bytes(), Ok(())),
    }
}

/// Ends when a swap leaves no request that could be allowed: a client that was let wait for its first byte is cut as
/// any other connection is.
async fn taken_back(session: &Session, watch: &mut Watch) {
    loop {
        watch.changed().await;
        let judged = session.judged();
        let asked = Instant::now();
        if let ConnectionVerdict::Deny(verdict) = judged.world.connection_verdict(&judged.flow, now()) {
            let told = Told {
                judged: &judged,
                verdict: &verdict,
                refusal: None,
                protocol: Protocol::Tcp,
                request: None,
                status: None,
                decision: asked.elapsed(),
                started: asked,
                revoked: true,
            };
            session.tell(&told, Some(session.recorder.decision_id()));
            return;
        }
        watch.judged(&judged.world);
    }
}

fn nothing(first: &[u8], result: io::Result<()>) -> Copied {
    Copied { received: first.len() as u64, sent: 0, result }
}

/// A declared protocol is believed: nothing hurries a client that has not begun to speak. On an undeclared port the
/// first bytes have to come within a bound.
async fn detect(
    session: &Session,
    client: &mut ByteStream,
    declared: Option<ApplicationProtocol>,
    first: &mut Buffer,
) -> io::Result<Kind> {
    let limits = &session.worker.limits;
    let believed = match declared {
        Some(ApplicationProtocol::Tcp) => return Ok(Kind::Opaque(Fact::Known(Protocol::Tcp))),
        Some(_) => true,
        None => false,
    };
    if believed {
        tokio::select! {
            read = timeout(limits.idle_timeout, first.read(client)) => match read {
                Ok(read) => {
                    if read? == 0 {
                        return Ok(Kind::Gone);
                    }
                }
                Err(_) => {
                    session.worker.recorder.refused_connection(Limit::IdleTimeout);
                    return Ok(Kind::Gone);
                }
            },
            () = silent_while_draining(session) => return Ok(Kind::Gone),
        }
    }
    let bound = if believed { limits.head_timeout } else { limits.detect_timeout };
    let seen = timeout(bound, async {
        loop {
            match sniff(first.bytes()) {
                Sniffed::More => {}
                answer => return io::Result::Ok(answer),
            }
            if first.read(client).await? == 0 {
                // It has said all it will say, and that was not enough.
                return Ok(Sniffed::More);
            }
        }
    })
    .await;
    let http =
        matches!(declared, Some(ApplicationProtocol::Http | ApplicationProtocol::Http2 | ApplicationProtocol::Grpc));
    let tls = matches!(declared, Some(ApplicationProtocol::Tls));
    Ok(match seen {
        Ok(answer) => match answer? {
            // HTTP/1 on a port of HTTP/2 or gRPC is HTTP: the rules, and the kubelet's probes, say what it may.
            Sniffed::Http1 if tls => Kind::Mismatch(Protocol::Http),
            Sniffed::Http2 if tls => Kind::Mismatch(Protocol::Http2),
            Sniffed::Other if tls => Kind::Mismatch(Protocol::Tcp),
            Sniffed::Http1 => Kind::Http1,
            Sniffed::Http2 => Kind::Http2,
            Sniffed::Tls => Kind::Tls,
            // The codec says what is wrong with it.
            Sniffed::Other | Sniffed::More if http => Kind::Http1,
            Sniffed::Other => Kind::Opaque(Fact::Known(Protocol::Tcp)),
            Sniffed::More => Kind::Opaque(Fact::Unknown),
        },
        Err(_) if http => Kind::Http1,
        Err(_) => Kind::Late,
    })
}

/// Ends when a client that has not begun to speak has been waited for long enough: its first bytes may be under way when
/// the drain begins.
async fn silent_while_draining(session: &Session) {
    // Without a sender the process is at its end.
    let _ = session.worker.drain.clone().wait_for(|draining| *draining).await;
    tokio::time::sleep(session.worker.limits.detect_timeout).await;
}

/// Bytes that are no protocol we know, or a client that waits for the server: judged as what they are.
async fn bytes(
    session: &Session,
    client: ByteStream,
    first: Buffer,
    (protocol, late): (Fact<Protocol>, bool),
    watch: &mut Watch,
) -> Copied {
    let asked = Instant::now();
    let judged = session.judged();
    watch.judged(&judged.world);
    let request = || match protocol {
        Fact::Unknown => Request::unseen(now()),
        protocol => Request::opaque(protocol, now()),
    };
    let verdict = match (judged.asks_for_tokens(), protocol) {
        // Whether it is HTTP, and has a token, cannot be seen.
        (Some(policy), Fact::Unknown) => judged.world.unauthenticated(&judged.flow, policy, now()),
        _ => judged.world.request_verdict(&judged.flow, &request()),
    };
    let decision = asked.elapsed();
    if verdict.action == Action::Allow {
        let allowed = (&*judged, &verdict, decision);
        return opaque::pass(session, client, first, Protocol::Tcp, allowed, Some(&request), watch).await;
    }
    if late {
        session.worker.recorder.refused_connection(Limit::DetectTimeout);
    }
    let facts = request();
    refuse(session, client, Protocol::Tcp, (&judged, &verdict, decision, asked), &facts, first.bytes()).await;
    nothing(first.bytes(), Err(io::ErrorKind::PermissionDenied.into()))
}

/// What a port declares is enforced, whatever the rules would say of these bytes.
async fn mismatch(session: &Session, client: ByteStream, first: &Buffer, protocol: Protocol) -> Copied {
    let asked = Instant::now();
    let judged = session.judged();
    let proof = if session.ends.principal.is_some() { Proof::Mtls } else { Proof::Address };
    let verdict = Verdict::mismatched(proof);
    let facts = Request::opaque(Fact::Known(protocol), now());
    refuse(session, client, protocol, (&judged, &verdict, asked.elapsed(), asked), &facts, first.bytes()).await;
    nothing(first.bytes(), Err(io::ErrorKind::PermissionDenied.into()))
}

async fn refuse(
    session: &Session,
    client: ByteStream,
    protocol: Protocol,
    denied: (&crate::identity::Judged, &Verdict, Duration, Instant),
    request: &Request<'_>,
    first: &[u8],
) {
    let (judged, verdict, decision, started) = denied;
    let told = Told {
        judged,
        verdict,
        refusal: None,
        protocol,
        request: Some(request),
        status: None,
        decision,
        started,
        revoked: false,
    };
    // Silence is no protocol, and what denies TLS to TLS rules is the name in it.
    let expected = match judged.declared {
        None => protocol == Protocol::Tls,
        Some(ApplicationProtocol::Tcp) => true,
        Some(ApplicationProtocol::Tls) => protocol == Protocol::Tls,
        Some(_) => false,
    };
    let mismatch = (!expected && !first.is_empty()).then_some(first);
    opaque::refuse(session, client, &told, mismatch).await;
}

/// TLS is not decrypted: the ClientHello is judged, and then bytes pass.
async fn tls_through(session: &Session, mut client: ByteStream, mut first: Buffer, watch: &mut Watch) -> Copied {
    let limits = &session.worker.limits;
    let read = timeout(limits.head_timeout, async {
        loop {
            match tls::read(first.bytes(), limits.hello_bytes) {
                // Records as small as one byte each have a head of five.
                Ok(None) if first.bytes().len() > limits.hello_bytes.saturating_mul(6) => {
                    return Ok(Err(tls::HelloError::TooLong));
                }
                Ok(None) => {}
                Ok(Some(hello)) => return Ok(Ok(hello)),
                Err(error) => return Ok(Err(error)),
            }
            if first.read(&mut client).await? == 0 {
                return Ok(Err(tls::HelloError::Malformed));
            }
        }
    })
    .await;
    let hello = match read {
        Ok(Ok(Ok(hello))) => Some(hello),
        Ok(Ok(Err(error))) => {
            tracing::debug!(source = %session.ends.source, %error, "no ClientHello");
            if error == tls::HelloError::TooLong {
                session.worker.recorder.refused_connection(Limit::HelloBytes);
            }
            None
        }
        Ok(Err(error)) => return nothing(first.bytes(), io::Result::Err(error)),
        Err(_) => {
            session.worker.recorder.refused_connection(Limit::HeadTimeout);
            None
        }
    };
    // A hello that cannot be read hides everything.
    let (mut name, mut alpn) = (Fact::Unknown, Fact::Unknown);
    let mut server_name = Vec::new();
    if let Some(hello) = &hello {
        alpn = hello.application_protocol.as_deref().map_or(Fact::Absent, Fact::Known);
        name = match &hello.server_name {
            // With ECH the name in clear is the public one; it may hide any other.
            _ if hello.encrypted => Fact::Unknown,
            None => Fact::Absent,
            Some(raw) => match canonical::server_name(raw, &mut server_name) {
                Ok(()) => Fact::Known(()),
                Err(_) => Fact::Unknown,
            },
        }
    }
    let request = || Request {
        sni: match name {
            Fact::Known(()) => Fact::Known(server_name.as_slice()),
            Fact::Absent => Fact::Absent,
            Fact::Unknown => Fact::Unknown,
        },
        alpn,
        ..Request::opaque(Fact::Known(Protocol::Tls), now())
    };
    let asked = Instant::now();
    let judged = session.judged();
    watch.judged(&judged.world);
    let verdict = judged.world.request_verdict(&judged.flow, &request());
    let decision = asked.elapsed();
    if verdict.action == Action::Allow && hello.is_some() {
        let allowed = (&*judged, &verdict, decision);
        return opaque::pass(session, client, first, Protocol::Tls, allowed, Some(&request), watch).await;
    }
    if verdict.action == Action::Allow {
        // Allowed whatever it hides, but nothing a TLS server would understand.
        reset(client);
        return nothing(first.bytes(), Err(io::ErrorKind::InvalidData.into()));
    }
    let facts = request();
    refuse(session, client, Protocol::Tls, (&judged, &verdict, decision, asked), &facts, first.bytes()).await;
    nothing(first.bytes(), Err(io::ErrorKind::PermissionDenied.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the future of a call that is never made would have.
    fn size_of_future<F: Future>(_: impl FnOnce(Accepted<ByteStream>, Option<Arc<str>>, Rc<Worker>) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_connection_is_small() {
        // Every connection pays for the largest branch of its future, and there may be ten thousand.
        let size = size_of_future(serve);
        assert!(size <= 4096, "{size} bytes");
    }
}
