//! Which workloads stand open.

use crate::facts::{Connection, Direction, End, Place, Transport};
use crate::registry::WorkloadId;
use crate::world::World;

/// How many registered workloads no stack closes in this direction. Rules of the Admin tier close nothing.
pub(crate) fn unprotected(world: &World, direction: Direction) -> usize {
    let ids = (0u32..).map(WorkloadId).zip(&world.registry().workloads);
    ids.filter(|(id, _)| world.is_open(&world.flow(&anyone_meets(*id, direction)))).count()
}

/// A connection that shows which policies select the workload.
fn anyone_meets(workload: WorkloadId, direction: Direction) -> Connection<'static> {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::anyone_meets;
    use crate::facts::{Connection, Direction, Transport};
    use crate::model::interpret::STACKS;
    use crate::model::interpret::leg::legs;
    use crate::model::interpret::tier::{self, Table};
    use crate::registry::{Registry, WorkloadId};
    use crate::world::{ConnectionVerdict, World};
    use crate::{dialect, source};

    const POLICIES: &str = "\
apiVersion: eastwall.dev/v1alpha1
kind: FirewallPolicy
metadata: {name: both, namespace: a}
spec: {subject: [{serviceAccount: x}], directions: [Ingress, Egress]}
---
apiVersion: eastwall.dev/v1alpha1
kind: FirewallPolicy
metadata: {name: broken, namespace: b}
spec: {subject: [{serviceAccount: x}], directions: [Ingress], nonsense: 1}
---
apiVersion: eastwall.dev/v1alpha1
kind: FirewallPolicy
metadata: {name: candidate, namespace: c}
spec: {mode: Audit, subject: [{serviceAccount: x}], directions: [Ingress]}
---
apiVersion: eastwall.dev/v1alpha1
kind: ClusterFirewallPolicy
metadata: {name: admin}
spec: {tier: Admin, subject: [{any: true}], ingress: [{name: d, action: Deny, from: [{any: true}], ports: [9]}]}
---
apiVersion: eastwall.dev/v1alpha1
kind: ClusterFirewallPolicy
metadata: {name: base}
spec: {tier: Baseline, subject: [{namespace: d}], directions: [Egress]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: mesh, namespace: e}
spec: {}
";

    #[test]
    fn the_table_finds_open_what_the_reference_finds_open() {
        let compiled = dialect::compile(&source::parse("p.yaml", &POLICIES.into()));
        let workloads: String = ["a", "b", "c", "d", "e", "f"]
            .iter()
            .flat_map(|namespace| ["x", "y"].map(|account| (namespace, account)))
            .map(|(namespace, account)| {
                format!("- {{name: {account}, namespace: {namespace}, serviceAccount: {account}}}\n")
            })
            .collect();
        let (registry, diagnostics) = Registry::parse("w.yaml", &workloads.as_str().into());
        assert!(diagnostics.is_empty(), "{diagnostics:?}");
        let world = World::new(compiled.model, Arc::new(registry), 1);
        for (direction, expected) in [(Direction::Inbound, 8), (Direction::Outbound, 8)] {
            let mut open = 0;
            for (id, workload) in (0u32..).map(WorkloadId).zip(&world.registry().workloads) {
                let connection = anyone_meets(id, direction);
                let reference = legs(world.model(), world.registry(), &connection)
                    .iter()
                    .all(|leg| STACKS.into_iter().all(|stack| tier::closing(leg, Table::Enforced, stack).is_none()));
                assert_eq!(world.is_open(&world.flow(&connection)), reference, "{direction:?} {workload:?}");
                open += usize::from(reference);
            }
            assert_eq!(world.unprotected(direction), open);
            assert_eq!(open, expected, "{direction:?}");
        }
    }

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
