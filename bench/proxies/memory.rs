//! What a proxy holds when nobody asks, and what a connection costs that asks no more.

use std::thread::sleep;
use std::time::Duration;

use crate::backend::{Backend, Origin};
use crate::load::wire::{Connection, get};
use crate::peers::{EVERYBODY, Peer, Programs, Protocol};
use crate::process::Failure;
use crate::rules::Rules;
use crate::running::Running;
use crate::usage;

/// Rules that each was told.
pub(crate) const RULES: Rules = Rules(1_000);

/// Memory of one proxy, in resident bytes.
pub(crate) struct Footprint {
    pub(crate) peer: Peer,
    /// After its first answers.
    pub(crate) idle: u64,
    pub(crate) connections: usize,
    /// More than that, for each connection that is open after a request.
    pub(crate) per_connection: f64,
}

/// Long enough for an allocator to give back what it means to.
const REST: Duration = Duration::from_secs(1);

/// Every proxy with so many idle connections.
pub(crate) fn measure(connections: usize, programs: &Programs) -> Result<Vec<Footprint>, Failure> {
    let folder = tempfile::tempdir()?;
    let backend = Backend::start(folder.path(), Protocol::Http1, Origin::Short)?;
    let request = get(&RULES.allowed("GET").swap_remove(0));
    let mut footprints = Vec::new();
    for &peer in EVERYBODY.iter().filter(|peer| programs.have(**peer)) {
        eprint!("\rmemory: {}  ", peer.name());
        let proxy = Running::start(peer, Protocol::Http1, RULES, 1, &backend, programs)?;
        sleep(REST);
        let idle = usage::memory(proxy.process.pid()).0;
        let mut open = Vec::with_capacity(connections);
        for _ in 0..connections {
            let mut connection = Connection::open(proxy.setup.listen)?;
            let status = connection.ask(&request)?;
            if status != 200 {
                return Err(format!("memory, {}: {status} instead of 200", peer.name()).into());
            }
            open.push(connection);
        }
        sleep(REST);
        let more = usage::memory(proxy.process.pid()).0.saturating_sub(idle);
        footprints.push(Footprint { peer, idle, connections, per_connection: more as f64 / connections as f64 });
    }
    eprintln!();
    Ok(footprints)
}
