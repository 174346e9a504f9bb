//! Namespaces for one test, removed when it ends, however it ends. One test at a time.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use eastwall_policy::registry::{Labels, Registry, Workload};
use eastwall_policy::world::World;
use rustix::process::Uid;
use rustix::thread::set_thread_res_uid;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::intercept::Namespace;

/// How long something that must happen may take; nothing is asserted about how fast it is.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

static SERIAL: Mutex<()> = Mutex::new(());
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// How the pods of a test hang together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fabric {
    /// One veth a pod, the node routes between /32s.
    Routed,
    /// One bridge; `true`: bridge-nf-call-iptables and its IPv6 sibling.
    Bridged(bool),
}

/// A node and its pods. Pod `i` has the addresses `10.77.0.(i+2)` and `fd77::(i+2)`.
pub(super) struct Net {
    prefix: String,
    pub(super) node: Arc<Namespace>,
    pub(super) pods: Vec<Arc<Namespace>>,
    _serial: MutexGuard<'static, ()>,
}

impl Net {
    pub(super) fn new(fabric: Fabric, pods: usize) -> Self {
        let serial = SERIAL.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(rustix::process::geteuid().is_root(), "tests of the kernel's part need root");
        let prefix = format!("ewt{}x{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let node = make(&prefix, "node");
        // From here on a panic removes what was made.
        let mut net = Self { prefix, node, pods: Vec::new(), _serial: serial };
        net.in_node("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        // A node has addresses of its own; masquerading must not take a link-local one.
        net.in_node("ip link set lo up; ip addr add 10.78.0.1/32 dev lo; ip addr add fd78::1/128 dev lo");
        if let Fabric::Bridged(call) = fabric {
            let call = u8::from(call);
            net.in_node("ip link add br0 type bridge; ip link set br0 up; ip addr add 10.77.0.1/24 dev br0");
            net.in_node("ip addr add fd77::1/64 dev br0 nodad");
            net.in_node(&format!(
                "sysctl -qw net.bridge.bridge-nf-call-iptables={call} net.bridge.bridge-nf-call-ip6tables={call}"
            ));
        }
        for pod in 0..pods {
            let namespace = make(&net.prefix, &format!("p{pod}"));
            net.pods.push(namespace);
            net.connect(fabric, pod);
        }
        net
    }

    pub(super) fn v4(&self, pod: usize) -> IpAddr {
        format!("10.77.0.{}", pod + 2).parse().unwrap()
    }

    pub(super) fn v6(&self, pod: usize) -> IpAddr {
        format!("fd77::{:x}", pod + 2).parse().unwrap()
    }

    pub(super) fn both(&self, pod: usize) -> [IpAddr; 2] {
        [self.v4(pod), self.v6(pod)]
    }

    pub(super) fn path(&self, pod: usize) -> PathBuf {
        format!("/run/netns/{}-p{pod}", self.prefix).into()
    }

    fn connect(&self, fabric: Fabric, pod: usize) {
        let (v4, v6, peer) = (self.v4(pod), self.v6(pod), format!("{}-p{pod}", self.prefix));
        self.in_node(&format!("ip link add v{pod} type veth peer name eth0 netns {peer}; ip link set v{pod} up"));
        let inside = |line: String| shell(&self.pods[pod], &line);
        inside("ip link set lo up; ip link set eth0 up".into());
        match fabric {
            Fabric::Bridged(_) => {
                self.in_node(&format!("ip link set v{pod} master br0"));
                inside(format!("ip addr add {v4}/24 dev eth0; ip addr add {v6}/64 dev eth0 nodad"));
                inside("ip route add default via 10.77.0.1; ip -6 route add default via fd77::1".into());
            }
            Fabric::Routed => {
                self.in_node(&format!("ip route add {v4}/32 dev v{pod}; ip -6 route add {v6}/128 dev v{pod}"));
                self.in_node(&format!(
                    "ip addr add 169.254.1.1/32 dev v{pod}; ip addr add fe80::1/64 dev v{pod} nodad"
                ));
                inside(format!("ip addr add {v4}/32 dev eth0; ip addr add {v6}/128 dev eth0 nodad"));
                inside("ip route add 169.254.1.1 dev eth0; ip route add default via 169.254.1.1".into());
                inside("ip -6 route add default via fe80::1 dev eth0".into());
            }
        }
    }

    /// Runs a line of shell on the node.
    pub(super) fn in_node(&self, line: &str) -> String {
        shell(&self.node, line)
    }

    /// Runs a line of shell in a pod.
    pub(super) fn in_pod(&self, pod: usize, line: &str) -> String {
        shell(&self.pods[pod], line)
    }

    /// A registry with every pod under `test/pN`, account `pN`.
    pub(super) fn registry(&self) -> Registry {
        let workloads = (0..self.pods.len()).map(|pod| Workload {
            name: format!("p{pod}").into(),
            namespace: "test".into(),
            service_account: format!("p{pod}").into(),
            labels: Labels::new(),
            namespace_labels: Labels::new(),
            annotations: Labels::new(),
            namespace_annotations: Labels::new(),
            node: None,
            host_network: false,
            netns: Some(self.path(pod).to_str().unwrap().into()),
            ips: self.both(pod).into(),
            ports: Vec::new(),
            probes: Vec::new(),
        });
        Registry::new(workloads.collect(), Vec::new(), Vec::new())
    }

    /// A world in which nothing is allowed.
    pub(super) fn closed(&self) -> World {
        World::closed(Arc::new(self.registry()), 1)
    }

    /// A socket of the pod, connected. From `source` if there is one.
    pub(super) fn dial(&self, pod: usize, source: Option<SocketAddr>, to: SocketAddr) -> io::Result<TcpStream> {
        self.pods[pod]
            .run_blocking(move || {
                let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
                socket.set_reuse_address(true)?;
                if let Some(source) = source {
                    socket.bind(&SockAddr::from(source))?;
                }
                socket.connect_timeout(&SockAddr::from(to), PATIENCE)?;
                let stream = TcpStream::from(socket);
                stream.set_read_timeout(Some(PATIENCE))?;
                Ok(stream)
            })
            .unwrap()
    }

    /// Asks under another uid, with a mark on the socket: made by that uid, marked by one that may.
    pub(super) fn ask_as(&self, pod: usize, uid: u32, mark: u32, to: SocketAddr) -> io::Result<String> {
        let work = move || {
            let (root, other) = (Uid::ROOT, Uid::from_raw(uid));
            set_thread_res_uid(other, other, root)?;
            let made = Socket::new(Domain::for_address(to), Type::STREAM, None);
            set_thread_res_uid(root, root, root)?;
            let socket = made?;
            if mark != 0 {
                socket.set_mark(mark)?;
            }
            socket.connect_timeout(&SockAddr::from(to), PATIENCE)?;
            let mut stream = TcpStream::from(socket);
            stream.set_read_timeout(Some(PATIENCE))?;
            converse_once(&mut stream)
        };
        // A thread of its own: it is inside too, and its uid is nobody else's.
        self.pods[pod].run_blocking(move || std::thread::spawn(work)).unwrap().join().unwrap()
    }

    /// An echo request and its answer.
    pub(super) fn ping(&self, pod: usize, to: IpAddr) -> io::Result<()> {
        let (domain, protocol, kind, answer, head) = match to {
            IpAddr::V4(_) => (Domain::IPV4, socket2::Protocol::ICMPV4, 8, 0, 20),
            IpAddr::V6(_) => (Domain::IPV6, socket2::Protocol::ICMPV6, 128, 129, 0),
        };
        self.pods[pod]
            .run_blocking(move || {
                let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
                socket.set_read_timeout(Some(PATIENCE))?;
                // The checksum of an otherwise empty request; for IPv6 the kernel computes it.
                socket.send_to(&[kind, 0, 0xf7, 0xff, 0, 0, 0, 0], &SockAddr::from(SocketAddr::new(to, 0)))?;
                let mut socket = socket;
                let mut buffer = [0; 100];
                while socket.read(&mut buffer)? > head && buffer[head] != answer {}
                Ok(())
            })
            .unwrap()
    }

    /// A connection that says `hello` and returns what the server answered.
    pub(super) fn ask(&self, pod: usize, to: SocketAddr) -> io::Result<String> {
        converse_once(&mut self.dial(pod, None, to)?)
    }

    /// Datagram there and, if it comes, the answer back.
    pub(super) fn ask_udp(&self, pod: usize, to: SocketAddr) -> io::Result<String> {
        let wait = Duration::from_millis(300);
        self.pods[pod]
            .run_blocking(move || {
                let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = std::net::UdpSocket::bind(any)?;
                socket.set_read_timeout(Some(wait))?;
                socket.send_to(b"hello", to)?;
                let mut answer = [0; 200];
                let (length, _) = socket.recv_from(&mut answer)?;
                Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
            })
            .unwrap()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in (0..self.pods.len()).map(|pod| format!("p{pod}")).chain(["node".into()]) {
            let _ = Command::new("ip").args(["netns", "del", &format!("{}-{name}", self.prefix)]).status();
        }
    }
}

fn make(prefix: &str, name: &str) -> Arc<Namespace> {
    let full = format!("{prefix}-{name}");
    let done = Command::new("ip").args(["netns", "add", &full]).status().expect("iproute2 is installed");
    assert!(done.success(), "cannot make a network namespace");
    Arc::new(Namespace::enter(&PathBuf::from(format!("/run/netns/{full}"))).unwrap())
}

pub(super) fn shell(namespace: &Namespace, line: &str) -> String {
    let script = format!("set -e; {line}");
    let output = namespace.run_blocking(move || Command::new("sh").args(["-c", &script]).output()).unwrap().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A TCP server that answers every first message with the address it sees and counts what it received. Its sockets
/// close when it is dropped.
pub(super) struct Server {
    received: Arc<AtomicU64>,
    accepted: Arc<AtomicU64>,
    stop: Arc<Mutex<bool>>,
}

impl Server {
    pub(super) fn start(namespace: &Namespace, address: SocketAddr) -> Self {
        let listener = namespace.run_blocking(move || listen(address)).unwrap().unwrap();
        let server = Self { received: Arc::default(), accepted: Arc::default(), stop: Arc::default() };
        let (received, accepted, stop) =
            (Arc::clone(&server.received), Arc::clone(&server.accepted), Arc::clone(&server.stop));
        listener.set_nonblocking(true).unwrap();
        std::thread::spawn(move || {
            let mut held = Vec::new();
            while !*stop.lock().unwrap() {
                match listener.accept() {
                    Ok((stream, peer)) => {
                        accepted.fetch_add(1, Ordering::SeqCst);
                        held.push(stream.try_clone().unwrap());
                        let received = Arc::clone(&received);
                        std::thread::spawn(move || converse(stream, peer, &received));
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        server
    }

    /// On a port of every address, IPv4 and IPv6.
    pub(super) fn everywhere(namespace: &Namespace, port: u16) -> Self {
        Self::start(namespace, SocketAddr::new("::".parse().unwrap(), port))
    }

    /// Bytes that reached the application.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::SeqCst)
    }

    /// Connections that reached the application.
    pub(super) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        *self.stop.lock().unwrap() = true;
    }
}

fn converse_once(stream: &mut TcpStream) -> io::Result<String> {
    stream.write_all(b"hello")?;
    let mut answer = [0; 200];
    match stream.read(&mut answer)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        length => Ok(String::from_utf8_lossy(&answer[..length]).into_owned()),
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(1024)?;
    Ok(socket.into())
}

fn converse(mut stream: TcpStream, peer: SocketAddr, received: &AtomicU64) {
    stream.set_nonblocking(false).unwrap();
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        received.fetch_add(length as u64, Ordering::SeqCst);
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        if stream.write_all(format!("{peer}").as_bytes()).is_err() {
            return;
        }
    }
}

/// A UDP server that answers with the address it sees.
pub(super) fn udp_server(namespace: &Namespace, address: SocketAddr) -> Arc<AtomicU64> {
    let socket = namespace.run_blocking(move || std::net::UdpSocket::bind(address)).unwrap().unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let received = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&received);
    std::thread::spawn(move || {
        let mut buffer = [0; 200];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = socket.send_to(peer.to_string().as_bytes(), peer);
        }
    });
    received
}

/// Waits for something that must come true.
pub(super) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
