//! The runtime's side of a node: pods are handed over, taken back and asked after.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use eastwall_policy::world::World;

use super::super::Namespace;
use super::super::handed::{self, Handed, HandedPod};
use super::super::install::{self, InstallError};
use super::{Member, Node, PodFailure, Pods, Served, members, plan};

/// Why a pod that the runtime hands over is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandError {
    /// This process ends, or another takes over.
    #[error("this proxy is about to end: try again")]
    Leaving,
    /// Rules in it would be the node's.
    #[error("this is the network namespace of the node proxy itself, no pod's")]
    NodesOwn,
    /// The registry says something else.
    #[error("the registry gives this pod another network namespace, `{0}`")]
    Elsewhere(String),
    /// It would be forgotten with this process.
    #[error("cannot write down which pods were handed over: {0}")]
    Unkept(io::Error),
    /// Nobody has handed it over, or with another namespace.
    #[error("no such pod was handed over with this network namespace")]
    Unknown,
    /// It is closed.
    #[error("the rules or listeners of the pod are not in place")]
    Unserved,
    /// Its namespace cannot be entered or closed, or is another pod's.
    #[error(transparent)]
    Install(#[from] InstallError),
}

impl Node {
    /// Keeps the pods that are handed over in this file, and takes those that it holds.
    pub(crate) fn remember(&self, file: &Path) -> io::Result<()> {
        self.pods().handed = Handed::load(file)?;
        Ok(())
    }

    /// Takes what another process has added to the file since, and writes it from now on.
    pub(crate) fn remember_again(&self) -> io::Result<()> {
        let mut pods = self.pods();
        pods.handed.read_again()?;
        pods.handed.save()
    }

    /// From here on the next process is handed the pods. What is being added now is in the file when this returns.
    pub(crate) fn retire(&self) {
        self.pods().retired = true;
    }

    /// Closes the namespace of a pod that the runtime hands over, and listens in it, before this returns; who does not
    /// know it yet refuses its traffic. `Ok(true)`: it is exempt, and nothing was done. Blocking, as [`Self::reconcile`].
    pub(crate) fn add(&self, mut pod: HandedPod, world: &World, now: i64) -> Result<bool, HandError> {
        let mut pods = self.pods();
        let Pods { served, handed, left, retired } = &mut *pods;
        if *retired || self.listeners.is_closed() {
            return Err(HandError::Leaving);
        }
        handed.drop_gone();
        served.retain(|_, served| served.plan.namespace.is_at_its_path());
        let name = pod.full_name();
        let namespace = Arc::new(Namespace::enter(&pod.netns).map_err(InstallError::from)?);
        pod.identity = namespace.identity();
        if Namespace::current().map_err(InstallError::from)?.identity() == pod.identity {
            return Err(HandError::NodesOwn);
        }
        let others = served.iter().filter(|(other, _)| **other != name);
        let by_others = others.map(|(_, served)| served.plan.namespace.identity()).any(|held| held == pod.identity);
        if by_others || handed.owner_of(pod.identity).is_some_and(|owner| *owner != name) {
            return Err(InstallError::Taken.into());
        }
        let registered = world.registry().find_workload(&pod.namespace, &pod.name);
        let workload = registered.and_then(|id| world.registry().workload(id));
        if let Some(path) =
            workload.and_then(|workload| workload.netns.as_deref()).filter(|path| !namespace.is_at(Path::new(path)))
        {
            return Err(HandError::Elsewhere(path.to_owned()));
        }
        pod.exempt = handed::exemption(world.registry(), &pod.namespace).unwrap_or(false);
        let exempt = pod.exempt;
        let held = served.remove(&name).filter(|served| served.plan.namespace.identity() == pod.identity);
        let before = handed.remove(&name);
        let has_sidecar = handed::has_sidecar(world.registry(), &pod);
        let closed = if has_sidecar && !exempt { Some(self.close(&pod, &namespace, world, now)) } else { None };
        handed.insert(pod);
        let outcome = match (before.is_some(), closed) {
            (_, Some(Ok(()))) => {
                left.insert(Arc::clone(&name), namespace.identity());
                Ok(None)
            }
            (_, Some(Err(error))) => Err(error.into()),
            // It was served before it was exempt.
            (true, None) if exempt && !has_sidecar => {
                install::delete(&[Arc::clone(&namespace)]).map(|()| None).map_err(HandError::from)
            }
            _ => self.take_in(&name, handed, held, &namespace, world, now),
        };
        match outcome.and_then(|taken| handed.save().map(|()| taken).map_err(HandError::Unkept)) {
            Ok(taken) => {
                served.extend(taken.map(|taken| (name, taken)));
                self.listen(served);
                Ok(exempt)
            }
            Err(error) => {
                handed.remove(&name);
                // The same as before, or another: whichever is still there.
                before.filter(HandedPod::is_there).into_iter().for_each(|pod| handed.insert(pod));
                self.listen(served);
                Err(error)
            }
        }
    }

    /// The pod of this name, served in its new namespace; nobody if it is exempt.
    fn take_in(
        &self,
        name: &str,
        handed: &Handed,
        held: Option<Served>,
        namespace: &Arc<Namespace>,
        world: &World,
        now: i64,
    ) -> Result<Option<Served>, HandError> {
        let all = members(world, self.setup.node.as_deref(), handed);
        let Some(member) = all.into_iter().find(|member| *member.name == *name) else { return Ok(None) };
        match held.map(|served| self.update(served, world, &member, now)) {
            Some((served, None)) => Ok(served),
            Some((_, Some(error))) => Err(error.into()),
            None => Ok(Some(self.open(world, &member, namespace, now)?)),
        }
    }

    /// Lets go of pods that have a sidecar of their own. Their rules stay until those of the sidecar replace them: who only says
    /// that he has one is closed.
    pub(super) fn leave_to_sidecars(
        &self,
        served: &mut BTreeMap<Arc<str>, Served>,
        handed: &Handed,
        left: &mut BTreeMap<Arc<str>, (u64, u64)>,
        (world, now): (&World, i64),
        failures: &mut Vec<PodFailure>,
    ) {
        let all = handed.iter().filter(|(_, pod)| !pod.exempt && handed::has_sidecar(world.registry(), pod));
        let all: Vec<(&Arc<str>, &HandedPod)> = all.collect();
        left.retain(|name, identity| all.iter().any(|(held, pod)| *held == name && pod.identity == *identity));
        for (name, pod) in all {
            let was_served = served.remove(name).is_some_and(|one| one.plan.namespace.identity() == pod.identity);
            if left.contains_key(name) {
                continue;
            }
            let namespace = || Namespace::enter(&pod.netns).map(Arc::new).map_err(InstallError::from);
            let close = || namespace().and_then(|namespace| self.close(pod, &namespace, world, now));
            match if was_served { Ok(()) } else { close() } {
                Ok(()) => {
                    left.insert(Arc::clone(name), pod.identity);
                }
                Err(error) => failures.push(PodFailure { pod: Arc::clone(name), error }),
            }
        }
    }

    /// Closes a namespace in which nobody listens, unless it has rules: those of its sidecar may be there already.
    fn close(&self, pod: &HandedPod, namespace: &Arc<Namespace>, world: &World, now: i64) -> Result<(), InstallError> {
        if !install::counts(namespace)?.is_empty() {
            return Ok(());
        }
        let member = Member { name: pod.full_name(), workload: None, addresses: &pod.ips, path: &pod.netns };
        install::apply(&[plan(&self.setup, world, &member, Arc::clone(namespace), now)?])
    }

    /// Forgets a pod that the runtime takes down; its rules stay, and so it is closed for as long as its namespace lives. A
    /// pod of the same name with another namespace, or another uid, stays.
    pub(crate) fn forget(&self, name: &str, uid: Option<&str>, netns: Option<&Path>) -> Result<(), HandError> {
        let mut pods = self.pods();
        let Pods { served, handed, retired, .. } = &mut *pods;
        if *retired {
            return Err(HandError::Leaving);
        }
        let is_meant = |pod: &HandedPod| {
            let other = uid.is_some_and(|uid| pod.uid.as_deref().is_some_and(|held| held != uid));
            !other && netns.map_or(!pod.is_there(), |netns| *netns == *pod.netns)
        };
        if handed.get(name).is_some_and(is_meant) {
            let pod = handed.remove(name);
            let identity = pod.map(|pod| pod.identity);
            served.retain(|held, served| **held != *name || Some(served.plan.namespace.identity()) != identity);
            self.listen(served);
            handed.save().map_err(HandError::Unkept)?;
        }
        Ok(())
    }

    /// Whether a pod is served in this namespace, with its rules in place. `Ok(true)`: it is exempt.
    pub(crate) fn check(&self, name: &str, netns: &Path) -> Result<bool, HandError> {
        let namespace = {
            let pods = self.pods();
            let handed = pods.handed.get(name).ok_or(HandError::Unknown)?;
            if handed.netns != netns || !handed.is_there() {
                return Err(HandError::Unknown);
            }
            if handed.exempt {
                return Ok(true);
            }
            match pods.served.get(name) {
                Some(served) => Arc::clone(&served.plan.namespace),
                None if pods.left.get(name) == Some(&handed.identity) => {
                    Arc::new(Namespace::enter(netns).map_err(InstallError::from)?)
                }
                None => return Err(HandError::Unserved),
            }
        };
        if install::counts(&namespace)?.is_empty() { Err(HandError::Unserved) } else { Ok(false) }
    }
}

/// Opens the pods of namespaces that have become exempt; the others are closed by whoever serves them. Whether anything
/// has changed.
pub(super) fn follow_exemptions(handed: &mut Handed, world: &World, failures: &mut Vec<PodFailure>) -> bool {
    let mut any = false;
    for (name, exempt) in handed.changed_exemptions(world.registry()) {
        // The rules are those of its sidecar.
        let is_ours = |pod: &&HandedPod| exempt && !handed::has_sidecar(world.registry(), pod);
        let Some(pod) = handed.get(&name).filter(is_ours) else {
            handed.set_exempt(&name, exempt);
            any = true;
            continue;
        };
        let opened = Namespace::enter(&pod.netns).map_err(InstallError::from);
        match opened.and_then(|namespace| install::delete(&[Arc::new(namespace)])) {
            Ok(()) => {
                handed.set_exempt(&name, exempt);
                any = true;
            }
            Err(error) => failures.push(PodFailure { pod: name, error }),
        }
    }
    any
}
