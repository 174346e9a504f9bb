//! Which workloads stand open.

use crate::facts::{Connection, Direction, End, Place, Transport};
use crate::model::Model;
use crate::model::interpret::STACKS;
use crate::model::interpret::leg::legs;
use crate::model::interpret::tier::{self, Table};
use crate::registry::{Registry, Workload, WorkloadId};

/// How many registered workloads no stack closes in this direction, as the interpreter has it. Rules of the Admin tier close nothing.
#[must_use]
pub fn unprotected(model: &Model, registry: &Registry, direction: Direction) -> usize {
    open(model, registry, direction).len()
}

/// The registered workloads that no stack closes in this direction.
#[must_use]
pub fn open<'r>(model: &Model, registry: &'r Registry, direction: Direction) -> Vec<&'r Workload> {
    let all = (0u32..).zip(&registry.workloads);
    all.filter(|(id, _)| is_open(model, registry, direction, WorkloadId(*id))).map(|(_, workload)| workload).collect()
}

/// A connection of which nothing is known but the end that is judged.
pub(crate) fn from_anyone(workload: WorkloadId, direction: Direction) -> Connection<'static> {
    let here = End { address: None, place: Place::Workload(workload), principal: None };
    let anyone = End { address: None, place: Place::Unknown, principal: None };
    let (source, destination) = match direction {
        Direction::Inbound => (anyone, here),
        Direction::Outbound => (here, anyone),
    };
    Connection {
        source,
        destination,
        port: 0,
        transport: Transport::Tcp,
        service: None,
        fqdn: None,
        direction: Some(direction),
    }
}

fn is_open(model: &Model, registry: &Registry, direction: Direction, workload: WorkloadId) -> bool {
    let connection = from_anyone(workload, direction);
    legs(model, registry, &connection)
        .iter()
        .all(|leg| STACKS.into_iter().all(|stack| tier::closing(leg, Table::Enforced, stack).is_none()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::facts::{Connection, Direction, Transport};
    use crate::world::{ConnectionVerdict, World};

    #[test]
    fn a_sealed_world_refuses_even_what_nobody_registered() {
        let world = World::sealed(1);
        let connection = Connection {
            source: world.source([10, 0, 0, 1].into()),
            destination: world.destination([192, 0, 2, 1].into()),
            port: 80,
            transport: Transport::Tcp,
            service: None,
            fqdn: None,
            direction: None,
        };
        let verdict = |world: &World| world.connection_verdict(&world.flow(&connection), 0);
        assert!(matches!(verdict(&world), ConnectionVerdict::Deny(_)));
        let closed = World::closed(Arc::default(), 1);
        assert!(matches!(verdict(&closed), ConnectionVerdict::Opaque(_)), "neither end is registered");
        assert_eq!(world.unprotected(Direction::Inbound), 0);
    }
}
