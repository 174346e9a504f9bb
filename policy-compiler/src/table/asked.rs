//! A request as the table is asked about it: what every set of clauses needs, worked out once.

use std::net::IpAddr;

use crate::facts::Request;
use crate::registry::{Registry, Workload, WorkloadId};
use crate::table::Table;
use crate::table::hash::Seed;
use crate::table::state::protocol_state;

/// One request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) request: &'a Request<'a>,
    /// The address that counts where no trusted proxy told another.
    pub(super) source: Option<IpAddr>,
    /// How many proxies in front may tell it.
    pub(super) trusted_proxies: u32,
    pub(super) method: u64,
    pub(super) protocol: u16,
    pub(super) seed: &'a Seed,
    /// The destination and its port, where it declares an HTTP probe on it.
    pub(super) declares: Option<(&'a Workload, u16)>,
}

impl<'a> Asked<'a> {
    /// Prepares a request.
    pub(super) fn new(request: &'a Request<'a>, source: Option<IpAddr>, table: &'a Table) -> Self {
        let Table { seed, methods, trusted_proxies, .. } = table;
        Self {
            request,
            source,
            trusted_proxies: *trusted_proxies,
            method: methods.state(request.method),
            protocol: protocol_state(request.protocol),
            seed,
            declares: None,
        }
    }

    /// The same, of one leg: its destination and port, where that declares an HTTP probe.
    pub(super) fn of_destination(&self, declares: Option<(WorkloadId, u16)>, registry: &'a Registry) -> Self {
        Self { declares: declares.and_then(|(id, port)| Some((registry.workload(id)?, port))), ..*self }
    }
}
