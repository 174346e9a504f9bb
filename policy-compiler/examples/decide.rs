//! How long one decision takes, and how long compiling does, at 10 to 100,000 rules: all in one scope, and 100 a
//! scope. `cargo run --release -p eastwall-policy --example decide [RULES]`
//!
//! Every request is another (source, path, method); half of them are denied. Times include reading the clock.
#![allow(clippy::indexing_slicing, reason = "a measurement may stop when it is wrong")]

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use eastwall_policy::dialect;
use eastwall_policy::facts::{Connection, Direction, Fact, Protocol, Request, Transport};
use eastwall_policy::registry::{DeclaredPort, Labels, Registry, Workload};
use eastwall_policy::source;
use eastwall_policy::verdict::Action;
use eastwall_policy::world::{Flow, World};

const METHODS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];
const REQUESTS: usize = 1_000_000;

fn main() {
    let sizes = match std::env::args().nth(1).and_then(|rules| rules.parse().ok()) {
        Some(rules) => vec![rules],
        None => vec![10, 1_000, 10_000, 100_000],
    };
    println!(
        "rules\tlayout\tdocuments\tread_ms\ttable_ms\tregistry_us\tflow_p50_ns\tdecide_p50_ns\tp99_ns\tp999_ns\tallowed\tsize"
    );
    for rules in sizes {
        for one_scope in [true, false] {
            measure(rules, one_scope);
        }
    }
}

fn measure(rules: usize, one_scope: bool) {
    let documents = rules.div_ceil(100);
    let text: Arc<str> = policies(rules, documents, one_scope).into();
    let started = Instant::now();
    let compiled = dialect::compile(&source::parse("bench.yaml", &text));
    let read = started.elapsed();
    assert!(compiled.refused.is_empty(), "{:?}", compiled.diagnostics.first());

    let sources = (rules / 10).clamp(10, 1_000);
    let destinations = if one_scope { 1 } else { documents };
    let registry = Arc::new(registry(sources, destinations));
    let started = Instant::now();
    let world = World::new(Arc::clone(&compiled.model), Arc::clone(&registry), 1);
    let table = started.elapsed();
    let started = Instant::now();
    let world = world.with_registry(registry, 2);
    let joined = started.elapsed();

    let mut random = Random(rules as u64 | 1);
    let mut flow_times = Vec::with_capacity(REQUESTS);
    let mut times = Vec::with_capacity(REQUESTS);
    let mut allowed = 0;
    let mut path = Vec::new();
    for _ in 0..REQUESTS {
        // Half the requests follow a rule; the others ask as somebody, or for something, that it does not name.
        let rule = random.below(rules);
        let mut source = source_of(rule, sources);
        let mut method = METHODS[rule % METHODS.len()];
        path.clear();
        path_of(rule, random.below(1 << 30), &mut path);
        if random.below(2) == 0 {
            match random.below(3) {
                0 => source = random.below(sources),
                1 => method = METHODS[random.below(METHODS.len())],
                _ => path.extend_from_slice(b"/none/of/these"),
            }
        }
        let destination = if one_scope { 0 } else { rule / 100 };
        let started = Instant::now();
        let flow = flow(&world, source, destination);
        flow_times.push(started.elapsed());
        let request = Request {
            method: Fact::Known(method.as_bytes()),
            path: Fact::Known(&path),
            query: Fact::Absent,
            host: Fact::Known(b"orders.shop"),
            headers: Fact::Absent,
            upgrade: Fact::Absent,
            jwt: Fact::Absent,
            ..Request::opaque(Fact::Known(Protocol::Http), 0)
        };
        let started = Instant::now();
        let verdict = world.request_verdict(&flow, &request);
        times.push(started.elapsed());
        allowed += usize::from(verdict.action == Action::Allow);
    }
    let layout = if one_scope { "one" } else { "100" };
    println!(
        "{rules}\t{layout}\t{documents}\t{:.1}\t{:.1}\t{:.0}\t{}\t{}\t{}\t{}\t{:.2}\t{:?}",
        read.as_secs_f64() * 1e3,
        table.as_secs_f64() * 1e3,
        joined.as_secs_f64() * 1e6,
        percentile(&mut flow_times, 0.5),
        percentile(&mut times, 0.5),
        percentile(&mut times, 0.99),
        percentile(&mut times, 0.999),
        allowed as f64 / REQUESTS as f64,
        world.table().size(),
    );
}

fn percentile(times: &mut [Duration], part: f64) -> u128 {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * part) as usize].as_nanos()
}

fn source_of(rule: usize, sources: usize) -> usize {
    rule * 7 % sources
}

/// A third each: exact, below a prefix, with a variable.
fn path_of(rule: usize, salt: usize, path: &mut Vec<u8>) {
    use std::io::Write as _;
    let written = match rule % 3 {
        0 => write!(path, "/api/v1/exact-{rule}"),
        1 => write!(path, "/api/v1/tree-{rule}/{salt}/leaf"),
        _ => write!(path, "/api/v1/items-{rule}/{salt}"),
    };
    assert!(written.is_ok());
}

fn policies(rules: usize, documents: usize, one_scope: bool) -> String {
    let sources = (rules / 10).clamp(10, 1_000);
    let mut text = String::new();
    for document in 0..documents {
        let subject = if one_scope { 0 } else { document };
        let _ = write!(
            text,
            "apiVersion: eastwall.dev/v1alpha1\nkind: FirewallPolicy\nmetadata: {{name: p{document}, namespace: shop}}\n\
             spec:\n  subject: [{{serviceAccount: app-{subject}}}]\n  ingress:\n"
        );
        for rule in (document * 100)..rules.min(document * 100 + 100) {
            let path = match rule % 3 {
                0 => format!("/api/v1/exact-{rule}"),
                1 => format!("/api/v1/tree-{rule}/**"),
                _ => format!("/api/v1/items-{rule}/{{id}}"),
            };
            let (source, method) = (source_of(rule, sources), METHODS[rule % METHODS.len()]);
            let _ = writeln!(
                text,
                "  - {{name: r{rule}, from: [{{serviceAccount: sa-{source}}}], http: [{{methods: [{method}], paths: [\"{path}\"]}}]}}"
            );
        }
        text.push_str("---\n");
    }
    text
}

fn source_address(index: usize) -> IpAddr {
    Ipv4Addr::from(0x0A01_0000 + u32::try_from(index).unwrap_or(0)).into()
}

fn destination_address(index: usize) -> IpAddr {
    Ipv4Addr::from(0x0A02_0000 + u32::try_from(index).unwrap_or(0)).into()
}

fn registry(sources: usize, destinations: usize) -> Registry {
    let workload = |name: String, account: String, ip: IpAddr| Workload {
        name: name.into(),
        namespace: "shop".into(),
        service_account: account.into(),
        labels: Labels::default(),
        namespace_labels: Labels::default(),
        annotations: Labels::default(),
        namespace_annotations: Labels::default(),
        node: None,
        host_network: false,
        netns: None,
        ips: vec![ip],
        ports: vec![DeclaredPort {
            name: Some("http".into()),
            port: 8080,
            transport: Transport::Tcp,
            application: None,
        }],
        probes: Vec::new(),
    };
    let callers = (0..sources).map(|i| workload(format!("caller-{i}"), format!("sa-{i}"), source_address(i)));
    let apps = (0..destinations).map(|i| workload(format!("app-{i}"), format!("app-{i}"), destination_address(i)));
    Registry::new(callers.chain(apps).collect(), Vec::new(), Vec::new())
}

fn flow(world: &World, source: usize, destination: usize) -> Flow {
    world.flow(&Connection {
        source: world.source(source_address(source)),
        destination: world.destination(destination_address(destination)),
        port: 8080,
        transport: Transport::Tcp,
        service: None,
        fqdn: None,
        direction: Some(Direction::Inbound),
    })
}

/// A small generator, so that runs repeat (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap_or(0)
    }
}
