//! Upstream sockets, one way a mode.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use super::Namespace;
use super::rules::MARK_UPSTREAM;

/// How to open the upstream socket of a connection.
#[derive(Clone, Debug)]
pub(crate) enum Dialer {
    /// Gateway: always this address, whatever the destination.
    Fixed(SocketAddr),
    /// Sidecar: the original destination, by the process's own uid.
    Direct,
    /// Node: the original destination, from inside the pod's namespace and under the client's own address.
    Pod {
        /// The pod's namespace.
        namespace: Arc<Namespace>,
        /// Bound to this address. The port is kept if it can be; 0 leaves it to the kernel.
        source: SocketAddr,
    },
}

impl Dialer {
    /// Connects to `destination` (which [`Self::Fixed`] replaces); NODELAY is set.
    pub(crate) async fn connect(&self, destination: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        let stream = tokio::time::timeout(timeout, self.open(destination))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// The same, where the client's port serves several connections at once.
    pub(crate) fn without_port(&self) -> Self {
        match self {
            Self::Pod { namespace, source } => {
                Self::Pod { namespace: Arc::clone(namespace), source: SocketAddr::new(source.ip(), 0) }
            }
            other => other.clone(),
        }
    }

    async fn open(&self, destination: SocketAddr) -> io::Result<TcpStream> {
        match self {
            Self::Fixed(upstream) => TcpStream::connect(upstream).await,
            Self::Direct => TcpStream::connect(destination).await,
            Self::Pod { namespace, source } => {
                let kept = from_inside(namespace, *source, destination).await;
                match kept {
                    // The client took up a port that an upstream connection of its predecessor still holds.
                    Err(error) if source.port() != 0 && is_taken(&error) => {
                        from_inside(namespace, SocketAddr::new(source.ip(), 0), destination).await
                    }
                    other => other,
                }
            }
        }
    }
}

async fn from_inside(namespace: &Namespace, source: SocketAddr, destination: SocketAddr) -> io::Result<TcpStream> {
    let socket = namespace.run(move || bound(source)).await?;
    TcpSocket::from_std_stream(socket.into()).connect(destination).await
}

fn bound(source: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(source), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    socket.set_mark(MARK_UPSTREAM)?;
    match source {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
    }
    // One client port may lead to several destinations at once.
    socket.set_reuse_address(true)?;
    socket.bind(&SockAddr::from(source))?;
    Ok(socket)
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable)
}
