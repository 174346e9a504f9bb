//! Tells of emergencies: as long as one lasts, once a minute, so that nobody forgets it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use eastwall_policy::facts::Direction;
use eastwall_policy::model::PolicyName;
use tokio::time::Instant;

use super::Live;
use crate::connection::now;
use crate::observe::{Alert, AlertKind, Recorder};

/// From one alert of an emergency to the next.
const PERIOD: Duration = Duration::from_secs(60);

/// Tells for as long as the process lives.
pub(crate) async fn tell(live: Arc<Live>, recorder: Recorder) {
    let mut swaps = live.swaps();
    let mut told: BTreeMap<PolicyName, Instant> = BTreeMap::new();
    loop {
        let world = live.load();
        let acting: Vec<_> = world.model().break_glass.iter().filter(|glass| glass.acts(now())).collect();
        told.retain(|name, _| acting.iter().any(|glass| glass.name == *name));
        let mut opened = 0;
        for glass in acting {
            let workloads =
                world.registry().workloads.iter().filter(|workload| glass.subject.selects(workload)).count();
            opened += workloads;
            if told.get(&glass.name).is_some_and(|last| last.elapsed() < PERIOD) {
                continue;
            }
            told.insert(glass.name.clone(), Instant::now());
            let nowhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
            tracing::error!(name = %glass.name, reason = %glass.reason, workloads, location = %glass.location, "AN EMERGENCY OPENS WHAT POLICIES CLOSE");
            recorder.alert(&Alert {
                kind: AlertKind::BreakGlass,
                world: &world,
                direction: Direction::Inbound,
                source: nowhere,
                destination: nowhere,
                source_workload: None,
                destination_workload: None,
                decision_id: None,
                detail: "an emergency opens what policies close; the evidence is its name and its reason",
                evidence: format!("{}: {}", glass.name, glass.reason).as_bytes(),
            });
        }
        recorder.metrics().set_break_glass(opened);
        // The next alert, the begin of one that is known, or a swap.
        let _ = tokio::time::timeout(TICK, swaps.changed()).await;
    }
}

/// How late a begin or an alert may be.
const TICK: Duration = Duration::from_secs(1);
