//! What a proxy holds when nobody asks, and what a connection costs that asks no more.

use std::thread::sleep;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};

use crate::backend::{Backend, Origin};
use crate::identities;
use crate::load::hbone::{Client, opened};
use crate::load::wire::{Connection, get};
use crate::peers::{EVERYBODY, Peer, Programs, Protocol, Setup};
use crate::process::Failure;
use crate::rules::Rules;
use crate::running::Running;
use crate::usage;

/// Rules that each was told.
pub(crate) const RULES: Rules = Rules(1_000);

/// Who is measured, with what kind of connection, and how many times fewer of them than of the first kind: each of mutual TLS
/// costs the harness memory too.
const KINDS: [(Protocol, &[Peer], usize); 2] =
    [(Protocol::Http1, EVERYBODY, 1), (Protocol::Hbone, &[Peer::Eastwall, Peer::Ztunnel], 5)];

/// Memory of one proxy, in resident bytes.
pub(crate) struct Footprint {
    pub(crate) peer: Peer,
    pub(crate) protocol: Protocol,
    /// After its first answers.
    pub(crate) idle: u64,
    pub(crate) connections: usize,
    /// More than that, for each connection that is open after a request.
    pub(crate) per_connection: f64,
}

impl Footprint {
    pub(crate) fn is_of(&self, peer: Peer, protocol: Protocol) -> bool {
        self.peer == peer && self.protocol == protocol
    }

    /// What is open.
    pub(crate) fn about(&self) -> String {
        let kind =
            if self.protocol == Protocol::Hbone { "connections of mutual TLS with a tunnel" } else { "connections" };
        format!("{} {kind}, open after a request each", self.connections)
    }
}

/// Long enough for an allocator to give back what it means to.
const REST: Duration = Duration::from_secs(1);

/// Every proxy with so many idle connections.
pub(crate) fn measure(connections: usize, programs: &Programs) -> Result<Vec<Footprint>, Failure> {
    let folder = tempfile::tempdir()?;
    let backend = Backend::start(folder.path(), Protocol::Http1, Origin::Short)?;
    let mut footprints = Vec::new();
    for (protocol, peers, fewer) in KINDS {
        let connections = connections / fewer;
        for &peer in peers.iter().filter(|peer| programs.have(**peer)) {
            eprint!("\rmemory: {}  ", peer.name());
            let proxy = Running::start(peer, protocol, RULES, 1, &backend, programs)?;
            sleep(REST);
            let memory = || usage::memory(proxy.process.pid()).0;
            let idle = memory();
            let held = if protocol == Protocol::Hbone { hold_tunnels } else { hold };
            let more = held(&proxy.setup, connections, &memory)
                .map_err(|error| format!("memory, {}: {error}", peer.name()))?
                .saturating_sub(idle);
            let per_connection = more as f64 / connections as f64;
            footprints.push(Footprint { peer, protocol, idle, connections, per_connection });
        }
    }
    eprintln!();
    Ok(footprints)
}

/// What `memory` says while so many connections are open after a request each.
fn hold(setup: &Setup, connections: usize, memory: &dyn Fn() -> u64) -> Result<u64, Failure> {
    let request = get(&RULES.allowed("GET").swap_remove(0));
    let mut open = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut connection = Connection::open(setup.listen)?;
        expect(connection.ask(&request)?)?;
        open.push(connection);
    }
    sleep(REST);
    Ok(memory())
}

/// The same of mutual TLS, each with a tunnel that stays open.
fn hold_tunnels(setup: &Setup, connections: usize, memory: &dyn Fn() -> u64) -> Result<u64, Failure> {
    let request = get(&RULES.allowed("GET").swap_remove(0));
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(async {
        let mut open = Vec::with_capacity(connections);
        for _ in 0..connections {
            let client = Client::connect(&setup.folder, identities::SOURCE, setup.client, setup.listen).await?;
            let mut tunnel = opened(&client, setup.upstream).await?;
            expect(tunnel.ask(request.clone().into()).await?)?;
            open.push((client, tunnel));
        }
        tokio::time::sleep(REST).await;
        Ok(memory())
    })
}

fn expect(status: u16) -> Result<(), Failure> {
    if status == 200 { Ok(()) } else { Err(format!("{status} instead of 200").into()) }
}
