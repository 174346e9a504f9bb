//! Proof and place must agree: whoever proves an identity has to come from where the registry has it, and whoever has
//! proven one once is not believed without.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use eastwall_policy::facts::Place;
use eastwall_policy::registry::{Claimant, Workload, WorkloadId};
use eastwall_policy::world::World;
use hashbrown::HashSet;

/// What holds for all connections of the process.
#[derive(Debug, Default)]
pub(crate) struct Agreement {
    /// SPIFFE ids that may come from any address: gateways, egress proxies.
    anywhere: Vec<String>,
    /// Whoever has proven an identity may come in plaintext all the same.
    takes_downgrades: bool,
    /// Who has proven what, and to whom.
    proven: Mutex<HashSet<Proven>>,
}

/// Namespace and service account, and the address that was called.
type Proven = (Arc<str>, Arc<str>, IpAddr);

/// More than a node's pods have callers. Beyond it nobody new is remembered, which is as it was before.
const PROVEN_MAX: usize = 100_000;

impl Agreement {
    /// See the fields.
    pub(crate) fn new(anywhere: Vec<String>, takes_downgrades: bool) -> Self {
        Self { anywhere, takes_downgrades, proven: Mutex::default() }
    }

    /// Whether the registry has this identity at this place.
    pub(crate) fn holds(&self, world: &World, principal: &str, address: IpAddr, place: Place) -> bool {
        let trust_domain = &world.model().settings.trust_domain;
        let is = |workload: &Workload| workload.spiffe_id(trust_domain) == principal;
        let is_there = |id: WorkloadId| world.registry().workload(id).is_some_and(is);
        let is_of_cluster =
            principal.strip_prefix("spiffe://").and_then(|rest| rest.split('/').next()) == Some(trust_domain.as_str());
        let agrees = match place {
            Place::Workload(id) => is_there(id),
            // Pods of the node's own network have its address.
            Place::Node(Some(id)) => world.registry().node(id).is_some_and(|node| {
                let here = |workload: &&Workload| workload.host_network && workload.node.as_ref() == Some(&node.name);
                world.registry().workloads.iter().filter(here).any(is)
            }),
            Place::Node(None) => false,
            Place::Unknown => world
                .registry()
                .claimants(address)
                .iter()
                .any(|claimant| matches!(claimant, Claimant::Workload(id) if is_there(*id))),
            // A workload of another trust domain is outside; one of this cluster is not.
            Place::External => !is_of_cluster,
        };
        agrees || self.anywhere.iter().any(|anywhere| anywhere == principal)
    }

    /// This workload has proven who it is to whom it called.
    pub(crate) fn has_proven(&self, workload: &Workload, called: IpAddr) {
        let mut proven = self.proven();
        if proven.len() < PROVEN_MAX {
            proven.insert((Arc::clone(&workload.namespace), Arc::clone(&workload.service_account), called));
        }
    }

    /// This workload comes in plaintext although its identity has come with a proof before.
    pub(crate) fn is_downgrade(&self, workload: &Workload, called: IpAddr) -> bool {
        if self.takes_downgrades {
            return false;
        }
        let proven = self.proven();
        !proven.is_empty()
            && proven.contains(&(Arc::clone(&workload.namespace), Arc::clone(&workload.service_account), called))
    }

    fn proven(&self) -> std::sync::MutexGuard<'_, HashSet<Proven>> {
        self.proven.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use eastwall_policy::dialect;
    use eastwall_policy::registry::Registry;
    use eastwall_policy::source;

    use super::*;

    const WORKLOADS: &str = r#"
- {name: web-1, namespace: shop, serviceAccount: web, ips: [10.0.0.1]}
- {name: old, namespace: shop, serviceAccount: web, ips: [10.0.0.9]}
- {name: new, namespace: shop, serviceAccount: orders, ips: [10.0.0.9]}
- {name: agent, namespace: kube-system, serviceAccount: agent, node: n1, hostNetwork: true, ips: [192.168.0.1]}
- {kind: Node, name: n1, ips: [192.168.0.1]}
- {kind: Node, name: n2, ips: [192.168.0.2]}
"#;

    #[test]
    fn an_identity_is_where_the_registry_has_it() {
        let compiled = dialect::compile(&source::parse("p.yaml", &Arc::from("")));
        let (registry, told) = Registry::parse("w.yaml", &Arc::from(WORKLOADS));
        assert!(told.iter().all(|one| one.message.contains("10.0.0.9")), "{told:?}");
        let world = World::new(compiled.model, Arc::new(registry), 1);
        let agreement = Agreement::new(vec!["spiffe://cluster.local/ns/edge/sa/gateway".into()], false);
        let cases = [
            ("spiffe://cluster.local/ns/shop/sa/web", "10.0.0.1", true),
            ("spiffe://cluster.local/ns/shop/sa/orders", "10.0.0.1", false),
            ("spiffe://other.example/ns/shop/sa/web", "10.0.0.1", false),
            ("spiffe://cluster.local/ns/shop/sa/web", "10.0.0.9", true),
            ("spiffe://cluster.local/ns/shop/sa/orders", "10.0.0.9", true),
            ("spiffe://cluster.local/ns/shop/sa/other", "10.0.0.9", false),
            ("spiffe://cluster.local/ns/shop/sa/web", "10.0.0.7", false),
            ("spiffe://cluster.local/ns/kube-system/sa/agent", "192.168.0.1", true),
            ("spiffe://cluster.local/ns/kube-system/sa/agent", "192.168.0.2", false),
            ("spiffe://cluster.local/ns/shop/sa/web", "203.0.113.1", false),
            ("spiffe://other.example/ns/shop/sa/web", "203.0.113.1", true),
            ("spiffe://cluster.local/ns/edge/sa/gateway", "203.0.113.1", true),
            ("spiffe://cluster.local/ns/edge/sa/gateway", "10.0.0.1", true),
        ];
        for (principal, address, agrees) in cases {
            let address: IpAddr = address.parse().unwrap();
            let place = world.source(address).place;
            assert_eq!(agreement.holds(&world, principal, address, place), agrees, "{principal} at {address}");
        }
    }

    #[test]
    fn a_proof_is_asked_for_again_by_whom_it_was_given_to() {
        let (registry, _) = Registry::parse("w.yaml", &Arc::from(WORKLOADS));
        let [first, _, other, ..] = registry.workloads.as_slice() else { panic!() };
        let (a, b) = (IpAddr::from([10, 0, 1, 1]), IpAddr::from([10, 0, 1, 2]));
        let agreement = Agreement::default();
        assert!(!agreement.is_downgrade(first, a));
        agreement.has_proven(first, a);
        assert!(agreement.is_downgrade(first, a));
        assert!(!agreement.is_downgrade(first, b) && !agreement.is_downgrade(other, a));
        let lenient = Agreement::new(Vec::new(), true);
        lenient.has_proven(first, a);
        assert!(!lenient.is_downgrade(first, a));
    }
}
