//! The metrics of the contract, by name. Whoever counts often asks here once for a handle and keeps it.

use std::time::Duration;

use eastwall_policy::facts::Direction;
use eastwall_policy::verdict::Generation;
use prometheus::{GaugeVec, Histogram, HistogramOpts, IntCounter, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use super::label;
use super::series::Series;
use crate::identity::{Identities, PeerRefused};

/// Every metric, and the registry that renders them.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    /// By direction, protocol, verdict, reason, source and destination workload.
    pub(super) requests: Series,
    pub(super) connections: IntCounter,
    pub(super) connections_active: IntGauge,
    pub(super) decision_seconds: Histogram,
    pub(super) bytes: IntCounter,
    /// By the limit that was met.
    pub(super) rejected_connections: Series,
    /// By source workload and refusal.
    pub(super) evasion_attempts: Series,
    /// By kind.
    pub(super) alerts: Series,
    /// By direction, enforced and shadow verdict.
    pub(super) audit_differences: Series,
    pub(super) revocations: IntCounter,
    /// By kind of line.
    pub(super) log_dropped: Series,
    pub(super) log_collapsed: IntCounter,
    generation: IntGauge,
    hash: IntGauge,
    /// By result.
    reloads: Series,
    revocation_seconds: Histogram,
    unprotected: IntGaugeVec,
    /// By finding.
    tokens: Series,
    /// By result.
    token_keys_reads: Series,
    token_keys_missing: IntGauge,
    pods_unserved: IntGauge,
    unevaluated_bytes: IntCounter,
    /// Not there where no controller is followed.
    registry_age: GaugeVec,
    /// By direction and result.
    handshakes: Series,
    /// By result.
    identity_reads: Series,
    identity_remaining: IntGauge,
    break_glass: IntGauge,
}

impl Metrics {
    /// Makes and registers them all.
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let series = |name: &str, help: &str, labels: &[&str], foldable: &'static [usize]| {
            let series = Series::new(name, help, labels, foldable)?;
            registry.register(series.collector())?;
            Ok::<_, prometheus::Error>(series)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?;
            registry.register(Box::new(histogram.clone()))?;
            Ok::<_, prometheus::Error>(histogram)
        };

        let unprotected = IntGaugeVec::new(
            Opts::new("eastwall_unprotected_workloads", "Registered workloads that no policy closes, by direction"),
            &["direction"],
        )?;
        registry.register(Box::new(unprotected.clone()))?;
        let registry_age = GaugeVec::new(
            Opts::new(
                "eastwall_registry_age_seconds",
                "Time since the controller was heard, where one is followed: how old the knowledge of who is where may be",
            ),
            &[],
        )?;
        registry.register(Box::new(registry_age.clone()))?;
        let build = IntGaugeVec::new(Opts::new("eastwall_build_info", "Version of the proxy; always 1"), &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        registry.register(Box::new(build))?;

        Ok(Self {
            requests: series(
                "eastwall_requests_total",
                "Requests, streams and opaque connections by verdict",
                &["direction", "protocol", "verdict", "reason", "source_workload", "destination_workload"],
                &[4, 5],
            )?,
            connections: counter("eastwall_connections_total", "Connections accepted")?,
            connections_active: gauge("eastwall_connections_active", "Connections open now")?,
            decision_seconds: histogram("eastwall_decision_seconds", "Time that one verdict took", DECISION_BUCKETS)?,
            bytes: counter("eastwall_bytes_total", "Bytes carried from and to clients")?,
            rejected_connections: series(
                "eastwall_connections_rejected_total",
                "Connections closed because a limit was met, by limit",
                &["limit"],
                &[],
            )?,
            evasion_attempts: series(
                "eastwall_evasion_attempts_total",
                "Requests that are not a valid canonical request, by source workload and refusal",
                &["source_workload", "refusal"],
                &[0],
            )?,
            alerts: series("eastwall_alerts_total", "Alerts raised, by kind", &["kind"], &[])?,
            audit_differences: series(
                "eastwall_audit_differences_total",
                "Requests on which the shadow table disagrees with the enforced one",
                &["direction", "enforced", "shadow"],
                &[],
            )?,
            revocations: counter("eastwall_revocations_total", "Requests and connections cut by a change of policy")?,
            log_dropped: series(
                "eastwall_access_log_dropped_total",
                "Lines lost because the access log could not be written fast enough, by kind",
                &["kind"],
                &[],
            )?,
            log_collapsed: counter(
                "eastwall_access_log_collapsed_total",
                "Denials that are told of only as a count in the access log",
            )?,
            generation: gauge(
                "eastwall_policy_generation",
                "Number of the table in force, counted since the proxy started",
            )?,
            hash: gauge(
                "eastwall_policy_hash",
                "Hash of the policies in force, as a number: the same in proxies that have the same ones",
            )?,
            reloads: series("eastwall_policy_reloads_total", "Reloads by result", &["result"], &[])?,
            revocation_seconds: histogram(
                "eastwall_revocation_seconds",
                "Time from a swap until the last live connection was judged again",
                REVOCATION_BUCKETS,
            )?,
            unprotected,
            tokens: series(
                "eastwall_tokens_total",
                "Tokens of requests that were looked at, by finding",
                &["finding"],
                &[],
            )?,
            token_keys_reads: series(
                "eastwall_token_keys_reads_total",
                "Readings of sets of keys that tokens are verified with, by result",
                &["result"],
                &[],
            )?,
            token_keys_missing: gauge(
                "eastwall_token_keys_missing",
                "Sets of keys that were never read, so that no token of their issuers is accepted",
            )?,
            pods_unserved: gauge(
                "eastwall_pods_unserved",
                "Pods of this node that could not be served as they should be",
            )?,
            unevaluated_bytes: counter(
                "eastwall_unevaluated_bytes_total",
                "Bytes that bypassed the proxy, as the kernel counted them",
            )?,
            registry_age,
            handshakes: series(
                "eastwall_handshakes_total",
                "Handshakes of mutual TLS, by direction and by what came of the peer's certificate",
                &["direction", "result"],
                &[],
            )?,
            identity_reads: series(
                "eastwall_identity_reads_total",
                "Readings of this proxy's own certificates and authorities, by result",
                &["result"],
                &[],
            )?,
            identity_remaining: gauge(
                "eastwall_identity_remaining_seconds",
                "Time until the first of this proxy's own certificates ends; 0 where it has ended, or there is none",
            )?,
            break_glass: gauge(
                "eastwall_break_glass_workloads",
                "Registered workloads that an emergency opens now; one that several open counts for each",
            )?,
            registry,
        })
    }

    /// All of them in the text format of Prometheus.
    pub(crate) fn render(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    /// The generation in force.
    pub(crate) fn set_generation(&self, generation: &Generation) {
        self.generation.set(i64::try_from(generation.number).unwrap_or(i64::MAX));
        // Its 48 bits are exact in the floating point of Prometheus.
        self.hash.set(i64::from_str_radix(&generation.hash, 16).unwrap_or(-1));
    }

    /// One reload and how it ended.
    pub(crate) fn reloaded(&self, result: &str) {
        self.reloads.counter(&[result]).inc();
    }

    /// Where tokens of which something was found are counted.
    pub(crate) fn tokens(&self, finding: &str) -> IntCounter {
        self.tokens.counter(&[finding])
    }

    /// One reading of a set of keys and how it ended.
    pub(crate) fn token_keys_read(&self, result: &str) {
        self.token_keys_reads.counter(&[result]).inc();
    }

    /// How many sets of keys were never read.
    pub(crate) fn set_token_keys_missing(&self, count: usize) {
        self.token_keys_missing.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// How many workloads no policy closes.
    pub(crate) fn set_unprotected(&self, inbound: usize, outbound: usize) {
        for (direction, count) in [("inbound", inbound), ("outbound", outbound)] {
            self.unprotected.with_label_values(&[direction]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// How many pods could not be served.
    pub(crate) fn set_pods_unserved(&self, count: usize) {
        self.pods_unserved.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// One handshake of mutual TLS, and what came of it.
    pub(crate) fn handshake(&self, direction: Direction, result: Result<(), PeerRefused>) {
        let result = result.map_or_else(PeerRefused::label, |()| ACCEPTED);
        self.handshakes.counter(&[label::direction(direction), result]).inc();
    }

    /// One reading of our own certificates and how it ended.
    pub(crate) fn identity_read(&self, result: &str) {
        self.identity_reads.counter(&[result]).inc();
    }

    /// How long our own certificates are still valid.
    pub(crate) fn set_identity_ends(&self, identities: &Identities) {
        let least = identities.all().iter().map(|svid| svid.remaining().as_secs()).min().unwrap_or_default();
        self.identity_remaining.set(i64::try_from(least).unwrap_or(i64::MAX));
    }

    /// How many workloads emergencies open.
    pub(crate) fn set_break_glass(&self, workloads: usize) {
        self.break_glass.set(i64::try_from(workloads).unwrap_or(i64::MAX));
    }

    /// So many more bytes bypassed the proxy.
    pub(crate) fn bypassed(&self, bytes: u64) {
        self.unevaluated_bytes.inc_by(bytes);
    }

    /// How long the controller has not been heard.
    pub(crate) fn set_registry_age(&self, age: Duration) {
        self.registry_age.with_label_values::<&str>(&[]).set(age.as_secs_f64());
    }

    /// Where the time of a revocation is recorded.
    pub(crate) fn revocation_seconds(&self) -> Histogram {
        self.revocation_seconds.clone()
    }
}

/// A handshake after which both sides know each other.
const ACCEPTED: &str = "accepted";

/// The bar is a median of 250 ns and a p99 of 1 µs; the top says that something is very wrong.
const DECISION_BUCKETS: &[f64] = &[1e-7, 2.5e-7, 5e-7, 1e-6, 2.5e-6, 5e-6, 1e-5, 1e-4, 1e-3, 1e-2];

/// The bar is one second.
const REVOCATION_BUCKETS: &[f64] = &[1e-4, 1e-3, 5e-3, 1e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use eastwall_policy::verdict::Action;
    use serde_json::{Value, json};

    use super::super::event::{AlertKind, Limit};
    use super::*;
    use crate::identity::Finding;
    use crate::policy::Outcome;

    /// What alert rules and dashboards may name: `deploy/monitoring` is checked against it.
    fn served() -> BTreeMap<String, Value> {
        let metrics = Metrics::new().unwrap();
        // A series shows its labels once it counts. Taken apart, so that none is forgotten.
        let Metrics {
            registry,
            requests,
            connections: _,
            connections_active: _,
            decision_seconds: _,
            bytes: _,
            rejected_connections,
            evasion_attempts,
            alerts,
            audit_differences,
            revocations: _,
            log_dropped,
            log_collapsed: _,
            generation: _,
            hash: _,
            reloads,
            revocation_seconds: _,
            unprotected,
            pods_unserved: _,
            unevaluated_bytes: _,
            registry_age,
            tokens,
            token_keys_reads,
            token_keys_missing: _,
            handshakes,
            identity_reads,
            identity_remaining: _,
            break_glass: _,
        } = &metrics;
        requests.counter(&[""; 6]);
        for series in [rejected_connections, alerts, log_dropped, reloads, tokens, token_keys_reads, identity_reads] {
            series.counter(&[""]);
        }
        evasion_attempts.counter(&[""; 2]);
        audit_differences.counter(&[""; 3]);
        handshakes.counter(&[""; 2]);
        unprotected.with_label_values(&[""]);
        registry_age.with_label_values::<&str>(&[]);
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
        let actions = [Action::Allow, Action::Deny, Action::Reject].map(label::action);
        let alerts = [
            AlertKind::EvasionAttempt,
            AlertKind::ProtocolMismatch,
            AlertKind::SpoofedSource,
            AlertKind::IdentityMismatch,
            AlertKind::Downgrade,
            AlertKind::BreakGlass,
            AlertKind::CertificateRefused,
            AlertKind::TunnelRelay,
        ];
        let outcomes = [Outcome::Success, Outcome::Partial, Outcome::Failure, Outcome::Unchanged];
        match (name, label) {
            (_, "direction") => json!([Direction::Inbound, Direction::Outbound].map(label::direction)),
            (_, "verdict" | "enforced" | "shadow") => json!(actions),
            (_, "limit") => json!(Limit::LABELS),
            ("eastwall_policy_reloads_total", "result") => json!(outcomes.map(Outcome::label)),
            ("eastwall_token_keys_reads_total", "result") => json!(["success", "unchanged", "failure"]),
            ("eastwall_identity_reads_total", "result") => json!(["success", "partial", "failure"]),
            ("eastwall_handshakes_total", "result") => json!([&[ACCEPTED], PeerRefused::LABELS].concat()),
            (_, "finding") => json!(Finding::ALL.map(Finding::label)),
            ("eastwall_alerts_total", "kind") => json!(alerts.map(AlertKind::label)),
            ("eastwall_access_log_dropped_total", "kind") => json!(["denial", "allow"]),
            _ => Value::Null,
        }
    }

    /// `INSTA_UPDATE=always` writes it anew.
    #[test]
    fn the_published_list_of_metrics_is_what_is_served() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/monitoring/metrics.json");
        let text = format!("{:#}\n", json!(served()));
        if std::env::var("INSTA_UPDATE").as_deref() == Ok("always") {
            std::fs::write(&path, &text).unwrap();
        }
        let published = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(published == text, "{} is not what the proxy serves", path.display());
    }

    #[test]
    fn the_hash_is_a_number_that_a_scrape_keeps_exactly() {
        let metrics = Metrics::new().unwrap();
        metrics.set_generation(&Generation { number: 7, hash: "ffffffffffff".into() });
        let text = metrics.render().unwrap();
        assert!(text.contains("eastwall_policy_hash 281474976710655\n"), "{text}");
        assert!(text.contains("eastwall_policy_generation 7\n"), "{text}");
    }

    #[test]
    fn the_contracts_names_are_there() {
        let metrics = Metrics::new().unwrap();
        metrics.requests.counter(&["inbound", "http", "allow", "allow-rule", "a/b", "c/d"]).inc();
        metrics.reloaded("success");
        metrics.set_unprotected(1, 2);
        let text = metrics.render().unwrap();
        for line in [
            "eastwall_requests_total{destination_workload=\"c/d\",direction=\"inbound\",protocol=\"http\",\
             reason=\"allow-rule\",source_workload=\"a/b\",verdict=\"allow\"} 1",
            "eastwall_connections_total 0",
            "eastwall_connections_active 0",
            "eastwall_decision_seconds_count 0",
            "eastwall_policy_generation 0",
            "eastwall_policy_reloads_total{result=\"success\"} 1",
            "eastwall_revocation_seconds_count 0",
            "eastwall_bytes_total 0",
            "eastwall_unprotected_workloads{direction=\"outbound\"} 2",
            "eastwall_unevaluated_bytes_total 0",
            "eastwall_pods_unserved 0",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
