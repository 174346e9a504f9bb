//! Where connections come from: accepted sockets with their source, original destination and direction, and the way
//! to reach that destination.

pub(crate) mod admission;
pub(crate) mod dial;
pub(crate) mod handed;
pub(crate) mod handover;
pub(crate) mod install;
#[cfg(test)]
mod kernel;
mod listener;
mod namespace;
pub(crate) mod node;
pub(crate) mod resolvers;
pub(crate) mod rules;

use std::io;
use std::net::SocketAddr;

use eastwall_policy::facts::Direction;
use tokio::net::TcpStream;

pub(crate) use dial::Dialer;
pub(crate) use handed::{Handed, HandedPod};
pub(crate) use handover::{Inherited, Predecessor, Successor, Successors};
pub(crate) use install::Plan;
pub(crate) use listener::{Acceptor, Listeners, Refused, TurnedAway, no_such_family};
pub(crate) use namespace::Namespace;
pub(crate) use node::{Captured, HandError, Node, NodeSetup};

/// The address that the client dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct OriginalDestination(pub(crate) SocketAddr);

/// The address that the connection came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Remote(pub(crate) SocketAddr);

/// One accepted connection, before anything was read from it.
#[derive(Debug)]
pub(crate) struct Accepted<S = TcpStream> {
    /// The client's socket, NODELAY set.
    pub(crate) stream: S,
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
    /// It came to a gateway's listener for HBONE: in it are connections to the destination.
    pub(crate) hbone: bool,
}

impl Accepted {
    /// Takes the socket out of this thread's runtime, for another thread.
    pub(crate) fn detach(self) -> io::Result<Accepted<std::net::TcpStream>> {
        self.exchange(TcpStream::into_std)
    }
}

impl Accepted<std::net::TcpStream> {
    /// Takes the socket into this thread's runtime.
    pub(crate) fn attach(self) -> io::Result<Accepted> {
        self.exchange(TcpStream::from_std)
    }
}

impl<S> Accepted<S> {
    fn exchange<T>(self, exchange: impl FnOnce(S) -> io::Result<T>) -> io::Result<Accepted<T>> {
        let (stream, rest) = self.split();
        Ok(rest.with(exchange(stream)?))
    }

    /// The stream, and where it came from.
    pub(crate) fn split(self) -> (S, Accepted<()>) {
        let Self { stream, remote, destination, direction, dialer, pod, hbone } = self;
        (stream, Accepted { stream: (), remote, destination, direction, dialer, pod, hbone })
    }

    /// The same with another stream.
    pub(crate) fn with<T>(self, stream: T) -> Accepted<T> {
        let Self { remote, destination, direction, dialer, pod, hbone, .. } = self;
        Accepted { stream, remote, destination, direction, dialer, pod, hbone }
    }

    /// It came to an explicit listener.
    pub(crate) fn is_gateway(&self) -> bool {
        matches!(self.dialer, Dialer::Fixed(_))
    }
}
