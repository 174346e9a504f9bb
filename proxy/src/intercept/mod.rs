//! Where connections come from: accepted sockets with their source, original destination and direction, and the way
//! to reach that destination.

pub(crate) mod admission;
pub(crate) mod dial;
pub(crate) mod install;
#[cfg(test)]
mod kernel;
mod listener;
mod namespace;
pub(crate) mod node;
pub(crate) mod rules;

use std::net::SocketAddr;

use eastwall_policy::facts::Direction;
use tokio::net::TcpStream;

pub(crate) use dial::Dialer;
pub(crate) use install::Plan;
pub(crate) use listener::{Acceptor, Listeners, Refused, TurnedAway};
pub(crate) use namespace::Namespace;
pub(crate) use node::{Node, NodeSetup};

/// The address that the client dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct OriginalDestination(pub(crate) SocketAddr);

/// The address that the connection came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Remote(pub(crate) SocketAddr);

/// One accepted connection, before anything was read from it.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// The client's socket, NODELAY set.
    pub(crate) stream: TcpStream,
    /// Where it comes from.
    pub(crate) remote: Remote,
    /// Where it wants to go.
    pub(crate) destination: OriginalDestination,
    /// Which side of the flow this proxy stands on.
    pub(crate) direction: Direction,
    /// How to reach the destination.
    pub(crate) dialer: Dialer,
    /// The pod whose listener accepted it (`namespace/name`), in node mode: a source address counts only in the
    /// namespace of the pod that owns it.
    pub(crate) pod: Option<std::sync::Arc<str>>,
}
