//! The pods of one node: their namespaces are entered, closed, listened in, and left again as the registry says.

mod handing;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use eastwall_policy::registry::{Workload, WorkloadId};
use eastwall_policy::world::World;
use tokio::sync::watch;

pub(crate) use handing::HandError;

use super::handed::{Handed, has_sidecar};
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
    pods: Mutex<Pods>,
    inherited: Inherited,
    captured: Captured,
}

/// The pods (`namespace/name`) that have their rules and are listened in; whoever follows it is told of each change.
pub(crate) type Captured = watch::Sender<BTreeSet<Arc<str>>>;

#[derive(Debug, Default)]
struct Pods {
    served: BTreeMap<Arc<str>, Served>,
    handed: Handed,
    /// Pods with a sidecar of their own, each with the namespace that was closed before the sidecar came.
    left: BTreeMap<Arc<str>, (u64, u64)>,
    /// The next process has them: nothing is added here any more.
    retired: bool,
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
    pub(crate) fn new(setup: NodeSetup, inherited: Inherited, captured: Captured) -> Self {
        Self { setup, listeners: Listeners::none(), pods: Mutex::default(), inherited, captured }
    }

    /// Where workers accept from.
    pub(crate) fn listeners(&self) -> &Listeners {
        &self.listeners
    }

    fn pods(&self) -> MutexGuard<'_, Pods> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The registered workloads that it serves, or is about to.
    pub(crate) fn workloads(&self, world: &World) -> Vec<WorkloadId> {
        let pods = self.pods();
        let members = members(world, self.setup.node.as_deref(), &pods.handed);
        members.into_iter().filter_map(|member| member.workload).collect()
    }

    /// Brings every pod in line with a world: after each swap, expiry and change of the registry. Blocking; not for a
    /// worker. A pod that has left keeps its rules, so that it stays closed for as long as its namespace lives;
    /// `eastwall redirect delete` opens it. Whoever failed is tried again by the next call.
    pub(crate) fn reconcile(&self, world: &World, now: i64) -> Vec<PodFailure> {
        let mut pods = self.pods();
        let Pods { served: pods, handed, left, retired } = &mut *pods;
        if self.listeners.is_closed() {
            pods.clear();
            return Vec::new();
        }
        let mut failures = Vec::new();
        let gone = handed.drop_gone();
        let exempted = handing::follow_exemptions(handed, world, &mut failures);
        if (gone || exempted)
            && !*retired
            && let Err(error) = handed.save()
        {
            tracing::warn!(%error, "cannot write down which pods were handed over");
        }
        self.leave_to_sidecars(pods, handed, left, (world, now), &mut failures);
        let mut before = std::mem::take(pods);
        let mut taken = HashSet::new();
        for member in members(world, self.setup.node.as_deref(), handed) {
            let held = before.remove(&member.name).filter(|served| served.plan.namespace.is_at(member.path));
            let outcome = match held {
                // Two entries for one namespace: whose addresses would be its own?
                Some(served) if taken.contains(&served.plan.namespace.identity()) => (None, Some(InstallError::Taken)),
                Some(served) => self.update(served, world, &member, now),
                None => match enter(member.path, &taken).and_then(|inside| self.open(world, &member, &inside, now)) {
                    Ok(served) => (Some(served), None),
                    Err(error) => (None, Some(error)),
                },
            };
            if let Some(served) = outcome.0 {
                taken.insert(served.plan.namespace.identity());
                pods.insert(Arc::clone(&member.name), served);
            }
            failures.extend(outcome.1.map(|error| PodFailure { pod: member.name, error }));
        }
        self.listen(pods);
        failures
    }

    fn listen(&self, pods: &BTreeMap<Arc<str>, Served>) {
        self.listeners.replace(pods.values().flat_map(|served| served.listening.iter().cloned()).collect());
        self.captured.send_if_modified(|captured| {
            let differs = !captured.iter().eq(pods.keys());
            *captured = pods.keys().cloned().collect();
            differs
        });
    }

    /// The named counters of every pod, for what bypasses the proxy.
    pub(crate) fn counts(&self) -> Vec<(Arc<str>, Counts)> {
        let namespaces: Vec<(Arc<str>, Arc<Namespace>)> = {
            let pods = self.pods();
            pods.served.iter().map(|(name, served)| (Arc::clone(name), Arc::clone(&served.plan.namespace))).collect()
        };
        namespaces.into_iter().filter_map(|(name, namespace)| Some((name, install::counts(&namespace).ok()?))).collect()
    }

    /// Closed first, then listened in.
    fn open(
        &self,
        world: &World,
        member: &Member<'_>,
        namespace: &Arc<Namespace>,
        now: i64,
    ) -> Result<Served, InstallError> {
        let plan = plan(&self.setup, world, member, Arc::clone(namespace), now)?;
        install::apply(std::slice::from_ref(&plan))?;
        let addresses = ArcSwap::from_pointee(member.addresses.to_vec());
        let pod = Arc::new(Pod { name: Arc::clone(&member.name), addresses, namespace: Arc::clone(namespace) });
        let (ports, family, of) = (self.setup.ports, self.setup.family, Arc::clone(&pod));
        let inherited = self.inherited.clone();
        let listening = namespace.run_blocking(move || listener::of_pod(ports, family, &of, &inherited))??;
        Ok(Served { pod, plan, listening })
    }

    /// What cannot be updated goes on as it was, and is reported: every connection is judged by the live table anyway.
    fn update(
        &self,
        mut served: Served,
        world: &World,
        member: &Member<'_>,
        now: i64,
    ) -> (Option<Served>, Option<InstallError>) {
        served.pod.addresses.store(Arc::new(member.addresses.to_vec()));
        let namespace = Arc::clone(&served.plan.namespace);
        let error = match plan(&self.setup, world, member, namespace, now) {
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

/// A pod to be served.
#[derive(Debug)]
pub(crate) struct Member<'a> {
    /// `namespace/name`.
    pub(crate) name: Arc<str>,
    /// Its entry of the registry; `None`: it was handed over, and nobody knows it yet.
    pub(crate) workload: Option<WorkloadId>,
    /// The addresses that it owns.
    pub(crate) addresses: &'a [IpAddr],
    /// Path of its namespace.
    pub(crate) path: &'a Path,
}

/// The workloads of the registry that have a namespace, and the pods that were handed over and have no sidecar. Where both name one for the
/// same pod, that of the registry counts.
pub(crate) fn members<'a>(world: &'a World, node: Option<&str>, handed: &'a Handed) -> Vec<Member<'a>> {
    let registry = world.registry();
    let is_here =
        |workload: &Workload| !workload.host_network && node.is_none_or(|node| workload.node.as_deref() == Some(node));
    let numbered = (0u32..).map(WorkloadId).zip(&registry.workloads);
    let mut members: Vec<_> = numbered
        .filter_map(|(id, workload)| {
            let path = workload.netns.as_deref().map(Path::new).filter(|_| is_here(workload))?;
            let name = format!("{}/{}", workload.namespace, workload.name).into();
            Some(Member { name, workload: Some(id), addresses: &workload.ips, path })
        })
        .collect();
    for (name, pod) in handed.iter().filter(|(_, pod)| !pod.exempt && !has_sidecar(registry, pod)) {
        let id = registry.find_workload(&pod.namespace, &pod.name);
        let known = id.and_then(|id| Some((id, registry.workload(id).filter(|workload| is_here(workload))?)));
        let (workload, addresses) = match known {
            Some((_, workload)) if workload.netns.is_some() => continue,
            Some((id, workload)) if workload.ips.is_empty() => (Some(id), &pod.ips),
            Some((id, workload)) => (Some(id), &workload.ips),
            None => (None, &pod.ips),
        };
        members.push(Member { name: Arc::clone(name), workload, addresses, path: &pod.netns });
    }
    members
}

/// The rules of one pod.
pub(crate) fn plan(
    setup: &NodeSetup,
    world: &World,
    member: &Member<'_>,
    namespace: Arc<Namespace>,
    now: i64,
) -> Result<Plan, InstallError> {
    let devices = install::devices(&namespace)?;
    let ruleset = Ruleset {
        uid: setup.uid,
        ports: setup.ports,
        family: setup.family,
        bypass: setup.bypass.clone(),
        exclusion: Exclusion::Marked { addresses: member.addresses.to_vec(), devices },
        unproxied: member.workload.map(|id| admission::unproxied(world, id, now)).unwrap_or_default(),
    };
    Ok(Plan { namespace, ruleset })
}
