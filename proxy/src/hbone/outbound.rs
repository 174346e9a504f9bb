//! The way out through HBONE: to whose proxy, and a tunnel through it.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use eastwall_policy::facts::{Direction, Transport};
use eastwall_policy::registry::{Service, TargetPort, Workload, WorkloadId};
use eastwall_policy::world::World;
use h2::client::{Builder, Connection};
use http::{Method, Request, Uri};
use tokio::io::{AsyncRead, AsyncWrite};

use super::handshake;
use super::pool::{Shared, Way};
use crate::app::Worker;
use crate::connection::Session;
use crate::identity::{Judged, MutualTls, Peer, PeerRefused};
use crate::stream::{ByteStream, Tunnel};

/// Where a tunnel leads: the address that is called, and who has to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    address: SocketAddr,
    principal: Arc<str>,
}

impl Route {
    /// The way to the destination of a connection that leaves its pod; `None` where it goes there in plaintext. Of a
    /// Service all endpoints have to take HBONE, and one is chosen here; otherwise its address is forwarded untouched.
    pub(crate) fn of(judged: &Judged, destination: SocketAddr) -> Option<Self> {
        let world = &*judged.world;
        if let Some(id) = judged.destination_workload {
            return Self::to(world, id, destination);
        }
        let service = world.registry().service(world.registry().service_at(destination.ip())?)?;
        let others: Vec<Self> = service
            .endpoints
            .iter()
            .filter(|endpoint| Some(**endpoint) != judged.source_workload)
            .map(|endpoint| Self::to(world, *endpoint, endpoint_address(world, service, *endpoint, destination)?))
            .collect::<Option<_>>()?;
        if !service.elsewhere.is_empty() || others.is_empty() {
            return None;
        }
        others.get(turn() % others.len()).cloned()
    }

    fn to(world: &World, id: WorkloadId, address: SocketAddr) -> Option<Self> {
        let workload = world.registry().workload(id).filter(|workload| workload.speaks_hbone())?;
        Some(Self { address, principal: workload.spiffe_id(&world.model().settings.trust_domain).into() })
    }
}

/// Which of several is next. Each worker begins elsewhere.
fn turn() -> usize {
    use std::cell::Cell;
    use std::hash::{BuildHasher as _, RandomState};
    thread_local! {
        static TURN: Cell<usize> = Cell::new(usize::try_from(RandomState::new().hash_one(()) >> 33).unwrap_or_default());
    }
    TURN.with(|turn| turn.replace(turn.get().wrapping_add(1)))
}

/// What a Service's address leads to at one endpoint, in the same IP version.
fn endpoint_address(world: &World, service: &Service, id: WorkloadId, called: SocketAddr) -> Option<SocketAddr> {
    let Workload { ips, ports, .. } = world.registry().workload(id)?;
    let target =
        &service.ports.iter().find(|port| port.port == called.port() && port.transport == Transport::Tcp)?.target;
    let port = match target {
        TargetPort::Number(port) => *port,
        TargetPort::Name(name) => ports.iter().find(|port| port.name.as_ref() == Some(name))?.port,
    };
    let ip = ips.iter().find(|ip| ip.to_canonical().is_ipv4() == called.is_ipv4())?;
    Some(SocketAddr::new(*ip, port))
}

/// A tunnel to where `route` leads. INVARIANT: nothing falls back to plaintext.
pub(crate) async fn open(session: &Session, mutual_tls: &Arc<MutualTls>, route: Route) -> io::Result<ByteStream> {
    let worker = &session.worker;
    let judged = session.judged();
    let own = mutual_tls.identities.of(|| {
        let workload = judged.world.registry().workload(judged.source_workload?)?;
        Some(workload.spiffe_id(&judged.world.model().settings.trust_domain))
    });
    let Some(own) = own else {
        worker.recorder.metrics().handshake(Direction::Outbound, Err(PeerRefused::NoIdentity));
        return Err(io::Error::other(PeerRefused::NoIdentity));
    };
    let way = Way {
        own: Arc::clone(&own.principal),
        pod: session.ends.pod.clone(),
        peer: Arc::clone(&route.principal),
        proxy: SocketAddr::new(route.address.ip(), mutual_tls.port),
    };
    let limits = &worker.limits;
    let dial = async || {
        let trust_number = mutual_tls.identities.trust_number();
        let socket = session.connect(way.proxy).await?;
        let shaken = handshake::connect(&own, socket, &way.peer).await;
        worker.recorder.metrics().handshake(Direction::Outbound, shaken.as_ref().map(drop).map_err(|refused| *refused));
        let (stream, peer) = shaken.map_err(|refused| {
            tracing::warn!(proxy = %way.proxy, expected = %way.peer, reason = refused.label(), "no tunnel: {refused}");
            io::Error::other(refused)
        })?;
        let handshake = Builder::new()
            .initial_window_size(limits.hbone_window)
            .initial_connection_window_size(limits.hbone_connection_window)
            .max_header_list_size(u32::try_from(limits.hbone_head_bytes).unwrap_or(u32::MAX))
            .max_send_buffer_size(limits.hbone_window as usize)
            .enable_push(false)
            .handshake(stream);
        let (sender, connection) = handshake.await.map_err(io::Error::other)?;
        let (shared, ended) = Shared::new(sender);
        let (worker, mutual_tls) = (Rc::clone(worker), Arc::clone(mutual_tls));
        tokio::task::spawn_local(Box::pin(async move {
            keep(connection, &worker, &mutual_tls, &peer, trust_number).await;
            ended();
        }));
        io::Result::Ok(shared)
    };
    let opened = async {
        let (sender, place) = worker.hbone.acquire(&way, limits.hbone_tunnels, dial).await?;
        let mut sender = sender.ready().await.map_err(io::Error::other)?;
        let authority = Uri::builder().authority(route.address.to_string()).build().map_err(io::Error::other)?;
        let request = Request::builder().method(Method::CONNECT).uri(authority).body(()).map_err(io::Error::other)?;
        let (response, sending) = sender.send_request(request, false).map_err(io::Error::other)?;
        let response = response.await.map_err(io::Error::other)?;
        if !response.status().is_success() {
            return Err(io::Error::other(format!(
                "the proxy at {} refuses the tunnel: {}",
                way.proxy,
                response.status()
            )));
        }
        let tunnel = Tunnel::new(response.into_body(), sending).holding(place);
        Ok(ByteStream::Tunnel(Box::new(tunnel)))
    };
    match tokio::time::timeout(limits.connect_timeout, opened).await {
        Ok(opened) => opened,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Drives a connection to its end, or until its peer is believed no more.
async fn keep<S: AsyncRead + AsyncWrite + Unpin>(
    connection: Connection<S>,
    worker: &Worker,
    mutual_tls: &MutualTls,
    peer: &Peer,
    mut trust_number: u64,
) {
    let mut watch = worker.news.watch();
    let mut connection = pin!(connection);
    loop {
        watch.judged(&worker.live.load());
        if mutual_tls.identities.has_lost(peer, false, &mut trust_number) {
            return;
        }
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%error, principal = %peer.principal, "a connection of HBONE has ended");
                }
                return;
            }
            () = watch.changed() => {}
        }
    }
}
