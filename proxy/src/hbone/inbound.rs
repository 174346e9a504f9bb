//! What arrives through HBONE: one TLS connection, and in it one connection to be judged for each CONNECT.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use eastwall_policy::facts::{Direction, Place};
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::{Method, Request, Response, StatusCode};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

use super::handshake;
use crate::app::Worker;
use crate::connection;
use crate::http2::{Windows, server};
use crate::identity::{MutualTls, Peer, PeerRefused, Svid};
use crate::intercept::{Accepted, OriginalDestination};
use crate::observe::{Alert, AlertKind, Limit};
use crate::policy::Watch;
use crate::stream::{ByteStream, Deadline, Tunnel, reset};

/// Serves one connection of HBONE to its end.
pub(crate) async fn serve(accepted: Accepted, worker: Rc<Worker>, mutual_tls: Arc<MutualTls>) {
    let watch = worker.news.watch();
    // Taken before the handshake: a change of trust in between is then seen.
    let trust_number = mutual_tls.identities.trust_number();
    let (socket, arrived) = accepted.split();
    let Some(svid) = svid(&arrived, &worker, &mutual_tls) else {
        worker.recorder.metrics().handshake(Direction::Inbound, Err(PeerRefused::NoIdentity));
        return reset(ByteStream::from(socket));
    };
    let shaken = tokio::time::timeout(worker.limits.head_timeout, handshake::accept(&svid, socket)).await;
    let (stream, peer) = match shaken {
        Ok(Ok(shaken)) => shaken,
        Ok(Err(refused)) => {
            worker.recorder.metrics().handshake(Direction::Inbound, Err(refused));
            alert(
                &worker,
                &arrived,
                AlertKind::CertificateRefused,
                "a certificate that proves nothing; the evidence says why",
                refused.label().as_bytes(),
            );
            return;
        }
        Err(_) => return worker.recorder.refused_connection(Limit::HeadTimeout),
    };
    worker.recorder.metrics().handshake(Direction::Inbound, Ok(()));
    let tunnels = Tunnels { arrived, worker, mutual_tls, peer, trust_number };
    if let Err(error) = tunnels.run(stream, watch).await {
        tracing::debug!(%error, source = %tunnels.arrived.remote.0, "a connection of HBONE has ended");
    }
}

/// What the workload that was called shows.
fn svid(arrived: &Accepted<()>, worker: &Worker, mutual_tls: &MutualTls) -> Option<Arc<Svid>> {
    let world = worker.live.load();
    mutual_tls.identities.of(|| {
        let Place::Workload(id) = world.destination(arrived.destination.0.ip()).place else { return None };
        let workload = world.registry().workload(id)?;
        Some(workload.spiffe_id(&world.model().settings.trust_domain))
    })
}

struct Tunnels {
    arrived: Accepted<()>,
    worker: Rc<Worker>,
    mutual_tls: Arc<MutualTls>,
    peer: Peer,
    trust_number: u64,
}

impl Tunnels {
    async fn run(&self, stream: TlsStream<TcpStream>, mut watch: Watch) -> io::Result<()> {
        let limits = &self.worker.limits;
        let windows = Windows { stream: limits.hbone_window, connection: limits.hbone_connection_window };
        let handshake = server(limits, windows, limits.hbone_head_bytes).handshake(stream);
        let mut connection: Connection<_, Bytes> = match tokio::time::timeout(limits.head_timeout, handshake).await {
            Ok(connection) => connection.map_err(io::Error::other)?,
            Err(_) => {
                self.worker.recorder.refused_connection(Limit::HeadTimeout);
                return Err(io::ErrorKind::TimedOut.into());
            }
        };
        let mut drain = self.worker.drain.clone();
        let mut trust_number = self.trust_number;
        let mut idle = Deadline::new(Instant::now() + limits.idle_timeout);
        if *drain.borrow_and_update() {
            connection.graceful_shutdown();
        }
        loop {
            // Whatever came before is judged by its own watch; this one is for whom the connection is believed to be.
            watch.judged(&self.worker.live.load());
            if self.mutual_tls.identities.has_lost(&self.peer, true, &mut trust_number) {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            let accepted = tokio::select! {
                accepted = poll_fn(|context| connection.poll_accept(context)) => accepted,
                Ok(()) = drain.changed() => {
                    connection.graceful_shutdown();
                    continue;
                }
                () = watch.changed() => continue,
                () = poll_fn(|context| idle.poll(context)) => {
                    idle.set(Instant::now() + limits.idle_timeout);
                    if !connection.has_streams() {
                        self.worker.recorder.refused_connection(Limit::IdleTimeout);
                        connection.graceful_shutdown();
                    }
                    continue;
                }
            };
            match accepted {
                Some(Ok((request, respond))) => {
                    idle.set(Instant::now() + limits.idle_timeout);
                    self.open(request, respond);
                }
                Some(Err(error)) => return Err(io::Error::other(error)),
                None => return Ok(()),
            }
        }
    }

    /// One CONNECT: refused, or served as a connection from the same peer to that address.
    fn open(&self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let address = match self.address(&request) {
            Ok(address) => address,
            Err((status, limit)) => {
                self.worker.recorder.refused_connection(limit);
                if matches!(limit, Limit::TunnelRelay | Limit::Loop) {
                    let asked = request.uri().to_string();
                    let evidence = format!("{} asks for {asked}", self.peer.principal);
                    let detail = "a tunnel to somewhere else than to whom it was opened";
                    alert(&self.worker, &self.arrived, AlertKind::TunnelRelay, detail, evidence.as_bytes());
                }
                return answer(&mut respond, status);
            }
        };
        let slot = match self.worker.slot(self.arrived.remote.0.ip()) {
            Ok(slot) => slot,
            Err(limit) => {
                self.worker.recorder.refused_connection(limit);
                return respond.send_reset(Reason::REFUSED_STREAM);
            }
        };
        let Ok(sending) = respond.send_response(Response::new(()), false) else { return };
        let tunnel = Tunnel::new(request.into_body(), sending);
        let accepted = Accepted {
            stream: ByteStream::Tunnel(Box::new(tunnel)),
            remote: self.arrived.remote,
            destination: OriginalDestination(address),
            direction: Direction::Inbound,
            dialer: self.arrived.dialer.without_port(),
            pod: self.arrived.pod.clone(),
            hbone: false,
        };
        let served = connection::serve(accepted, Some(Arc::clone(&self.peer.principal)), Rc::clone(&self.worker));
        tokio::task::spawn_local(Box::pin(async move {
            served.await;
            drop(slot);
        }));
    }

    /// The address that a CONNECT is for. INVARIANT: no open relay, so it is the one that was called, at any of its ports
    /// but those of this proxy.
    fn address(&self, request: &Request<RecvStream>) -> Result<SocketAddr, (StatusCode, Limit)> {
        if head_bytes(request) > self.worker.limits.hbone_head_bytes {
            return Err((StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, Limit::HeadBytes));
        }
        if request.method() != Method::CONNECT {
            return Err((StatusCode::METHOD_NOT_ALLOWED, Limit::TunnelRequest));
        }
        let authority = request.uri().authority().and_then(|authority| authority.as_str().parse::<SocketAddr>().ok());
        let address = authority.ok_or((StatusCode::BAD_REQUEST, Limit::TunnelRequest))?;
        let called = self.arrived.destination.0;
        let is_fixed = self.arrived.is_gateway();
        if address.ip().to_canonical() != called.ip().to_canonical() || (is_fixed && address.port() != called.port()) {
            return Err((StatusCode::FORBIDDEN, Limit::TunnelRelay));
        }
        if !is_fixed && self.mutual_tls.is_own_port(address.port()) {
            return Err((StatusCode::FORBIDDEN, Limit::Loop));
        }
        Ok(address)
    }
}

/// SPEC: RFC 9113 6.5.2, a field counts 32 bytes beside its name and value.
fn head_bytes(request: &Request<RecvStream>) -> usize {
    let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32);
    let pseudo = [request.method().as_str().len(), request.uri().authority().map_or(0, |held| held.as_str().len())];
    fields.chain(pseudo.map(|length| length + 32)).sum()
}

/// For whoever is on call; of a flood one line is written.
fn alert(worker: &Worker, arrived: &Accepted<()>, kind: AlertKind, detail: &str, evidence: &[u8]) {
    let world = worker.live.load();
    let workload = |address: SocketAddr| match world.source(address.ip()).place {
        Place::Workload(id) => Some(id),
        _ => None,
    };
    worker.recorder.alert(&Alert {
        kind,
        world: &world,
        direction: Direction::Inbound,
        source: arrived.remote.0,
        destination: arrived.destination.0,
        source_workload: workload(arrived.remote.0),
        destination_workload: workload(arrived.destination.0),
        decision_id: None,
        detail,
        evidence,
    });
}

fn answer(respond: &mut SendResponse<Bytes>, status: StatusCode) {
    let mut response = Response::new(());
    *response.status_mut() = status;
    // A peer that is gone needs no answer.
    let _ = respond.send_response(response, true);
}
