//! Node mode: keeps listeners and rules of every pod in line with the world in force, on a thread of its own.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use eastwall_policy::facts::Direction;
use eastwall_policy::registry::Workload;
use eastwall_policy::world::World;

use super::bypass::Bypassed;
use crate::admin::{Lifecycle, Unserved};
use crate::cni::{Bounds, Door};
use crate::config::Config;
use crate::connection::now;
use crate::identity::{Account, Pods, Served};
use crate::intercept::rules::Counts;
use crate::intercept::{Listeners, Node};
use crate::observe::{Alert, AlertKind, Recorder};
use crate::policy::Live;

/// How soon a pod that could not be served is tried again, and a namespace that appeared meanwhile is found.
const AGAIN: Duration = Duration::from_secs(1);

/// Every so many looks the counters of the rules are read, which costs a run of `nft` a pod.
const LOOKS_PER_COUNT: u32 = 2;

/// Serves the pods that are there now, and goes on doing so.
pub(super) fn serve(
    node: Arc<Node>,
    live: Arc<Live>,
    recorder: Recorder,
    lifecycle: Arc<Lifecycle>,
) -> io::Result<Listeners> {
    // The rules are none of the connections that the time of a swap is measured by.
    let mut swaps = live.swaps();
    let world = live.load();
    reconcile(&node, &world, &recorder, &lifecycle);
    let listeners = node.listeners().clone();
    let mut spoofed = BTreeMap::new();
    let mut bypassed = Bypassed::default();
    alert_on_spoofing(&node.counts(), &mut spoofed, &world, &recorder);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("pods".into()).spawn(move || {
        for look in (0..LOOKS_PER_COUNT).cycle() {
            // A swap, or the next try.
            let _ = runtime.block_on(async { tokio::time::timeout(AGAIN, swaps.changed()).await });
            // Loaded once: a swap in between is then one more look, not one that is missed.
            let world = live.load();
            reconcile(&node, &world, &recorder, &lifecycle);
            if look == 0 {
                let counts = node.counts();
                bypassed.tell(&counts, &recorder);
                alert_on_spoofing(&counts, &mut spoofed, &world, &recorder);
            }
        }
    })?;
    Ok(listeners)
}

/// Whose identities are needed here.
pub(super) fn served(node: Arc<Node>, live: Arc<Live>) -> Pods {
    let changed = live.swaps();
    let served = move || {
        let world = live.load();
        let trust_domain = world.model().settings.trust_domain.to_string();
        let account = |workload: &Workload| Account {
            namespace: Arc::clone(&workload.namespace),
            name: Arc::clone(&workload.service_account),
            spiffe_id: workload.spiffe_id(&trust_domain),
        };
        let accounts = node.workloads(&world).into_iter().filter_map(|id| world.registry().workload(id)).map(account);
        Served { accounts: accounts.collect(), trust_domain }
    };
    Pods { changed, served: Box::new(served) }
}

/// Where the CNI plugin hands over pods from now on, if it is to; those that the process before was handed are taken.
pub(super) fn door(config: &Config, node: Option<&Arc<Node>>, live: &Arc<Live>) -> io::Result<Option<Arc<Door>>> {
    let Some((cni, node)) = config.cni.as_ref().zip(node) else { return Ok(None) };
    node.remember_again()?;
    let door = Door::open(&cni.socket, Arc::clone(node), Arc::clone(live), Bounds::default())?;
    tracing::info!(socket = %cni.socket.display(), state = %cni.state.display(), "the CNI plugin may hand over pods");
    Ok(Some(Arc::new(door)))
}

fn reconcile(node: &Node, world: &World, recorder: &Recorder, lifecycle: &Lifecycle) {
    let failures = node.reconcile(world, now());
    let unserved = failures.into_iter().map(|failure| (failure.pod, failure.error.to_string())).collect();
    tell(&unserved, recorder, lifecycle);
}

/// Readiness and the gauge at every look, the log when something has changed.
fn tell(unserved: &Unserved, recorder: &Recorder, lifecycle: &Lifecycle) {
    recorder.metrics().set_pods_unserved(unserved.len());
    let before = lifecycle.unserved_are(unserved.clone());
    for (pod, error) in unserved {
        if before.get(pod) != Some(error) {
            tracing::error!(%pod, error, "cannot serve a pod: not ready until it is served");
        }
    }
    for pod in before.keys().filter(|pod| !unserved.contains_key(*pod)) {
        tracing::info!(%pod, "the pod is served, or gone");
    }
}

/// One alert a pod and period. What was counted before the process started is nobody's news.
fn alert_on_spoofing(
    pods: &[(Arc<str>, Counts)],
    seen: &mut BTreeMap<Arc<str>, u64>,
    world: &World,
    recorder: &Recorder,
) {
    for (pod, counts) in pods {
        let total =
            ["spoofed", "spoofed_at_device"].iter().filter_map(|name| counts.get(*name)).map(|c| c.packets).sum();
        let before = seen.insert(Arc::clone(pod), total).unwrap_or(total);
        if total <= before {
            continue;
        }
        let id = pod.split_once('/').and_then(|(namespace, name)| world.registry().find_workload(namespace, name));
        let own = id.and_then(|id| world.registry().workload(id)?.ips.first().copied());
        recorder.alert(&Alert {
            kind: AlertKind::SpoofedSource,
            world,
            direction: Direction::Outbound,
            source: SocketAddr::new(own.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), 0),
            destination: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
            source_workload: id,
            destination_workload: None,
            decision_id: None,
            detail: "packets with a source address that is not the pod's were dropped in its namespace",
            evidence: pod.as_bytes(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Destination;

    #[test]
    fn who_is_not_served_is_counted_until_served() {
        let (recorder, _writer) = Recorder::start(Destination::Off).unwrap();
        let lifecycle = Lifecycle::new(None, None);
        for names in [&["shop/a", "shop/b"][..], &["shop/b"], &[]] {
            let unserved: Unserved = names.iter().map(|name| (Arc::from(*name), "no namespace".to_owned())).collect();
            tell(&unserved, &recorder, &lifecycle);
            let line = format!("eastwall_pods_unserved {}\n", names.len());
            assert!(recorder.metrics().render().unwrap().contains(&line), "{line}");
            assert_eq!(lifecycle.unserved_are(unserved.clone()), unserved);
        }
    }
}
