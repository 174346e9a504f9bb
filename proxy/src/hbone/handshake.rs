//! Mutual TLS over a socket, on either side.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::identity::{Peer, PeerRefused, Svid};

/// As the server: shows `svid`, and asks who the client is.
pub(super) async fn accept(
    svid: &Svid,
    socket: TcpStream,
) -> Result<(server::TlsStream<TcpStream>, Peer), PeerRefused> {
    let stream = TlsAcceptor::from(svid.server()).accept(socket).await.map_err(|error| PeerRefused::of(&error))?;
    let peer = peer(stream.get_ref().1)?;
    Ok((stream, peer))
}

/// As the client, which must find this principal.
pub(super) async fn connect(
    svid: &Svid,
    socket: TcpStream,
    expected: &Arc<str>,
) -> Result<(client::TlsStream<TcpStream>, Peer), PeerRefused> {
    // No name is sent: the server is asked for its identity, not for a host.
    let name = socket.peer_addr().map_err(|_| PeerRefused::Protocol)?.ip();
    let name = ServerName::IpAddress(name.into());
    let connector = TlsConnector::from(svid.client());
    let stream = connector.connect(name, socket).await.map_err(|error| PeerRefused::of(&error))?;
    let peer = peer(stream.get_ref().1)?;
    if peer.principal == *expected { Ok((stream, peer)) } else { Err(PeerRefused::OtherIdentity) }
}

fn peer<D>(connection: &rustls::ConnectionCommon<D>) -> Result<Peer, PeerRefused> {
    if connection.alpn_protocol() != Some(b"h2") {
        return Err(PeerRefused::Protocol);
    }
    Peer::verified(connection.peer_certificates().unwrap_or_default())
}
