//! Three pods and a stranger: network namespaces on one bridge, or loopback addresses.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::{Step, Teardown};
use crate::intercept::Namespace;

/// Who takes part. `orders` is protected; `stranger` is an address of the trusted network that nobody registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pod {
    Orders,
    Web,
    Attacker,
    Stranger,
}

pub(super) const ALL: [Pod; 4] = [Pod::Orders, Pod::Web, Pod::Attacker, Pod::Stranger];

/// Port that `orders` serves.
pub(super) const PORT: u16 = 8080;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

impl Pod {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Web => "web",
            Self::Attacker => "attacker",
            Self::Stranger => "stranger",
        }
    }

    fn host(self) -> u8 {
        match self {
            Self::Orders => 2,
            Self::Web => 3,
            Self::Attacker => 66,
            Self::Stranger => 99,
        }
    }
}

/// The stage.
#[derive(Debug)]
pub(super) struct Pods {
    /// First three octets of every address.
    network: [u8; 3],
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Namespaces { prefix: String },
    Loopback { gateway: SocketAddr },
}

/// Whether this process may make namespaces, and has the commands for it; else why not.
pub(super) fn namespaces_available() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("not root".to_owned());
    }
    for (tool, package) in [("ip", "iproute2"), ("nft", "nftables")] {
        if Command::new(tool).arg("-V").output().is_err() {
            return Err(format!("no `{tool}` command (package {package})"));
        }
    }
    Ok(())
}

/// Deletes a namespace; its links and rules go with it.
pub(super) fn delete_namespace(name: &str) -> io::Result<()> {
    ip(&["netns", "delete", name])
}

impl Pods {
    /// One namespace as the node with a bridge, one for each pod.
    pub(super) fn in_namespaces(teardown: &Teardown) -> io::Result<Self> {
        let prefix = format!("eastwall-demo-{}", std::process::id());
        let pods = Self { network: [10, 77, 0], kind: Kind::Namespaces { prefix: prefix.clone() } };
        let node = format!("{prefix}-node");
        add_namespace(&node, teardown)?;
        ip(&["-n", &node, "link", "add", "pods", "type", "bridge"])?;
        ip(&["-n", &node, "link", "set", "pods", "up"])?;
        for pod in ALL {
            let (namespace, name) = (pods.namespace(pod), pod.name());
            add_namespace(&namespace, teardown)?;
            ip(&["-n", &node, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", &namespace])?;
            ip(&["-n", &node, "link", "set", name, "master", "pods", "up"])?;
            ip(&["-n", &namespace, "address", "add", &format!("{}/24", pods.address(pod)), "dev", "eth0"])?;
            ip(&["-n", &namespace, "link", "set", "eth0", "up"])?;
            ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
        }
        Ok(pods)
    }

    /// Loopback addresses, with a gateway between.
    pub(super) fn on_loopback() -> io::Result<Self> {
        let network = [127, 77, 0];
        let free = TcpListener::bind((Ipv4Addr::new(network[0], network[1], network[2], 1), 0))?.local_addr()?;
        Ok(Self { network, kind: Kind::Loopback { gateway: free } })
    }

    pub(super) fn address(&self, pod: Pod) -> IpAddr {
        let [a, b, c] = self.network;
        Ipv4Addr::new(a, b, c, pod.host()).into()
    }

    /// The network that the demo's CIDR rule trusts: every pod lies in it.
    pub(super) fn network(&self) -> String {
        let [a, b, c] = self.network;
        format!("{a}.{b}.{c}.0/24")
    }

    /// Where `orders` listens.
    pub(super) fn orders(&self) -> SocketAddr {
        (self.address(Pod::Orders), PORT).into()
    }

    /// The gateway's listener, on loopback.
    pub(super) fn gateway(&self) -> Option<SocketAddr> {
        match self.kind {
            Kind::Loopback { gateway } => Some(gateway),
            Kind::Namespaces { .. } => None,
        }
    }

    /// What a client dials to reach `orders`.
    pub(super) fn target(&self) -> SocketAddr {
        self.gateway().unwrap_or_else(|| self.orders())
    }

    /// The name of a pod's namespace.
    pub(super) fn namespace(&self, pod: Pod) -> String {
        match &self.kind {
            Kind::Namespaces { prefix } => format!("{prefix}-{}", pod.name()),
            Kind::Loopback { .. } => String::new(),
        }
    }

    /// The path of a pod's namespace.
    pub(super) fn namespace_path(&self, pod: Pod) -> Option<PathBuf> {
        match &self.kind {
            Kind::Namespaces { .. } => Some(PathBuf::from("/run/netns").join(self.namespace(pod))),
            Kind::Loopback { .. } => None,
        }
    }

    /// A listener for `orders`.
    pub(super) fn listen(&self) -> io::Result<TcpListener> {
        let address = self.orders();
        self.inside(Pod::Orders, move || TcpListener::bind(address))
    }

    /// A connection from a pod to `orders`.
    pub(super) fn connect(&self, pod: Pod) -> io::Result<TcpStream> {
        let (source, target) = (self.address(pod), self.target());
        self.inside(pod, move || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
            socket.bind(&SocketAddr::new(source, 0).into())?;
            socket.connect_timeout(&target.into(), CONNECT_TIMEOUT)?;
            Ok(socket.into())
        })
    }

    fn inside<T: Send + 'static>(
        &self,
        pod: Pod,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        match self.namespace_path(pod) {
            Some(path) => Namespace::enter(&path)?.run_blocking(work)?,
            None => work(),
        }
    }
}

fn add_namespace(name: &str, teardown: &Teardown) -> io::Result<()> {
    ip(&["netns", "add", name])?;
    teardown.add(Step::Namespace(name.to_owned()));
    Ok(())
}

fn ip(arguments: &[&str]) -> io::Result<()> {
    let output = Command::new("ip").args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("`ip {}`: {}", arguments.join(" "), message.trim())))
}
