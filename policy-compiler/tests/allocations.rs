//! A decision allocates nothing once a thread has warmed up, whatever the rule looks at.

use std::sync::Arc;

use eastwall_policy::dialect;
use eastwall_policy::facts::{Connection, Direction, Fact, Field, Headers, Protocol, Request, Transport};
use eastwall_policy::registry::{DeclaredPort, Labels, Registry, Workload};
use eastwall_policy::source;
use eastwall_policy::verdict::Action;
use eastwall_policy::world::World;

const POLICY: &str = r#"
apiVersion: eastwall.dev/v1alpha1
kind: FirewallPolicy
metadata: {name: orders, namespace: shop}
spec:
  subject: [{serviceAccount: orders}]
  ingress:
  - {name: reads, from: [{serviceAccount: web}], http: [{methods: [GET], paths: ["/orders/{id}", /exact, "/tree/**"]}]}
  - {name: expression, from: [{serviceAccount: web}], http: [{paths: ["regex:/v[0-9]+/x"]}]}
  - name: fields
    from: [{serviceAccount: web}]
    http:
    - methods: [POST]
      hosts: ["*.shop"]
      headers: [{name: x-tenant, values: [acme, globex]}]
      query: [{name: q, values: ["a b"]}]
  - {name: never, action: Deny, from: [{any: true}], ports: [http], http: [{paths: ["/debug/**", /secret]}]}
---
apiVersion: eastwall.dev/v1alpha1
kind: FirewallPolicy
metadata: {name: next, namespace: shop}
spec:
  mode: Audit
  replaces: [orders]
  subject: [{serviceAccount: orders}]
  ingress:
  - {name: reads, from: [{serviceAccount: web}], http: [{methods: [GET], paths: ["/orders/{id}"]}]}
"#;

fn workload(account: &str, ip: [u8; 4]) -> Workload {
    Workload {
        name: account.into(),
        namespace: "shop".into(),
        service_account: account.into(),
        labels: Labels::default(),
        namespace_labels: Labels::default(),
        annotations: Labels::default(),
        namespace_annotations: Labels::default(),
        node: None,
        host_network: false,
        netns: None,
        ips: vec![ip.into()],
        ports: vec![DeclaredPort {
            name: Some("http".into()),
            port: 8080,
            transport: Transport::Tcp,
            application: None,
        }],
        probes: Vec::new(),
    }
}

#[test]
fn a_decision_allocates_nothing() {
    let compiled = dialect::compile(&source::parse("test.yaml", &POLICY.into()));
    assert!(compiled.refused.is_empty(), "{:?}", compiled.diagnostics);
    let registry =
        Registry::new(vec![workload("web", [10, 0, 0, 1]), workload("orders", [10, 0, 0, 2])], vec![], vec![]);
    let world = World::new(compiled.model, Arc::new(registry), 1);
    let flow = world.flow(&Connection {
        source: world.source([10, 0, 0, 1].into()),
        destination: world.destination([10, 0, 0, 2].into()),
        port: 8080,
        transport: Transport::Tcp,
        service: None,
        fqdn: None,
        direction: Some(Direction::Inbound),
    });
    let lines = b"x-tenantacme, globex";
    let fields = [Field { name: (0, 8), value: (8, 20) }];
    let headers = Headers { bytes: lines, fields: &fields };
    let base = Request {
        host: Fact::Known(b"api.shop"),
        headers: Fact::Known(headers),
        query: Fact::Known(b"q=a%20b"),
        upgrade: Fact::Absent,
        jwt: Fact::Absent,
        mesh_jwt: Fact::Absent,
        ..Request::opaque(Fact::Known(Protocol::Http), 0)
    };
    let asked = |method: &'static [u8], path: &'static [u8]| Request {
        method: Fact::Known(method),
        path: Fact::Known(path),
        ..base
    };
    let requests = [
        (asked(b"GET", b"/orders/7"), Action::Allow),
        (asked(b"GET", b"/exact"), Action::Allow),
        (asked(b"GET", b"/tree/a/b/c"), Action::Allow),
        (asked(b"GET", b"/v12/x"), Action::Allow),
        (asked(b"POST", b"/anything"), Action::Allow),
        (asked(b"DELETE", b"/orders/7"), Action::Deny),
        (asked(b"GET", b"/debug/vars"), Action::Deny),
        (asked(b"GET", b"/secret/"), Action::Deny),
        (Request::opaque(Fact::Unknown, 0), Action::Deny),
    ];
    let counted = allocation_counter::measure(|| drop(std::hint::black_box(Box::new(1))));
    assert_eq!(counted.count_total, 1, "the counter counts");
    for (request, expected) in &requests {
        for warm in [true, false] {
            let mut verdict = None;
            let allocated = allocation_counter::measure(|| verdict = Some(world.request_verdict(&flow, request)));
            let verdict = verdict.unwrap();
            assert_eq!(verdict.action, *expected, "{request:?}");
            assert!(verdict.audit.is_some());
            assert!(warm || allocated.count_total == 0, "{allocated:?} for {request:?}");
        }
    }
}
