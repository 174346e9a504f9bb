//! The metrics of the controller.

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::cluster::{Change, Cluster};
use crate::slices::Counts;

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
    proxies: IntGauge,
    proxies_behind: IntGauge,
    callers_refused: IntCounterVec,
    certificates: IntCounterVec,
    root_ends: IntGauge,
    without_proxy: IntGaugeVec,
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
            proxies: gauge("eastwall_controller_proxies", "Proxies that follow this replica")?,
            proxies_behind: gauge(
                "eastwall_controller_proxies_behind",
                "Proxies that follow this replica and have not put in force all that they are to have",
            )?,
            callers_refused: counters(
                "eastwall_controller_callers_refused_total",
                "Calls of proxies that were not let in, by reason",
                &["reason"],
            )?,
            certificates: counters(
                "eastwall_controller_certificates_total",
                "Certificates of workloads that were asked for, by result",
                &["result"],
            )?,
            root_ends: gauge(
                "eastwall_controller_root_expiry_timestamp_seconds",
                "When the certificate ends that signs those of workloads",
            )?,
            without_proxy: gauges(
                "eastwall_controller_pods_without_proxy",
                "Pods that policies select, or that ask for a sidecar, and before which no proxy stands; of whoever leads",
                &["namespace", "reason"],
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

    pub(crate) fn proxies(&self, counts: Counts) {
        let number = |count| i64::try_from(count).unwrap_or(i64::MAX);
        self.proxies.set(number(counts.proxies));
        self.proxies_behind.set(number(counts.proxies - counts.in_force));
    }

    pub(crate) fn refused_caller(&self, reason: &str) {
        self.callers_refused.with_label_values(&[reason]).inc();
    }

    pub(crate) fn certificate(&self, result: &str) {
        self.certificates.with_label_values(&[result]).inc();
    }

    pub(crate) fn root_ends(&self, at: i64) {
        self.root_ends.set(at);
    }

    pub(crate) fn without_proxy(&self, counts: &BTreeMap<(String, &'static str), i64>) {
        self.without_proxy.reset();
        for ((namespace, reason), count) in counts {
            self.without_proxy.with_label_values(&[namespace.as_str(), reason]).set(*count);
        }
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
    use serde_json::{Value, json};

    use super::*;
    use crate::slices::Callers;
    use crate::uncovered::Lack;

    /// What alert rules and dashboards may name: `deploy/monitoring` is checked against it.
    fn served() -> BTreeMap<String, Value> {
        let metrics = Metrics::new().unwrap();
        // A series shows its labels once it counts. Taken apart, so that none is forgotten.
        let Metrics {
            registry,
            objects,
            changes,
            watch_told,
            watch_errors,
            queue: _,
            compile: _,
            refused: _,
            leader: _,
            admissions,
            admission: _,
            status_writes,
            replica_writes,
            proxies: _,
            proxies_behind: _,
            callers_refused,
            certificates,
            root_ends: _,
            without_proxy,
        } = &metrics;
        for gauges in [objects, watch_told] {
            gauges.with_label_values(&[""]);
        }
        for counters in [watch_errors, status_writes, replica_writes, callers_refused, certificates] {
            counters.with_label_values(&[""]);
        }
        without_proxy.with_label_values(&[""; 2]);
        for counters in [changes, admissions] {
            counters.with_label_values(&[""; 2]);
        }
        let families = registry.gather().into_iter().map(|family| {
            let name = family.name().to_owned();
            let labels = family.get_metric().first().unwrap().get_label();
            let labels: BTreeMap<&str, Value> =
                labels.iter().map(|label| (label.name(), values(&name, label.name()))).collect();
            let kind = format!("{:?}", family.get_field_type()).to_lowercase();
            (name, json!({"type": kind, "help": family.help(), "labels": labels}))
        });
        families.collect()
    }

    /// What a label can say, where that is a fixed set of words.
    fn values(name: &str, label: &str) -> Value {
        match (name, label) {
            (_, "change") => json!(["put", "delete", "list"]),
            (_, "webhook") => json!(["validate", "mutate"]),
            (_, "verdict") => json!(["allowed", "refused", "error"]),
            ("eastwall_controller_callers_refused_total", "reason") => json!(Callers::REASONS),
            ("eastwall_controller_certificates_total", "result") => json!(["success", "refused", "error"]),
            ("eastwall_controller_pods_without_proxy", "reason") => json!(Lack::ALL.map(Lack::label)),
            (_, "result") => json!(["success", "error"]),
            _ => Value::Null,
        }
    }

    /// `INSTA_UPDATE=always` writes it anew.
    #[test]
    fn the_published_list_of_metrics_is_what_is_served() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../monitoring/controller-metrics.json");
        let text = format!("{:#}\n", json!(served()));
        if std::env::var("INSTA_UPDATE").as_deref() == Ok("always") {
            std::fs::write(&path, &text).unwrap();
        }
        let published = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(published == text, "{} is not what the controller serves", path.display());
    }

    #[test]
    fn the_documentation_has_every_metric() {
        let page = include_str!("../../README.md");
        for name in served().keys() {
            assert!(page.contains(&format!("`{name}`")), "deploy/README.md lacks {name}");
        }
    }

    #[test]
    fn a_kind_that_is_watched_no_more_has_no_series() {
        let metrics = Metrics::new().unwrap();
        metrics.holds(&Cluster::default(), ["Pod", "Server"].into_iter());
        metrics.holds(&Cluster::default(), ["Pod"].into_iter());
        let text = metrics.render();
        assert!(text.contains("objects{kind=\"Pod\"} 0") && !text.contains("Server"), "{text}");
    }
}
