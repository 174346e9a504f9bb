//! Verdicts in, counters and lines out.

use std::sync::Arc;
use std::time::Duration;

use eastwall_policy::canonical::Refusal;
use eastwall_policy::dialect;
use eastwall_policy::facts::{Direction, Protocol};
use eastwall_policy::registry::{Registry, WorkloadId};
use eastwall_policy::source;
use eastwall_policy::verdict::{Action, Audit, Proof, Reason, RuleId, Verdict};
use eastwall_policy::world::World;
use serde_json::Value;

use super::{
    AccessLog, Alert, AlertKind, ConnectionEnd, ConnectionRecorder, Destination, LogWriter, Recorder, RequestEvent,
};

fn world() -> World {
    let workloads =
        "- {name: web, namespace: shop, ips: [10.0.0.3]}\n- {name: orders, namespace: shop, ips: [10.0.0.2]}\n";
    let policy = "\
apiVersion: eastwall.dev/v1alpha1
kind: FirewallPolicy
metadata: {name: orders, namespace: shop}
spec:
  subject: [{serviceAccount: orders}]
  ingress:
  - {name: web-reads, from: [{serviceAccount: web}], http: [{methods: [GET]}]}
";
    let model = dialect::compile(&source::parse("orders.yaml", &policy.into())).model;
    World::new(model, Arc::new(Registry::parse("w", &workloads.into()).0), 7)
}

fn allow() -> Verdict {
    Verdict {
        action: Action::Allow,
        reason: Reason::AllowRule,
        rule: Some(RuleId::Rule(0)),
        proof: Proof::Address,
        audit: None,
    }
}

fn deny() -> Verdict {
    Verdict { action: Action::Deny, reason: Reason::NoRule, ..allow() }
}

fn event<'a>(world: &'a World, verdict: &'a Verdict) -> RequestEvent<'a> {
    RequestEvent {
        world,
        verdict,
        refusal: None,
        direction: Direction::Inbound,
        protocol: Protocol::Http,
        source: ([10, 0, 0, 3], 40_000).into(),
        destination: ([10, 0, 0, 2], 8080).into(),
        source_workload: Some(WorkloadId(0)),
        destination_workload: Some(WorkloadId(1)),
        principal: None,
        method: Some(b"GET"),
        path: Some(b"/orders/7"),
        host: Some(b"orders.shop"),
        host_port: None,
        sni: None,
        status: Some(403),
        decision: Duration::from_nanos(250),
        duration: Duration::from_millis(3),
        revoked: false,
    }
}

struct Bench {
    folder: tempfile::TempDir,
    recorder: Recorder,
    writer: Option<LogWriter>,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (recorder, writer) = Recorder::start(Destination::File(folder.path().join("access.log"))).unwrap();
        Self { folder, recorder, writer: Some(writer) }
    }

    fn connection(&self, world: &World) -> ConnectionRecorder {
        self.recorder.connection(world, Direction::Inbound, Some(WorkloadId(0)), Some(WorkloadId(1)))
    }

    /// Everything that was logged, after the writer has ended.
    fn lines(mut self) -> Vec<Value> {
        drop(self.writer.take());
        let text = std::fs::read_to_string(self.folder.path().join("access.log")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[test]
fn the_line_of_a_denial() {
    let (bench, world) = (Bench::new(), world());
    let audit = Audit { action: Action::Allow, reason: Reason::AllowRule, rule: Some(RuleId::Rule(0)) };
    let verdict = Verdict { audit: Some(audit), ..deny() };
    let connection = bench.connection(&world);
    let id = connection.decision_id();
    let event = RequestEvent { principal: Some("spiffe://cluster.local/ns/shop/sa/web"), ..event(&world, &verdict) };
    connection.request(&event, Some(id));
    let held: Value = serde_json::from_str(&bench.recorder.decision(id).unwrap()).unwrap();
    let lines = bench.lines();
    assert_eq!(lines[0], held, "what explains a decision is what was logged");
    assert_eq!(lines[0]["decision_id"], id.to_string());
    let mut shape = lines[0].clone();
    shape["timestamp"] = "[time]".into();
    shape["decision_id"] = "[id]".into();
    shape["generation"] = "[generation]".into();
    insta::assert_snapshot!(serde_json::to_string_pretty(&shape).unwrap());
}

#[test]
fn no_line_holds_a_query_a_password_or_what_stands_behind_the_first_bytes() {
    let (bench, world) = (Bench::new(), world());
    let verdict = Verdict { action: Action::Reject, reason: Reason::Rejected, rule: None, ..deny() };
    let refusal = Refusal::EscapedSlash;
    for target in [&b"/a%2fb?token=SECRET"[..], b"http://user:SECRET@host/a?SECRET", b"user:SECRET@host:443"] {
        let event = RequestEvent { path: Some(target), refusal: Some(refusal), ..event(&world, &verdict) };
        bench.connection(&world).request(&event, Some(bench.recorder.decision_id()));
    }
    bench.recorder.alert(&Alert {
        kind: AlertKind::ProtocolMismatch,
        world: &world,
        direction: Direction::Inbound,
        source: ([10, 0, 0, 3], 4000).into(),
        destination: ([10, 0, 0, 2], 80).into(),
        source_workload: None,
        destination_workload: None,
        decision_id: None,
        detail: "first bytes",
        evidence: b"AUTH x SECRET",
    });
    let lines = bench.lines();
    let text = lines.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(!text.contains("SECRET"), "{text}");
    assert!(text.contains("\"url.path\":\"/a%2fb\"") && text.contains("\"evidence\":\"/a%2fb\""), "{text}");
    assert!(text.contains("\"evidence\":\"AUTH x S\""), "{text}");
}

#[test]
fn every_protocol_says_what_carried_it() {
    for (protocol, name, version) in [
        (Protocol::Http, "http", Some("1.1")),
        (Protocol::Grpc, "http", Some("2")),
        (Protocol::Tls, "tls", None),
        (Protocol::Tcp, "tcp", None),
    ] {
        let (bench, world, verdict) = (Bench::new(), world(), deny());
        let event =
            RequestEvent { protocol, method: None, path: None, host: None, status: None, ..event(&world, &verdict) };
        bench.connection(&world).request(&event, None);
        let lines = bench.lines();
        assert_eq!(lines[0]["network.protocol.name"], name);
        assert_eq!(lines[0].get("network.protocol.version").and_then(Value::as_str), version);
        assert_eq!(lines[0]["server.address"], "10.0.0.2");
        assert!(lines[0].get("url.path").is_none() && lines[0].get("http.response.status_code").is_none());
    }
}

#[test]
fn hostile_bytes_stay_inside_their_line() {
    let bench = Bench::new();
    let (world, verdict) = (world(), Verdict { action: Action::Reject, reason: Reason::Rejected, ..deny() });
    let hostile: Vec<u8> = (0..=255).chain(*b"\"}\n{\"verdict\":\"allow\"}\n").collect();
    let connection = bench.connection(&world);
    let event = RequestEvent {
        method: Some(&hostile),
        path: Some(&hostile),
        host: Some(&hostile),
        sni: Some(&hostile),
        refusal: Some(Refusal::EscapedSlash),
        ..event(&world, &verdict)
    };
    connection.request(&event, None);
    let metrics = bench.recorder.metrics().render().unwrap();
    assert!(
        metrics.contains("eastwall_evasion_attempts_total{refusal=\"escaped-slash\",source_workload=\"shop/web\"} 1")
    );
    let lines = bench.lines();
    assert_eq!(lines.len(), 2, "one line and its alert");
    assert_eq!((&lines[0]["event"], &lines[0]["verdict"]), (&"request".into(), &"reject".into()));
    assert_eq!((&lines[1]["event"], &lines[1]["severity"]), (&"alert".into(), &"high".into()));
    assert_eq!(lines[1]["alert"], "evasion-attempt");
    assert_eq!(lines[0]["url.path"], lines[1]["evidence"]);
}

#[test]
fn a_flood_of_one_denial_is_a_count() {
    let (bench, world, verdict) = (Bench::new(), world(), deny());
    let connection = bench.connection(&world);
    let mut last = connection.decision_id();
    for _ in 0..5_000 {
        last = connection.decision_id();
        connection.request(&event(&world, &verdict), Some(last));
    }
    assert!(bench.recorder.decision(last).is_some(), "a collapsed denial can still be explained");
    let metrics = bench.recorder.metrics().render().unwrap();
    assert!(metrics.contains("verdict=\"deny\"} 5000"), "every denial is counted: {metrics}");
    let lines = bench.lines();
    assert!(lines.len() < 200, "{} lines", lines.len());
    let told = lines.iter().filter(|line| line.get("collapsed").is_none()).count() as u64;
    let collapsed: u64 = lines.iter().filter_map(|line| line["collapsed"].as_u64()).sum();
    assert_eq!(told + collapsed, 5_000, "nothing is lost");
    assert!(lines.iter().all(|line| line["rule"] == "web-reads"), "a count says of what");
}

#[test]
fn two_workers_share_the_metrics_and_the_log() {
    let (bench, world, verdict) = (Bench::new(), world(), allow());
    let other = bench.recorder.for_worker();
    let second = other.connection(&world, Direction::Inbound, Some(WorkloadId(0)), Some(WorkloadId(1)));
    bench.connection(&world).request(&event(&world, &verdict), None);
    second.request(&event(&world, &verdict), None);
    let metrics = bench.recorder.metrics().render().unwrap();
    assert!(metrics.contains("verdict=\"allow\"} 2") && metrics.contains("eastwall_connections_total 2"), "{metrics}");
    assert!(metrics.contains("eastwall_connections_active 1"), "one is still open: {metrics}");
    second.closed(&ConnectionEnd { received: 3, sent: 4 });
    drop(second);
    let metrics = bench.recorder.metrics().render().unwrap();
    assert!(
        metrics.contains("eastwall_bytes_total 7") && metrics.contains("eastwall_connections_active 0"),
        "{metrics}"
    );
    assert_eq!(bench.lines().len(), 2);
}

#[test]
fn a_changed_registry_renames_the_ends_of_a_living_connection() {
    let (bench, before, verdict) = (Bench::new(), world(), allow());
    let connection = bench.connection(&before);
    connection.request(&event(&before, &verdict), None);
    let after = "- {name: new, namespace: shop, ips: [10.0.0.3]}\n- {name: orders, namespace: shop, ips: [10.0.0.2]}\n";
    let after = World::new(Arc::default(), Arc::new(Registry::parse("w", &after.into()).0), 8);
    connection.request(&event(&after, &verdict), None);
    let metrics = bench.recorder.metrics().render().unwrap();
    for source in ["shop/web", "shop/new"] {
        assert!(metrics.contains(&format!("source_workload=\"{source}\",verdict=\"allow\"}} 1")), "{metrics}");
    }
}

#[test]
fn a_rotated_log_is_opened_again() {
    let (bench, world, verdict) = (Bench::new(), world(), deny());
    let path = bench.folder.path().join("access.log");
    std::fs::rename(&path, bench.folder.path().join("access.log.1")).unwrap();
    bench.recorder.reopen_log();
    while !path.exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    bench.connection(&world).request(&event(&world, &verdict), None);
    assert_eq!(bench.lines().len(), 1);
}

#[test]
fn without_a_log_denials_can_still_be_asked_for() {
    let (recorder, _writer) = Recorder::start(Destination::Off).unwrap();
    let (world, verdict) = (world(), deny());
    let connection = recorder.connection(&world, Direction::Inbound, None, None);
    let id = connection.decision_id();
    connection.request(&event(&world, &verdict), Some(id));
    assert!(recorder.decision(id).unwrap().contains("\"rule\":\"web-reads\""));
    assert_eq!(recorder.recent().len(), 1);
}

#[test]
fn without_lines_of_what_was_allowed_the_rest_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let destination = Destination::File(folder.path().join("access.log"));
    let (recorder, writer) = Recorder::start(AccessLog { destination, allowed: false }).unwrap();
    let bench = Bench { folder, recorder, writer: Some(writer) };
    let world = world();
    let connection = bench.connection(&world);
    let audit = Audit { action: Action::Deny, reason: Reason::DenyRule, rule: Some(RuleId::Rule(0)) };
    for verdict in [allow(), deny(), Verdict { audit: Some(audit), ..allow() }] {
        connection.request(&event(&world, &verdict), None);
    }
    assert_eq!(bench.recorder.recent().len(), 3, "the admin socket shows them all");
    drop(connection);
    let verdicts: Vec<Value> = bench.lines().into_iter().map(|line| line["verdict"].clone()).collect();
    assert_eq!(verdicts, ["deny", "allow"]);
}

#[test]
fn a_full_buffer_keeps_denials_longest_and_counts_what_it_drops() {
    let metrics = super::Metrics::new().unwrap();
    let (log, writer) = super::log::Log::start(Destination::File("/dev/full".into()).into(), &metrics).unwrap();
    drop(writer);
    let buffer = log.buffer();
    let line = vec![b'x'; 64 * 1024];
    for _ in 0..100 {
        log.append(&buffer, &line, false);
    }
    let dropped = metrics.render().unwrap();
    assert!(dropped.contains("eastwall_access_log_dropped_total{kind=\"denial\"} 0"), "{dropped}");
    assert!(dropped.contains("eastwall_access_log_dropped_total{kind=\"allow\"} 85"), "{dropped}");
    log.append(&buffer, &line, true);
    assert!(metrics.render().unwrap().contains("dropped_total{kind=\"denial\"} 0"), "there is room left for denials");
}
