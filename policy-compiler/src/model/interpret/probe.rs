//! HTTP probes that a pod's spec declares, as a question that rules ask.

use super::leg::Leg;
use crate::facts::{Fact, Request, Truth};
use crate::registry::{Probe, Workload};

/// The destination and its port, where it declares an HTTP probe on that port.
pub(crate) fn on<'a>(leg: &Leg<'a>) -> Option<(&'a Workload, u16)> {
    let workload = leg.registry.workload(leg.destination.workload?)?;
    let port = leg.destination.port?;
    workload.probes.iter().any(|probe| probe.port == port && probe.path.is_some()).then_some((workload, port))
}

/// Whether a request is exactly one of these probes.
pub(crate) fn is(workload: &Workload, port: u16, request: &Request<'_>) -> Truth {
    workload
        .probes
        .iter()
        .filter(|probe| probe.port == port)
        .fold(Truth::False, |held, probe| held.or(same(probe, request)))
}

fn same(probe: &Probe, request: &Request<'_>) -> Truth {
    let Some(target) = &probe.path else { return Truth::False };
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (&**target, None),
    };
    let http = match request.protocol {
        Fact::Known(protocol) => protocol.is_http().into(),
        Fact::Absent => Truth::False,
        Fact::Unknown => Truth::Unknown,
    };
    http.and(equals(request.method, Some(&probe.method)))
        .and(equals(request.path, Some(path)))
        .and(equals(request.query, query))
        .and(equals(request.upgrade, None))
}

fn equals(fact: Fact<&[u8]>, expected: Option<&str>) -> Truth {
    match fact {
        Fact::Known(held) => (Some(held) == expected.map(str::as_bytes)).into(),
        Fact::Absent => expected.is_none().into(),
        Fact::Unknown => Truth::Unknown,
    }
}
