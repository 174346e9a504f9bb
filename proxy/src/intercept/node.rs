//! The pods of one node: their namespaces are entered, closed, listened in, and left again as the registry says.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use eastwall_policy::registry::{Workload, WorkloadId};
use eastwall_policy::world::World;

use super::install::{self, InstallError, Plan};
use super::listener::{self, Listening, Pod};
use super::rules::{Bypass, Counts, Exclusion, Family, Ports, Ruleset};
use super::{Inherited, Listeners, Namespace, admission};

/// What holds for every pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeSetup {
    /// Only workloads of this node; `None`: every workload with a namespace.
    pub(crate) node: Option<Arc<str>>,
    /// Uid of the proxy.
    pub(crate) uid: u32,
    /// Listeners in each pod.
    pub(crate) ports: Ports,
    /// IP versions.
    pub(crate) family: Family,
    /// What is not redirected.
    pub(crate) bypass: Bypass,
}

/// Serves the pods of one node.
#[derive(Debug)]
pub(crate) struct Node {
    setup: NodeSetup,
    listeners: Listeners,
    pods: Mutex<BTreeMap<Arc<str>, Served>>,
    handed: Arc<Inherited>,
}

/// A pod that could not be served. Its traffic is refused if its rules could be applied, and nobody's business if its
/// namespace could not even be entered.
#[derive(Debug)]
pub(crate) struct PodFailure {
    /// `namespace/name`.
    pub(crate) pod: Arc<str>,
    /// Why.
    pub(crate) error: InstallError,
}

#[derive(Debug)]
struct Served {
    pod: Arc<Pod>,
    plan: Plan,
    listening: Vec<Arc<Listening>>,
}

impl Node {
    /// Serves nobody until the first [`Self::reconcile`].
    pub(crate) fn new(setup: NodeSetup, handed: Inherited) -> Self {
        Self { setup, listeners: Listeners::none(), pods: Mutex::default(), handed: Arc::new(handed) }
    }

    /// Where workers accept from.
    pub(crate) fn listeners(&self) -> &Listeners {
        &self.listeners
    }

    /// Brings every pod in line with a world: after each swap, expiry and change of the registry. Blocking; not for a
    /// worker. A pod that has left keeps its rules, so that it stays closed for as long as its namespace lives;
    /// `eastwall redirect delete` opens it. Whoever failed is tried again by the next call.
    pub(crate) fn reconcile(&self, world: &World, now: i64) -> Vec<PodFailure> {
        let mut pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        if self.listeners.is_closed() {
            pods.clear();
            return Vec::new();
        }
        let mut before = std::mem::take(&mut *pods);
        let mut failures = Vec::new();
        let mut taken = HashSet::new();
        for (id, workload, path) in members(world, self.setup.node.as_deref()) {
            let name: Arc<str> = format!("{}/{}", workload.namespace, workload.name).into();
            let held = before.remove(&name).filter(|served| served.plan.namespace.is_still_at_its_path());
            let outcome = match held {
                // Two entries for one namespace: whose addresses would be its own?
                Some(served) if taken.contains(&served.plan.namespace.identity()) => (None, Some(InstallError::Taken)),
                Some(served) => self.update(served, world, id, workload, now),
                None => {
                    match enter(path, &taken).and_then(|inside| self.open(&name, world, id, workload, &inside, now)) {
                        Ok(served) => (Some(served), None),
                        Err(error) => (None, Some(error)),
                    }
                }
            };
            if let Some(served) = outcome.0 {
                taken.insert(served.plan.namespace.identity());
                pods.insert(Arc::clone(&name), served);
            }
            failures.extend(outcome.1.map(|error| PodFailure { pod: name, error }));
        }
        self.listeners.replace(pods.values().flat_map(|served| served.listening.iter().cloned()).collect());
        failures
    }

    /// The named counters of every pod, for what bypasses the proxy.
    pub(crate) fn counts(&self) -> Vec<(Arc<str>, Counts)> {
        let namespaces: Vec<(Arc<str>, Arc<Namespace>)> = {
            let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
            pods.iter().map(|(name, served)| (Arc::clone(name), Arc::clone(&served.plan.namespace))).collect()
        };
        namespaces.into_iter().filter_map(|(name, namespace)| Some((name, install::counts(&namespace).ok()?))).collect()
    }

    /// Closed first, then listened in.
    fn open(
        &self,
        name: &Arc<str>,
        world: &World,
        id: WorkloadId,
        workload: &Workload,
        namespace: &Arc<Namespace>,
        now: i64,
    ) -> Result<Served, InstallError> {
        let plan = plan(&self.setup, world, id, workload, Arc::clone(namespace), now)?;
        install::apply(std::slice::from_ref(&plan))?;
        let addresses = ArcSwap::from_pointee(workload.ips.clone());
        let pod = Arc::new(Pod { name: Arc::clone(name), addresses, namespace: Arc::clone(namespace) });
        let (ports, family, of) = (self.setup.ports, self.setup.family, Arc::clone(&pod));
        let handed = Arc::clone(&self.handed);
        let listening = namespace.run_blocking(move || listener::of_pod(ports, family, &of, &handed))??;
        Ok(Served { pod, plan, listening })
    }

    /// What cannot be updated goes on as it was, and is reported: every connection is judged by the live table anyway.
    fn update(
        &self,
        mut served: Served,
        world: &World,
        id: WorkloadId,
        workload: &Workload,
        now: i64,
    ) -> (Option<Served>, Option<InstallError>) {
        served.pod.addresses.store(Arc::new(workload.ips.clone()));
        let namespace = Arc::clone(&served.plan.namespace);
        let error = match plan(&self.setup, world, id, workload, namespace, now) {
            Ok(plan) if plan.ruleset == served.plan.ruleset => None,
            Ok(plan) => install::apply(std::slice::from_ref(&plan)).map(|()| served.plan = plan).err(),
            Err(error) => Some(error),
        };
        (Some(served), error)
    }
}

fn enter(path: &Path, taken: &HashSet<(u64, u64)>) -> Result<Arc<Namespace>, InstallError> {
    let namespace = Namespace::enter(path)?;
    if taken.contains(&namespace.identity()) { Err(InstallError::Taken) } else { Ok(Arc::new(namespace)) }
}

/// The workloads that a node proxy serves, with the path of their namespace.
pub(crate) fn members<'w>(
    world: &'w World,
    node: Option<&str>,
) -> impl Iterator<Item = (WorkloadId, &'w Workload, &'w Path)> {
    let numbered = (0u32..).map(WorkloadId).zip(&world.registry().workloads);
    numbered.filter_map(move |(id, workload)| {
        let path = workload.netns.as_deref().map(Path::new)?;
        let here = node.is_none_or(|node| workload.node.as_deref() == Some(node));
        (here && !workload.host_network).then_some((id, workload, path))
    })
}

/// The rules of one pod.
pub(crate) fn plan(
    setup: &NodeSetup,
    world: &World,
    id: WorkloadId,
    workload: &Workload,
    namespace: Arc<Namespace>,
    now: i64,
) -> Result<Plan, InstallError> {
    let devices = install::devices(&namespace)?;
    let ruleset = Ruleset {
        uid: setup.uid,
        ports: setup.ports,
        family: setup.family,
        bypass: setup.bypass.clone(),
        exclusion: Exclusion::Marked { addresses: workload.ips.clone(), devices },
        unproxied: admission::unproxied(world, id, now),
    };
    Ok(Plan { namespace, ruleset })
}
