//! Both doors, with raw clients.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use eastwall_policy::facts::{Direction, Protocol};
use eastwall_policy::verdict::{Action, Proof, Reason, Verdict};
use serde_json::Value;

use super::client::{Answer, ask};
use super::server::AdminServer;
use super::{Admin, Lifecycle, Probes, SocketPath, start};
use crate::observe::{Destination, LogWriter, Recorder, RequestEvent};
use crate::policy::{self, Origin};

struct Bench {
    folder: tempfile::TempDir,
    admin: Admin,
    server: AdminServer,
    /// Listens on the one port that may be asked about.
    listed: TcpListener,
    _writer: LogWriter,
}

const POLICY: &str = "\
apiVersion: eastwall.dev/v1alpha1
kind: FirewallPolicy
metadata: {name: orders, namespace: shop}
spec:
  subject: [{serviceAccount: orders}]
  ingress:
  - {name: reads, from: [{serviceAccount: web}], ports: [80], http: [{methods: [GET], paths: [/v1]}]}
";

const WORKLOADS: &str = "\
- {name: web, namespace: shop, serviceAccount: web, ips: [10.0.0.3]}
- {name: orders, namespace: shop, serviceAccount: orders, ips: [10.0.0.2], ports: [{name: http, port: 80}]}
";

impl Bench {
    fn new() -> Self {
        Self::at("127.0.0.1:0")
    }

    fn at(address: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("policy.yaml"), POLICY).unwrap();
        fs::write(at("workloads.yaml"), WORKLOADS).unwrap();
        let (recorder, writer) = Recorder::start(Destination::Off).unwrap();
        let origin = Origin {
            policies: vec![at("policy.yaml")],
            workloads: Some(at("workloads.yaml")),
            upstream: None,
            start_closed: true,
            bounds: eastwall_policy::source::Bounds::default(),
            controller: None,
        };
        let (live, reloader) = policy::start(origin, &recorder).unwrap();
        let listed = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let probes = Arc::new(Probes::new([listed.local_addr().unwrap().port()], Duration::from_secs(1)));
        let admin = Admin { live, recorder, reloader, lifecycle: Arc::new(Lifecycle::new(None, None)), probes };
        let server =
            start(Some(address.parse().unwrap()), &SocketPath::At(at("run/admin.sock")), admin.clone(), None).unwrap();
        Self { folder, admin, server, listed, _writer: writer }
    }

    fn socket(&self, method: &str, path: &str) -> Answer {
        ask(self.server.socket(), method, path).unwrap()
    }

    fn tcp(&self, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(self.server.tcp().unwrap()).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn policy_file(&self) -> PathBuf {
        self.folder.path().join("policy.yaml")
    }
}

/// Attack 68: the compromised application calls every admin path over its own loopback.
#[test]
fn attack_68_tcp_serves_health_readiness_and_metrics_alone() {
    let bench = Bench::new();
    for path in [
        "/policy",
        "/explain",
        "/explain/00000000000000000000000000000000",
        "/flows",
        "/reload",
        "/drain",
        "/version",
        "/",
        "//reload",
        "/healthz/../reload",
        "/healthz/..%2freload",
        "/%72eload",
        "http://x/reload",
        "/reload?",
        "/reload/",
        "*",
    ] {
        for method in ["GET", "POST", "PUT", "OPTIONS", "CONNECT"] {
            let answer = bench.tcp(method, path);
            let status = answer.get(9..12).unwrap_or_default();
            assert!(["404", "400"].contains(&status), "{method} {path}: {answer}");
        }
    }
    assert!(!bench.admin.lifecycle.is_draining());
    for (path, status) in [("/healthz", "200"), ("/readyz", "503"), ("/metrics", "200")] {
        let answer = bench.tcp("GET", path);
        assert_eq!(&answer[9..12], status, "{answer}");
        assert_eq!(&bench.tcp("POST", path)[9..12], "405");
        assert_eq!(&bench.tcp("DELETE", path)[9..12], "405");
    }
}

#[test]
fn only_listed_ports_are_dialled_and_not_for_the_socket() {
    let bench = Bench::new();
    let port = bench.listed.local_addr().unwrap().port();
    let path = format!("/probe/tcp/{port}");
    assert_eq!(&bench.tcp("GET", &path)[9..12], "200");
    assert_eq!(&bench.tcp("POST", &path)[9..12], "405");
    assert_eq!(bench.socket("GET", &path).status, 404);
    let admin = bench.server.tcp().unwrap().port();
    for path in
        ["", "/", "/0", "/65536", "/-1", "/x", &format!("/{admin}"), &format!("/{port}/"), &format!("/{port}/x")]
    {
        let answer = bench.tcp("GET", &format!("/probe/tcp{path}"));
        assert_eq!(&answer[9..12], "404", "{path}: {answer}");
    }
    drop(bench.listed);
    std::thread::sleep(Duration::from_millis(150));
    let mut stream = TcpStream::connect(bench.server.tcp().unwrap()).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(&answer[9..12], "503", "{answer}");
}

#[test]
fn the_unspecified_address_takes_both_versions() {
    let bench = Bench::at("[::]:0");
    let port = bench.server.tcp().unwrap().port();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
    let has_ipv6 = TcpListener::bind("[::1]:0").is_ok();
    assert_eq!(TcpStream::connect(("::1", port)).is_ok(), has_ipv6);
}

#[test]
fn readiness_waits_for_the_listeners_and_ends_with_the_drain() {
    let bench = Bench::new();
    let ready = || {
        let answer = bench.socket("GET", "/readyz");
        (answer.status, serde_json::from_str::<Value>(&answer.body).unwrap())
    };
    assert_eq!(ready().0, 503);
    bench.admin.lifecycle.listens();
    let (status, detail) = ready();
    assert_eq!(status, 200, "{detail}");
    assert_eq!(detail["policy"]["good"], true);
    assert!(detail["generation"].as_str().unwrap().starts_with("1-"));
    // A pod that nobody serves is no small thing.
    bench.admin.lifecycle.unserved_are([("shop/web".into(), "no such namespace".to_owned())].into());
    let (status, detail) = ready();
    assert_eq!((status, &detail["unservedPods"]["shop/web"]), (503, &"no such namespace".into()), "{detail}");
    bench.admin.lifecycle.unserved_are([].into());
    assert_eq!(ready().0, 200);
    // A broken file says so, and the last good table serves on.
    fs::write(bench.policy_file(), POLICY.replace("methods", "method")).unwrap();
    assert_eq!(bench.socket("GET", "/reload").status, 405);
    assert_eq!(bench.socket("POST", "/reload").status, 422);
    let (status, detail) = ready();
    assert_eq!(status, 200, "{detail}");
    assert!(detail["policy"]["errors"][0]["location"].as_str().unwrap().contains("policy.yaml:7"), "{detail}");
    fs::write(bench.policy_file(), POLICY.replace("[/v1]", "[/v2]")).unwrap();
    assert_eq!(bench.socket("POST", "/reload").status, 200);
    assert_eq!(bench.socket("GET", "/drain").status, 405);
    assert_eq!(bench.socket("POST", "/drain").status, 202);
    assert_eq!(ready().0, 503);
}

#[test]
fn the_socket_shows_policies_flows_and_why() {
    let bench = Bench::new();
    let policy: Value = serde_json::from_str(&bench.socket("GET", "/policy").body).unwrap();
    assert_eq!(policy["policies"][0]["policy"], "FirewallPolicy shop/orders");
    assert_eq!(policy["policies"][0]["rules"][0]["rule"], "reads");

    let world = bench.admin.live.load();
    let registry = world.registry();
    let (web, orders) = (registry.find_workload("shop", "web"), registry.find_workload("shop", "orders"));
    let verdict =
        Verdict { action: Action::Deny, reason: Reason::NoRule, rule: None, proof: Proof::Address, audit: None };
    let connection = bench.admin.recorder.connection(&world, Direction::Inbound, web, orders);
    let id = connection.decision_id();
    let event = RequestEvent {
        world: &world,
        verdict: &verdict,
        refusal: None,
        direction: Direction::Inbound,
        protocol: Protocol::Http,
        source: ([10, 0, 0, 3], 1).into(),
        destination: ([10, 0, 0, 2], 80).into(),
        source_workload: web,
        destination_workload: orders,
        principal: None,
        method: Some(b"DELETE"),
        path: Some(b"/v1"),
        host: Some(b"orders"),
        host_port: None,
        sni: None,
        status: Some(403),
        decision: Duration::ZERO,
        duration: Duration::ZERO,
        revoked: false,
    };
    connection.request(&event, Some(id));
    assert!(bench.socket("GET", "/flows").body.contains(&id.to_string()));
    let answer = bench.socket("GET", &format!("/explain/{id}"));
    let told: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(told["decision"]["http.request.method"], "DELETE");
    assert_eq!(told["now"]["verdict"], "deny", "{told}");
    assert!(told["text"].as_str().unwrap().contains("reads"), "the nearest rule is named: {told}");
    assert_eq!(bench.socket("GET", "/explain/00000000000000000000000000000000").status, 404);
    assert_eq!(bench.socket("GET", "/explain/x").status, 400);
    assert_eq!(bench.socket("GET", "/nothing").status, 404);
}

#[test]
fn clients_that_never_end_take_no_one_elses_seat() {
    let bench = Bench::new();
    let address = bench.server.tcp().unwrap();
    let _held: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert_eq!(bench.socket("GET", "/healthz").status, 200, "the operator has seats of their own");
}

#[test]
fn an_endless_head_is_cut() {
    let bench = Bench::new();
    let mut stream = TcpStream::connect(bench.server.tcp().unwrap()).unwrap();
    let _ = stream.write_all(format!("GET /healthz HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(1 << 20)).as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}
