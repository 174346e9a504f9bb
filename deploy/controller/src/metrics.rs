//! The metrics of the controller.

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::cluster::{Change, Cluster};

/// Every metric, and the registry that renders them.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    objects: IntGaugeVec,
    changes: IntCounterVec,
    watch_told: IntGaugeVec,
    watch_errors: IntCounterVec,
    queue: Histogram,
    compile: Histogram,
    refused: IntGauge,
    leader: IntGauge,
    admissions: IntCounterVec,
    admission: Histogram,
    status_writes: IntCounterVec,
    replica_writes: IntCounterVec,
}

impl Metrics {
    /// Makes and registers them all.
    ///
    /// # Errors
    /// Two metrics of one name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let gauges = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauges.clone()))?;
            Ok::<_, prometheus::Error>(gauges)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let histogram = |name: &str, help: &str| {
            let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()))?;
            registry.register(Box::new(histogram.clone()))?;
            Ok::<_, prometheus::Error>(histogram)
        };
        gauges("eastwall_controller_build_info", "Version of the controller; always 1", &["version"])?
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        Ok(Self {
            objects: gauges("eastwall_controller_objects", "Objects that are known, by kind", &["kind"])?,
            changes: counters(
                "eastwall_controller_changes_total",
                "Changes that watches told and that were taken in, by kind and change",
                &["kind", "change"],
            )?,
            watch_told: gauges(
                "eastwall_controller_watch_last_event_timestamp_seconds",
                "When the watch of a kind last told anything, a list or a change",
                &["kind"],
            )?,
            watch_errors: counters(
                "eastwall_controller_watch_errors_total",
                "Breaks of a watch, each followed by a new attempt, by kind",
                &["kind"],
            )?,
            queue: histogram(
                "eastwall_controller_queue_seconds",
                "Time from when a watch told a change until it was taken in",
            )?,
            compile: histogram("eastwall_controller_compile_seconds", "Time to compile the policies of the cluster")?,
            refused: gauge(
                "eastwall_controller_policies_refused",
                "Policies in the cluster that the compiler refuses",
            )?,
            leader: gauge("eastwall_controller_leader", "Whether this replica holds the lease and writes statuses")?,
            admissions: counters(
                "eastwall_controller_admissions_total",
                "Objects that the webhooks judged, by webhook and verdict",
                &["webhook", "verdict"],
            )?,
            admission: histogram("eastwall_controller_admission_seconds", "Time to judge one object")?,
            status_writes: counters(
                "eastwall_controller_status_writes_total",
                "Statuses written, by result",
                &["result"],
            )?,
            replica_writes: counters(
                "eastwall_controller_replica_writes_total",
                "Times that this replica told the others how its proxies stand, by result",
                &["result"],
            )?,
            registry,
        })
    }

    /// All of them in the text format of Prometheus.
    pub(crate) fn render(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_else(|error| format!("# {error}\n"))
    }

    /// Tells how many objects of each kind there are; `kinds` are all that are watched.
    pub(crate) fn holds<'k>(&self, cluster: &'k Cluster, kinds: impl Iterator<Item = &'k str>) {
        let mut counts: BTreeMap<&str, i64> = kinds.map(|kind| (kind, 0)).collect();
        for key in cluster.objects.keys() {
            *counts.entry(&key.kind).or_default() += 1;
        }
        // A kind that is watched no more has no series.
        self.objects.reset();
        for (kind, count) in counts {
            self.objects.with_label_values(&[kind]).set(count);
        }
    }

    pub(crate) fn changed(&self, kind: &str, change: &Change) {
        let word = match change {
            Change::Put(_) => "put",
            Change::Delete(_) => "delete",
            Change::Replace { .. } => "list",
        };
        self.changes.with_label_values(&[kind, word]).inc();
    }

    pub(crate) fn queued(&self, time: Duration) {
        self.queue.observe(time.as_secs_f64());
    }

    pub(crate) fn watch_told(&self, kind: &str) {
        self.watch_told.with_label_values(&[kind]).set(jiff::Timestamp::now().as_second());
    }

    pub(crate) fn watch_broke(&self, kind: &str) {
        self.watch_errors.with_label_values(&[kind]).inc();
    }

    pub(crate) fn compiled(&self, time: Duration, refused: usize) {
        self.compile.observe(time.as_secs_f64());
        self.refused.set(i64::try_from(refused).unwrap_or(i64::MAX));
    }

    pub(crate) fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    pub(crate) fn judged(&self, webhook: &str, verdict: &str, time: Duration) {
        self.admissions.with_label_values(&[webhook, verdict]).inc();
        self.admission.observe(time.as_secs_f64());
    }

    pub(crate) fn status_written(&self, result: &str) {
        self.status_writes.with_label_values(&[result]).inc();
    }

    pub(crate) fn told_replicas(&self, result: &str) {
        self.replica_writes.with_label_values(&[result]).inc();
    }

    /// For the metrics of other parts.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}

/// From a queue that is empty to a webhook that the API server gives up on.
const SECONDS: &[f64] = &[0.000_1, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_every_metric() {
        let page = include_str!("../../README.md");
        let metrics = Metrics::new().unwrap();
        // What has labels is rendered once it has a series.
        metrics.changed("Pod", &Change::Put(crate::policies::tests::pod("a", "b", "10.0.0.2")));
        metrics.watch_told("Pod");
        metrics.watch_broke("Pod");
        metrics.holds(&Cluster::default(), ["Pod"].into_iter());
        metrics.judged("validate", "allowed", Duration::ZERO);
        metrics.status_written("success");
        metrics.told_replicas("success");
        let text = metrics.render();
        let names: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        assert_eq!(names.len(), 13, "{names:?}");
        for name in names {
            assert!(page.contains(&format!("`{name}`")), "deploy/README.md lacks {name}");
        }
    }
}
