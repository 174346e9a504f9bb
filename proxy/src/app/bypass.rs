//! Reads, now and then, what the kernel counted of traffic that bypasses the proxy, and passes it on as a metric.
//!
//! In node mode the proxy enters each pod's namespace anyway. A sidecar that runs without capabilities may not read the
//! counters: it says so once, and the metric stays 0.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::intercept::rules::Counts;
use crate::intercept::{Namespace, install};
use crate::observe::Recorder;

/// What passes without the proxy: exceptions, and what it does not carry (UDP and the like, which a set of the table's
/// own admits).
const UNEVALUATED: [&str; 4] = ["bypass_in", "bypass_out", "unproxied_in_passed", "unproxied_out_passed"];

/// How often a sidecar looks: each time runs `nft`.
const EVERY: Duration = Duration::from_secs(15);

/// What was counted of each pod when it was last asked.
#[derive(Debug, Default)]
pub(super) struct Bypassed {
    seen: BTreeMap<Arc<str>, u64>,
}

impl Bypassed {
    /// Tells what has passed since the last time, pod by pod: a pod that left takes nothing away, and one whose namespace
    /// was made anew counts from zero.
    pub(super) fn tell(&mut self, counts: &[(Arc<str>, Counts)], recorder: &Recorder) {
        let mut grown = 0;
        let mut seen = BTreeMap::new();
        for (pod, counts) in counts {
            let now: u64 = UNEVALUATED.iter().filter_map(|name| counts.get(*name)).map(|count| count.bytes).sum();
            let before = self.seen.get(pod).copied().unwrap_or_default();
            // A smaller count than before began again.
            grown += now.checked_sub(before).unwrap_or(now);
            seen.insert(Arc::clone(pod), now);
        }
        self.seen = seen;
        recorder.metrics().bypassed(grown);
    }
}

/// Reads the counters of the namespace that the sidecar lives in, on a thread of its own.
pub(super) fn of_sidecar(recorder: &Recorder) -> io::Result<()> {
    let recorder = recorder.clone();
    std::thread::Builder::new().name("bypass".into()).spawn(move || {
        let mut bypassed = Bypassed::default();
        loop {
            let counts = Namespace::current().map_err(install::InstallError::from);
            match counts.and_then(|namespace| install::counts(&namespace)) {
                Ok(counts) => bypassed.tell(&[("the pod".into(), counts)], &recorder),
                Err(error) => {
                    tracing::info!(%error, "cannot read what bypasses the proxy: its metric stays 0");
                    return;
                }
            }
            std::thread::sleep(EVERY);
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intercept::rules::Count;
    use crate::observe::Destination;

    fn counts(bytes_in: u64, bytes_out: u64) -> Counts {
        let count = |bytes| Count { packets: 1, bytes };
        let other = ("refused_in".to_owned(), count(1_000_000));
        [("bypass_in".to_owned(), count(bytes_in)), ("bypass_out".to_owned(), count(bytes_out)), other].into()
    }

    #[test]
    fn the_metric_only_grows_by_what_bypassed() {
        let (recorder, _writer) = Recorder::start(Destination::Off).unwrap();
        let mut bypassed = Bypassed::default();
        let (a, b): (Arc<str>, Arc<str>) = ("shop/a".into(), "shop/b".into());
        for (seen, expected) in [
            (vec![(Arc::clone(&a), counts(10, 5))], 15),
            (vec![(Arc::clone(&a), counts(10, 5)), (Arc::clone(&b), counts(100, 0))], 115),
            // Its neighbour has left.
            (vec![(Arc::clone(&b), counts(100, 1))], 116),
            // The pod was made anew.
            (vec![(Arc::clone(&b), counts(7, 0))], 123),
        ] {
            bypassed.tell(&seen, &recorder);
            let line = format!("eastwall_unevaluated_bytes_total {expected}\n");
            assert!(recorder.metrics().render().unwrap().contains(&line), "{line}");
        }
    }
}
