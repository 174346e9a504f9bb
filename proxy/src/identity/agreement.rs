//! Proof and place must agree: whoever proves an identity has to come from where the registry has it, and whoever has
//! proven one once is not believed without.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use eastwall_policy::facts::Place;
use eastwall_policy::registry::{Claimant, Workload, WorkloadId};
use eastwall_policy::world::World;
use hashbrown::{HashMap, HashSet};

/// What holds for all connections of the process.
#[derive(Debug, Default)]
pub(crate) struct Agreement {
    /// SPIFFE ids that may come from any address: gateways, egress proxies.
    anywhere: Vec<String>,
    /// Whoever has proven an identity may come in plaintext all the same.
    takes_downgrades: bool,
    proven: Mutex<Remembered>,
}

/// Who has proven what, and to whom: forgotten when the registry says that one of both is gone, and never otherwise.
#[derive(Debug, Default)]
struct Remembered {
    held: HashMap<Proven, Owner>,
    /// So many are there when the registry is asked next, and which generation was asked last.
    asked_at: usize,
    asked: u64,
}

/// Namespace and service account, and the address that was called.
type Proven = (Arc<str>, Arc<str>, IpAddr);

/// Whose the address was: a workload or Service by namespace and name; of nobody, or of several, it is not known.
type Owner = Option<(Arc<str>, Arc<str>)>;

/// More than a node's pods have callers. Beyond it nobody new is remembered, which is as it was before.
const PROVEN_MAX: usize = 100_000;

/// Of fewer it is not worth asking who is still there.
const ASKED_LEAST: usize = 1_024;

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
    pub(crate) fn has_proven(&self, world: &World, workload: &Workload, called: IpAddr) {
        let mut proven = self.proven();
        let Remembered { held, asked_at, asked } = &mut *proven;
        let key = (Arc::clone(&workload.namespace), Arc::clone(&workload.service_account), called);
        // PERF: all are asked about once they have doubled, or are too many, and of one generation once.
        let is_due = held.len() >= (*asked_at).max(ASKED_LEAST) && *asked != world.generation().number;
        if is_due && !held.contains_key(&key) {
            forget_gone(held, world);
            *asked = world.generation().number;
            *asked_at = held.len().saturating_mul(2).min(PROVEN_MAX);
        }
        if held.len() < PROVEN_MAX || held.contains_key(&key) {
            held.insert(key, owner(world, called));
        }
    }

    /// This workload comes in plaintext although its identity has come with a proof before.
    pub(crate) fn is_downgrade(&self, world: &World, workload: &Workload, called: IpAddr) -> bool {
        if self.takes_downgrades {
            return false;
        }
        let proven = self.proven();
        if proven.held.is_empty() {
            return false;
        }
        let key = (Arc::clone(&workload.namespace), Arc::clone(&workload.service_account), called);
        proven.held.get(&key).is_some_and(|before| !is_anothers(before, &owner(world, called)))
    }

    fn proven(&self) -> std::sync::MutexGuard<'_, Remembered> {
        self.proven.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// INVARIANT: a registry that is not there, or proves nothing any more, says of nobody that they are gone.
fn forget_gone(held: &mut HashMap<Proven, Owner>, world: &World) {
    let registry = world.registry();
    if registry.is_doubted() || registry.workloads.is_empty() || world.is_closed() || world.is_sealed() {
        return;
    }
    let accounts: HashSet<(&str, &str)> =
        registry.workloads.iter().map(|held| (&*held.namespace, &*held.service_account)).collect();
    held.retain(|(namespace, account, called), before| {
        let now = owner(world, *called);
        let is_there = before.is_none() || now.is_some() || registry.is_contested(*called);
        accounts.contains(&(&**namespace, &**account)) && is_there && !is_anothers(before, &now)
    });
}

fn is_anothers(before: &Owner, now: &Owner) -> bool {
    before.as_ref().zip(now.as_ref()).is_some_and(|(before, now)| before != now)
}

fn owner(world: &World, called: IpAddr) -> Owner {
    let registry = world.registry();
    match world.destination(called).place {
        Place::Workload(id) => registry.workload(id).map(|held| (Arc::clone(&held.namespace), Arc::clone(&held.name))),
        _ => {
            let service = registry.service_at(called).and_then(|id| registry.service(id));
            service.map(|held| (Arc::clone(&held.namespace), Arc::clone(&held.name)))
        }
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

    fn world(workloads: &str, number: u64) -> World {
        let compiled = dialect::compile(&source::parse("p.yaml", &Arc::from("")));
        World::new(compiled.model, Arc::new(Registry::parse("w.yaml", &Arc::from(workloads)).0), number)
    }

    #[test]
    fn a_proof_is_asked_for_again_by_whom_it_was_given_to() {
        let world = world(WORKLOADS, 1);
        let [first, _, other, ..] = world.registry().workloads.as_slice() else { panic!() };
        let (a, b) = (IpAddr::from([10, 0, 1, 1]), IpAddr::from([10, 0, 1, 2]));
        let agreement = Agreement::default();
        assert!(!agreement.is_downgrade(&world, first, a));
        agreement.has_proven(&world, first, a);
        assert!(agreement.is_downgrade(&world, first, a));
        assert!(!agreement.is_downgrade(&world, first, b) && !agreement.is_downgrade(&world, other, a));
        let lenient = Agreement::new(Vec::new(), true);
        lenient.has_proven(&world, first, a);
        assert!(!lenient.is_downgrade(&world, first, a));
    }

    const CALLER: &str = "- {name: web-1, namespace: shop, serviceAccount: web, ips: [10.0.0.1]}\n";

    fn called(number: usize) -> IpAddr {
        let [.., high, low] = u32::try_from(number).unwrap().to_be_bytes();
        IpAddr::from([10, 1, high, low])
    }

    #[test]
    fn addresses_that_come_and_go_are_forgotten_and_others_never() {
        let serving = |range: std::ops::Range<usize>, account: &str| {
            let entry = |number: usize| {
                format!(
                    "- {{name: {account}-{number}, namespace: shop, serviceAccount: {account}, ips: [{}]}}\n",
                    called(number)
                )
            };
            let number = range.start as u64 + 1;
            world(&(CALLER.to_owned() + &range.map(entry).collect::<String>()), number)
        };
        let agreement = Agreement::default();
        let count = || agreement.proven().held.len();
        let prove = |world: &World, range: std::ops::Range<usize>| {
            range.for_each(|number| agreement.has_proven(world, &world.registry().workloads[0], called(number)));
        };
        let is_held =
            |world: &World, number| agreement.is_downgrade(world, &world.registry().workloads[0], called(number));
        // A hundred pods that are there at a time, one generation after the other.
        for from in (0..20_000).step_by(100) {
            prove(&serving(from..from + 100, "a"), from..from + 100);
            assert!(count() <= 2 * ASKED_LEAST, "{}", count());
        }
        let last = serving(19_900..20_000, "a");
        assert!((19_900..20_000).all(|number| is_held(&last, number)), "whoever is there is remembered");
        // An address that is another's now.
        let other = serving(19_900..20_000, "b");
        assert!(!is_held(&other, 19_900));
        assert!(is_held(&last, 19_900), "who asks does not forget");
        // Nobody says that they are gone.
        let many = serving(0..5_000, "a");
        prove(&many, 0..5_000);
        let before = count();
        let doubted = many.with_registry(Arc::new(many.registry().doubted(None)), 2);
        for silent in [doubted, World::sealed(2), World::closed(Arc::default(), 2)] {
            let mut held = agreement.proven().held.clone();
            forget_gone(&mut held, &silent);
            assert_eq!(held.len(), before);
        }
        assert!(is_held(&many, 0) && is_held(&many, 4_999));
        // The caller's account is nobody's any more.
        let mut held = agreement.proven().held.clone();
        forget_gone(&mut held, &world("- {name: x, namespace: shop, serviceAccount: x, ips: [10.1.0.1]}\n", 9));
        assert!(held.is_empty());
    }
}
