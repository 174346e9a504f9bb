//! Listeners, and what is made of a connection that they accept.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use eastwall_policy::facts::Direction;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::rules::{Family, MARK_LISTENER, Ports};
use super::{Accepted, Dialer, Inherited, Namespace, OriginalDestination, Remote, namespace};

/// Kernel's queue of connections that wait to be accepted; the sysctl `somaxconn` bounds it further.
const BACKLOG: i32 = 4096;
/// Pause after the process ran out of file descriptors.
const EXHAUSTED: Duration = Duration::from_millis(20);

/// A pod that the node proxy serves.
#[derive(Debug)]
pub(crate) struct Pod {
    /// `namespace/name`.
    pub(crate) name: Arc<str>,
    /// The addresses that it owns.
    pub(crate) addresses: ArcSwap<Vec<IpAddr>>,
    /// Its namespace.
    pub(crate) namespace: Arc<Namespace>,
}

/// What a listener is for.
#[derive(Clone, Debug)]
pub(crate) enum Role {
    /// Explicit listener; everything goes to this upstream.
    Gateway(SocketAddr),
    /// The same for HBONE.
    GatewayHbone(SocketAddr),
    /// The pod that the proxy lives in.
    Sidecar(Direction, Ports),
    /// A pod whose namespace the proxy entered.
    Pod(Direction, Ports, Arc<Pod>),
}

/// A listening socket, shared by all workers.
#[derive(Debug)]
pub(crate) struct Listening {
    socket: TcpListener,
    role: Role,
}

/// Why a connection was closed before anybody judged it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It was not redirected: somebody dialled the listener itself.
    DirectHit,
    /// It wants to go to loopback or to an address that is not the pod's.
    ForeignDestination,
    /// It comes from the pod under an address that the pod does not own.
    SpoofedSource,
    /// It was gone before it could be looked at.
    Gone,
}

/// A connection that was reset before anybody judged it.
#[derive(Clone, Debug)]
pub(crate) struct TurnedAway {
    /// Why.
    pub(crate) why: Refused,
    /// Where it came from.
    pub(crate) remote: SocketAddr,
    /// Where it wanted to go: the original destination, or the listener where there is none.
    pub(crate) destination: SocketAddr,
    /// What its listener is for.
    pub(crate) direction: Direction,
    /// The pod whose listener it was, in node mode.
    pub(crate) pod: Option<Arc<str>>,
}

/// How many connections were [`Refused`], since the process started.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    direct_hit: AtomicU64,
    foreign_destination: AtomicU64,
    spoofed_source: AtomicU64,
}

/// The listeners of the moment. Workers see changes as they come.
#[derive(Clone, Debug)]
pub(crate) struct Listeners {
    open: watch::Sender<Arc<[Arc<Listening>]>>,
    closed: Arc<AtomicBool>,
    refusals: Arc<Refusals>,
}

/// One worker's way to accept from every listener. Dropped: the worker listens no more.
#[derive(Debug)]
pub(crate) struct Acceptor {
    changes: watch::Receiver<Arc<[Arc<Listening>]>>,
    open: Vec<(Arc<Listening>, tokio::net::TcpListener)>,
    next: usize,
    refusals: Arc<Refusals>,
}

// === impl Listeners ===

impl Listeners {
    /// None yet: node mode, before the first pod.
    pub(crate) fn none() -> Self {
        Self::of(Vec::new())
    }

    /// Gateway mode: listens on `address` for `upstream`, and for HBONE on `hbone`.
    pub(crate) fn gateway(
        address: SocketAddr,
        upstream: SocketAddr,
        hbone: Option<SocketAddr>,
        handed: &Inherited,
    ) -> io::Result<Self> {
        let mut open =
            vec![Arc::new(Listening { socket: listen(address, None, handed)?, role: Role::Gateway(upstream) })];
        if let Some(hbone) = hbone {
            let role = Role::GatewayHbone(upstream);
            open.push(Arc::new(Listening { socket: listen(hbone, None, handed)?, role }));
        }
        Ok(Self::of(open))
    }

    /// Sidecar mode: both directions, in the namespace of the process.
    pub(crate) fn sidecar(ports: Ports, family: Family, handed: &Inherited) -> io::Result<Self> {
        let open = redirected(ports, family, (None, handed), |direction| Role::Sidecar(direction, ports))?;
        Ok(Self::of(open))
    }

    fn of(open: Vec<Arc<Listening>>) -> Self {
        Self { open: watch::Sender::new(open.into()), closed: Arc::default(), refusals: Arc::default() }
    }

    /// Puts these in place of those before. Listeners that are in both stay open. Nothing is opened after
    /// [`Self::close`].
    pub(crate) fn replace(&self, open: Vec<Arc<Listening>>) {
        if self.is_closed() {
            open.iter().for_each(|listening| listening.shut());
        } else {
            self.open.send_replace(open.into());
        }
    }

    /// Listens no more, in no worker and for good: from here on the kernel refuses.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.open.send_replace(Arc::from(Vec::new())).iter().for_each(|listening| listening.shut());
    }

    /// Listens no more in this process; whoever holds the sockets too goes on.
    pub(crate) fn release(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.open.send_replace(Arc::from(Vec::new()));
    }

    /// Every listener with its network namespace, for the next process.
    pub(crate) fn to_hand_over(&self) -> Vec<((u64, u64), TcpListener)> {
        let own = namespace::here();
        let handed = |listening: &Arc<Listening>| {
            let namespace = match &listening.role {
                Role::Pod(_, _, pod) => pod.namespace.identity(),
                Role::Gateway(_) | Role::GatewayHbone(_) | Role::Sidecar(..) => *own.as_ref().ok()?,
            };
            Some((namespace, listening.socket.try_clone().ok()?))
        };
        self.open.borrow().iter().filter_map(handed).collect()
    }

    /// Whether [`Self::close`] was called.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// The addresses listened on.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.open.borrow().iter().filter_map(|listening| listening.socket.local_addr().ok()).collect()
    }

    /// One worker's share; to be called inside the worker's runtime.
    pub(crate) fn acceptor(&self) -> io::Result<Acceptor> {
        let mut acceptor = Acceptor {
            changes: self.open.subscribe(),
            open: Vec::new(),
            next: 0,
            refusals: Arc::clone(&self.refusals),
        };
        acceptor.refresh()?;
        Ok(acceptor)
    }

    /// Connections that nobody judged.
    #[cfg(test)]
    pub(crate) fn refusals(&self) -> &Refusals {
        &self.refusals
    }
}

impl Listening {
    /// Ends the socket itself, whoever else holds it.
    fn shut(&self) {
        // It was not connected, which is all that can be wrong with it.
        let _ = SockRef::from(&self.socket).shutdown(Shutdown::Both);
    }
}

/// Opens the four listeners of a pod; to be called on a thread inside its namespace.
pub(crate) fn of_pod(
    ports: Ports,
    family: Family,
    pod: &Arc<Pod>,
    handed: &Inherited,
) -> io::Result<Vec<Arc<Listening>>> {
    redirected(ports, family, (Some(MARK_LISTENER), handed), |direction| Role::Pod(direction, ports, Arc::clone(pod)))
}

fn redirected(
    ports: Ports,
    family: Family,
    (mark, handed): (Option<u32>, &Inherited),
    role: impl Fn(Direction) -> Role,
) -> io::Result<Vec<Arc<Listening>>> {
    let mut open = Vec::new();
    for (direction, port) in [(Direction::Inbound, ports.inbound), (Direction::Outbound, ports.outbound)] {
        for (wanted, address) in
            [(family.v4(), IpAddr::from(Ipv4Addr::UNSPECIFIED)), (family.v6(), Ipv6Addr::UNSPECIFIED.into())]
        {
            if !wanted {
                continue;
            }
            match listen(SocketAddr::new(address, port), mark, handed) {
                Ok(socket) => open.push(Arc::new(Listening { socket, role: role(direction) })),
                // A kernel without IPv6 has no IPv6 traffic either.
                Err(error) if address.is_ipv6() && no_such_family(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(open)
}

/// Whether the kernel does not have the IP version.
pub(crate) fn no_such_family(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    code == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
        || code == Some(rustix::io::Errno::ADDRNOTAVAIL.raw_os_error())
}

/// No SO_REUSEPORT: another process of the same uid could join in. Not IP_TRANSPARENT: where one client port leads to
/// two ports of the pod, NAT gives the second connection another source port, and for a transparent socket the kernel
/// does not notice that early demultiplexing found the first one's.
fn listen(address: SocketAddr, mark: Option<u32>, handed: &Inherited) -> io::Result<TcpListener> {
    if let Some(listener) = handed.take(address) {
        return Ok(listener);
    }
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if let Some(mark) = mark {
        socket.set_mark(mark)?;
    }
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

// === impl Acceptor ===

impl Acceptor {
    /// The next connection that may be judged.
    #[cfg(test)]
    pub(crate) async fn accept(&mut self) -> Accepted {
        loop {
            if let Ok(accepted) = self.next().await {
                return accepted;
            }
        }
    }

    /// The next connection; one that may not be judged is reset and counted here. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Accepted, TurnedAway> {
        loop {
            let Self { changes, open, next, .. } = self;
            let arrival = tokio::select! {
                // No such branch once nobody is left who could change the listeners.
                Ok(()) = changes.changed() => None,
                arrival = std::future::poll_fn(|context| poll_any(open, next, context)) => Some(arrival),
            };
            match arrival {
                None => {
                    if let Err(error) = self.refresh() {
                        tracing::error!(%error, "cannot take over a listener");
                        self.changes.mark_changed();
                        tokio::time::sleep(EXHAUSTED).await;
                    }
                }
                Some(Ok((stream, remote, listening))) => match identify(&listening, stream, remote) {
                    Ok(accepted) => return Ok(accepted),
                    Err(away) => {
                        self.refusals.count(away.why, remote);
                        return Err(away);
                    }
                },
                Some(Err(error)) => {
                    // One connection's own failure is no reason to keep the others waiting.
                    if error.kind() != io::ErrorKind::ConnectionAborted {
                        tracing::warn!(%error, "cannot accept");
                        tokio::time::sleep(EXHAUSTED).await;
                    }
                }
            }
        }
    }

    fn refresh(&mut self) -> io::Result<()> {
        let wanted = Arc::clone(&self.changes.borrow_and_update());
        self.open.retain(|(held, _)| wanted.iter().any(|listening| Arc::ptr_eq(held, listening)));
        for listening in wanted.iter() {
            if !self.open.iter().any(|(held, _)| Arc::ptr_eq(held, listening)) {
                let socket = tokio::net::TcpListener::from_std(listening.socket.try_clone()?)?;
                self.open.push((Arc::clone(listening), socket));
            }
        }
        Ok(())
    }
}

type Arrival = io::Result<(TcpStream, SocketAddr, Arc<Listening>)>;

/// Asks the listeners in turn, beginning after the one that gave the last connection.
fn poll_any(
    open: &[(Arc<Listening>, tokio::net::TcpListener)],
    next: &mut usize,
    context: &mut Context<'_>,
) -> Poll<Arrival> {
    let start = *next % open.len().max(1);
    let turn = open.iter().enumerate().skip(start).chain(open.iter().enumerate().take(start));
    for (index, (listening, socket)) in turn {
        match socket.poll_accept(context) {
            Poll::Ready(Ok((stream, remote))) => {
                *next = index + 1;
                return Poll::Ready(Ok((stream, remote, Arc::clone(listening))));
            }
            Poll::Ready(Err(error)) => {
                *next = index + 1;
                return Poll::Ready(Err(error));
            }
            Poll::Pending => {}
        }
    }
    Poll::Pending
}

fn identify(listening: &Listening, stream: TcpStream, remote: SocketAddr) -> Result<Accepted, TurnedAway> {
    let (direction, pod) = match &listening.role {
        Role::Gateway(_) | Role::GatewayHbone(_) => (Direction::Inbound, None),
        Role::Sidecar(direction, _) => (*direction, None),
        Role::Pod(direction, _, pod) => (*direction, Some(Arc::clone(&pod.name))),
    };
    let away = |why, destination| TurnedAway { why, remote, destination, direction, pod: pod.clone() };
    let checked = destination(&listening.role, &stream, remote);
    let socket = SockRef::from(&stream);
    let destination = match checked {
        Ok(destination) => destination,
        Err((refused, destination)) => {
            // A reset, not an orderly end; a socket that is gone needs neither.
            let _ = socket.set_linger(Some(Duration::ZERO));
            return Err(away(refused, destination));
        }
    };
    socket.set_tcp_nodelay(true).map_err(|_| away(Refused::Gone, destination))?;
    let dialer = match &listening.role {
        Role::Gateway(upstream) | Role::GatewayHbone(upstream) => Dialer::Fixed(*upstream),
        Role::Sidecar(..) => Dialer::Direct,
        Role::Pod(_, _, pod) => {
            let source = match direction {
                Direction::Inbound => remote,
                // The pod's own socket holds its port.
                Direction::Outbound => SocketAddr::new(remote.ip(), 0),
            };
            Dialer::Pod { namespace: Arc::clone(&pod.namespace), source }
        }
    };
    Ok(Accepted {
        stream,
        remote: Remote(remote),
        destination: OriginalDestination(destination),
        direction,
        dialer,
        pod,
        hbone: matches!(listening.role, Role::GatewayHbone(_)),
    })
}

/// The original destination, or why there is none that may be judged, and what was dialled then.
fn destination(role: &Role, stream: &TcpStream, remote: SocketAddr) -> Result<SocketAddr, (Refused, SocketAddr)> {
    let (direction, ports, pod) = match role {
        Role::Gateway(upstream) | Role::GatewayHbone(upstream) => return Ok(*upstream),
        Role::Sidecar(direction, ports) => (*direction, *ports, None),
        Role::Pod(direction, ports, pod) => (*direction, *ports, Some(pod)),
    };
    let local = stream.local_addr().map_err(|_| (Refused::Gone, remote))?;
    let original = original_destination(stream, local).map_err(|refused| (refused, local))?;
    let own = pod.map(|pod| pod.addresses.load());
    judge(direction, ports, own.as_ref().map(|own| own.as_slice()), local, remote, original)
        .map_err(|refused| (refused, original))?;
    Ok(original)
}

fn original_destination(stream: &TcpStream, local: SocketAddr) -> Result<SocketAddr, Refused> {
    let socket = SockRef::from(stream);
    let found = match local {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    // Without NAT there is no original destination: the listener itself was dialled.
    found.ok().and_then(|address| address.as_socket()).ok_or(Refused::DirectHit)
}

/// What the sockets alone can tell. `own` are the pod's addresses, where they are known.
fn judge(
    direction: Direction,
    ports: Ports,
    own: Option<&[IpAddr]>,
    local: SocketAddr,
    remote: SocketAddr,
    original: SocketAddr,
) -> Result<(), Refused> {
    let owns = |address: IpAddr| own.is_none_or(|own| own.iter().any(|ip| ip.to_canonical() == address.to_canonical()));
    if original == local || (direction == Direction::Inbound && ports.contains(original.port())) {
        return Err(Refused::DirectHit);
    }
    let ip = original.ip();
    if ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || original.port() == 0 {
        return Err(Refused::ForeignDestination);
    }
    match direction {
        // An address of the pod that nobody registered would be judged as nobody's.
        Direction::Inbound if !owns(ip) => Err(Refused::ForeignDestination),
        Direction::Outbound if !owns(remote.ip()) => Err(Refused::SpoofedSource),
        _ => Ok(()),
    }
}

// === impl Refusals ===

impl Refusals {
    /// Label and count of each kind.
    #[cfg(test)]
    pub(crate) fn counts(&self) -> [(&'static str, u64); 3] {
        [
            ("direct-hit", self.direct_hit.load(Ordering::Relaxed)),
            ("foreign-destination", self.foreign_destination.load(Ordering::Relaxed)),
            ("spoofed-source", self.spoofed_source.load(Ordering::Relaxed)),
        ]
    }

    fn count(&self, refused: Refused, remote: SocketAddr) {
        let counter = match refused {
            Refused::DirectHit => &self.direct_hit,
            Refused::ForeignDestination => &self.foreign_destination,
            Refused::SpoofedSource => &self.spoofed_source,
            Refused::Gone => return,
        };
        let total = counter.fetch_add(1, Ordering::Relaxed) + 1;
        // Powers of two: a flood must not become a flood of lines.
        if total.is_power_of_two() {
            tracing::warn!(%remote, ?refused, total, "refused a connection before any verdict");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_the_sockets_tell_is_checked() {
        use Direction::{Inbound, Outbound};
        let own: &[IpAddr] = &["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let cases = [
            (Inbound, Some(own), "10.0.0.2:15106", "10.0.0.3:4000", "10.0.0.2:80", Ok(())),
            (Inbound, Some(own), "[fd00::2]:15106", "[fd00::3]:4000", "[fd00::2]:80", Ok(())),
            (Inbound, Some(own), "10.0.0.2:15106", "10.0.0.3:4000", "10.0.0.2:15106", Err(Refused::DirectHit)),
            (Inbound, Some(own), "10.0.0.2:15106", "10.0.0.3:4000", "10.0.0.9:15106", Err(Refused::DirectHit)),
            (Inbound, Some(own), "10.0.0.2:15106", "10.0.0.3:4000", "10.0.0.2:15101", Err(Refused::DirectHit)),
            (Inbound, None, "10.0.0.2:15106", "10.0.0.3:4000", "127.0.0.1:80", Err(Refused::ForeignDestination)),
            (Inbound, None, "[fd00::2]:15106", "[fd00::3]:4000", "[::1]:80", Err(Refused::ForeignDestination)),
            (Inbound, Some(own), "10.0.0.2:15106", "10.0.0.3:4000", "10.0.0.8:80", Err(Refused::ForeignDestination)),
            (Inbound, Some(own), "[fd00::2]:15106", "[fd00::3]:1", "[fe80::2]:80", Err(Refused::ForeignDestination)),
            (Inbound, None, "10.0.0.2:15106", "10.0.0.3:4000", "10.0.0.8:80", Ok(())),
            (Outbound, Some(own), "127.0.0.1:15101", "10.0.0.2:4000", "10.0.0.8:80", Ok(())),
            (Outbound, Some(own), "127.0.0.1:15101", "10.0.0.2:4000", "10.0.0.8:15101", Ok(())),
            (Outbound, Some(own), "127.0.0.1:15101", "10.0.0.3:4000", "10.0.0.8:80", Err(Refused::SpoofedSource)),
            (Outbound, Some(own), "127.0.0.1:15101", "10.0.0.2:4000", "127.0.0.1:15101", Err(Refused::DirectHit)),
            (Outbound, None, "127.0.0.1:15101", "10.0.0.2:4000", "127.0.0.1:81", Err(Refused::ForeignDestination)),
            (Outbound, None, "127.0.0.1:15101", "10.0.0.2:4000", "0.0.0.0:81", Err(Refused::ForeignDestination)),
        ];
        for (direction, own, local, remote, original, expected) in cases {
            let found = judge(direction, Ports::default(), own, at(local), at(remote), at(original));
            assert_eq!(found, expected, "{direction:?} {remote} -> {original} at {local}");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_listener_that_was_dialled_directly_resets() {
        // Loopback without any redirect: every connection is a direct hit.
        let socket = listen(at("127.0.0.1:0"), None, &Inherited::default()).unwrap();
        let address = socket.local_addr().unwrap();
        let role = Role::Sidecar(Direction::Inbound, Ports::default());
        let listeners = Listeners::of(vec![Arc::new(Listening { socket, role })]);
        let mut acceptor = listeners.acceptor().unwrap();
        let client = tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await?;
            tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 1]).await
        });
        let error = tokio::select! {
            answer = client => answer.unwrap().unwrap_err(),
            _ = acceptor.accept() => unreachable!("must never be handed out"),
        };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(listeners.refusals().counts()[0], ("direct-hit", 1));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn workers_follow_the_listeners() {
        let upstream = at("127.0.0.1:9");
        let listeners = Listeners::gateway(at("127.0.0.1:0"), upstream, None, &Inherited::default()).unwrap();
        let mut acceptor = listeners.acceptor().unwrap();
        let first = listeners.addresses()[0];
        let client = TcpStream::connect(first).await.unwrap();
        let accepted = acceptor.accept().await;
        assert_eq!(accepted.remote.0, client.local_addr().unwrap());
        assert_eq!(accepted.destination.0, upstream);

        let socket = listen(at("127.0.0.1:0"), None, &Inherited::default()).unwrap();
        let second = socket.local_addr().unwrap();
        listeners.replace(vec![Arc::new(Listening { socket, role: Role::Gateway(upstream) })]);
        let client = tokio::spawn(TcpStream::connect(second));
        acceptor.accept().await;
        client.await.unwrap().unwrap();
        drop(listeners);
        let client = tokio::spawn(TcpStream::connect(second));
        acceptor.accept().await;
        client.await.unwrap().unwrap();
        assert!(TcpStream::connect(first).await.is_err(), "the listener that was replaced must be closed");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn closed_listeners_refuse_at_once_and_for_good() {
        let listeners = Listeners::gateway(at("127.0.0.1:0"), at("127.0.0.1:9"), None, &Inherited::default()).unwrap();
        let address = listeners.addresses()[0];
        let acceptor = listeners.acceptor().unwrap();
        listeners.close();
        // The worker holds its share still.
        assert!(TcpStream::connect(address).await.is_err());
        let late = Listeners::gateway(at("127.0.0.1:0"), at("127.0.0.1:9"), None, &Inherited::default()).unwrap();
        let address = late.addresses()[0];
        listeners.replace(late.open.borrow().to_vec());
        assert!(TcpStream::connect(address).await.is_err());
        drop(acceptor);
    }
}
