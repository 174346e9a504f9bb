//! Single requests, to learn whether a proxy has started and whether it judges as it was told.

use std::net::{IpAddr, SocketAddr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use http::Request;
use tokio::runtime::{Builder, LocalOptions};

use crate::identities;
use crate::load::hbone::Client;
use crate::load::wire::{Connection, get};
use crate::peers::{Peer, Protocol, Setup};
use crate::process::{Failure, Process};
use crate::rules::STRANGER;

/// Long enough to load the largest policy on a machine that does other things.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until it answers, then asks every path that the load will.
pub(crate) fn check(peer: Peer, setup: &Setup, process: &mut Process) -> Result<(), Failure> {
    let Setup { listen: at, protocol, rules, .. } = *setup;
    let name = peer.name();
    let status = |path: &str| match protocol {
        Protocol::Http1 | Protocol::WebSocket | Protocol::Tcp => http1(setup.client, at, path),
        Protocol::Http2 => http2(at, path),
        Protocol::Hbone => tunnelled(peer, setup, identities::SOURCE, path),
    };
    let refusal = if peer.judges_requests() { 403 } else { 200 };
    let mut expected: Vec<(u16, String)> = rules.allowed("GET").into_iter().map(|path| (200, path)).collect();
    if protocol != Protocol::Tcp && (protocol != Protocol::Hbone || peer.takes_tunnels()) {
        expected.extend(rules.denied().into_iter().map(|path| (refusal, path)));
    }
    let wrong = |(expected, path): &(u16, String)| match status(path) {
        Ok(given) if given == *expected => None,
        Ok(given) => Some(format!("{name} answers {given} to GET {path}: {expected} was expected")),
        Err(error) => Some(format!("{name} does not answer GET {path}: {error}")),
    };
    // One answer of each kind shows that it has begun: before a pod is redirected its own server answers everything.
    let end = Instant::now() + PATIENCE;
    while let Some(error) = [expected.first(), expected.last()].into_iter().flatten().find_map(wrong) {
        if process.has_ended() || Instant::now() > end {
            return Err(format!("{error}; {}", process.last_words()).into());
        }
        sleep(Duration::from_millis(20));
    }
    if let Some(error) = expected.iter().find_map(wrong) {
        return Err(error.into());
    }
    let Some((_, path)) = expected.first() else { return Ok(()) };
    let stranger = match protocol {
        Protocol::Tcp => http1(STRANGER, at, path),
        Protocol::Hbone if peer.judges() && peer.takes_tunnels() => tunnelled(peer, setup, identities::STRANGER, path),
        _ => return Ok(()),
    };
    match stranger {
        Ok(status) if protocol == Protocol::Tcp || status == 200 => {
            Err(format!("{name} passes on what a stranger sends: {status}").into())
        }
        _ => Ok(()),
    }
}

/// Asks from an address of this machine.
pub(crate) fn http1(from: IpAddr, at: SocketAddr, path: &str) -> Result<u16, Failure> {
    Connection::open_from(from, at)?.ask(&get(path))
}

/// One request in a tunnel of its own, or in the connection itself where the proxy takes none.
fn tunnelled(peer: Peer, setup: &Setup, account: &str, path: &str) -> Result<u16, Failure> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(async {
        let client = Client::connect(&setup.folder, account, setup.client, setup.listen).await?;
        if !peer.takes_tunnels() {
            return client.ask(path).await;
        }
        match client.tunnel(setup.upstream).await? {
            Ok(mut tunnel) => tunnel.ask(get(path).into()).await,
            Err(status) => Ok(status.as_u16()),
        }
    })
}

fn http2(at: SocketAddr, path: &str) -> Result<u16, Failure> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(at).await?;
        let (mut sender, connection) = h2::client::handshake(stream).await?;
        let request = Request::get(format!("http://app{path}")).body(())?;
        let (response, _) = sender.send_request(request, true)?;
        tokio::select! {
            response = response => Ok(response?.status().as_u16()),
            ended = connection => Err(ended.err().map_or_else(|| "closed without an answer".into(), Failure::from)),
        }
    })
}
