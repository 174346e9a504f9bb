//! Upstream sockets, one way a mode.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

/// How to open the upstream socket of a connection.
#[derive(Clone, Debug)]
pub(crate) enum Dialer {
    /// Gateway: always this address, whatever the destination.
    Fixed(SocketAddr),
    /// Sidecar: the original destination, by the process's own uid.
    Direct,
}

impl Dialer {
    /// Connects to `destination` (which [`Self::Fixed`] replaces); NODELAY is set.
    pub(crate) async fn connect(&self, destination: SocketAddr, timeout: Duration) -> std::io::Result<TcpStream> {
        let address = match self {
            Self::Fixed(upstream) => *upstream,
            Self::Direct => destination,
        };
        let stream = tokio::time::timeout(timeout, TcpStream::connect(address))
            .await
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}
