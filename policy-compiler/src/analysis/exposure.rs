//! Which workloads stand open.

use crate::facts::{Connection, Direction, End, Place, Transport};
use crate::model::interpret::STACKS;
use crate::model::interpret::leg::legs;
use crate::model::interpret::tier::{self, Table};
use crate::model::{Model, PolicyName};
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

/// What of the workloads that policies of this name protect was closed in `before` and is open in `after`.
#[must_use]
pub fn opened<'r>(
    before: &Model,
    after: &Model,
    registry: &'r Registry,
    name: &PolicyName,
) -> Vec<(Direction, Vec<&'r Workload>)> {
    let of_name: Vec<_> = before.policies.iter().filter(|policy| policy.name == *name).collect();
    let opened = |direction: Direction| {
        let closers: Vec<_> = of_name.iter().filter(|policy| policy.closes.contains(direction)).collect();
        let all = (0u32..).zip(&registry.workloads);
        let protected = all.filter(|(_, workload)| closers.iter().any(|policy| policy.subject.selects(workload)));
        let is_opened = |(id, _): &(u32, &Workload)| {
            is_open(after, registry, direction, WorkloadId(*id))
                && !is_open(before, registry, direction, WorkloadId(*id))
        };
        protected.filter(is_opened).map(|(_, workload)| workload).collect::<Vec<_>>()
    };
    let both = [Direction::Inbound, Direction::Outbound].map(|direction| (direction, opened(direction)));
    both.into_iter().filter(|(_, workloads)| !workloads.is_empty()).collect()
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

    use super::opened;
    use crate::facts::{Connection, Direction, Transport};
    use crate::registry::{Registry, Workload};
    use crate::world::{ConnectionVerdict, World};
    use crate::{dialect, source};

    #[test]
    fn what_a_policy_closed_alone_is_opened_without_it() {
        let policy = |name: &str, account: &str, directions: &str| {
            format!(
                "apiVersion: eastwall.dev/v1alpha1\nkind: FirewallPolicy\nmetadata: {{name: {name}, namespace: shop}}\n\
                 spec: {{subject: [{{serviceAccount: {account}}}], directions: [{directions}]}}\n---\n"
            )
        };
        let workloads = "- {name: orders, namespace: shop, serviceAccount: orders, ips: [10.0.0.2]}\n\
                         - {name: web, namespace: shop, serviceAccount: web, ips: [10.0.0.3]}\n";
        let (registry, _) = Registry::parse("w.yaml", &workloads.into());
        let model = |text: String| dialect::compile(&source::parse("p.yaml", &text.as_str().into())).model;
        let both = policy("a", "orders", "Ingress, Egress");
        let before = model(both.clone() + &policy("b", "orders", "Ingress"));
        let name = &before.policies[0].name;
        let told = |after: String| {
            let opened = opened(&before, &model(after), &registry, name);
            let names = |all: Vec<&Workload>| all.iter().map(|one| one.name.to_string()).collect::<Vec<_>>();
            opened.into_iter().map(|(direction, all)| (direction, names(all))).collect::<Vec<_>>()
        };
        assert_eq!(told(policy("b", "orders", "Ingress")), [(Direction::Outbound, vec!["orders".to_owned()])]);
        assert_eq!(told(policy("a", "web", "Ingress, Egress")).len(), 2);
        assert!(told(both).is_empty(), "the other one's business");
        assert!(told(policy("c", "orders", "Ingress, Egress")).is_empty());
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
