//! What a world says beside allow and deny: of connections before their requests, of the shadow table, and of who
//! decided.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use std::sync::Arc;

use eastwall_policy::facts::{Connection, Direction, Transport};
use eastwall_policy::flow::{Answer, Question};
use eastwall_policy::registry::Registry;
use eastwall_policy::verdict::{Action, Reason};
use eastwall_policy::world::{ConnectionVerdict, World};
use eastwall_policy::{dialect, source};

const WORKLOADS: &str = "
- {name: orders, namespace: shop, serviceAccount: orders, ips: [10.0.0.2], ports: [{name: http, port: 8080}, {name: redis, port: 6379}]}
- {name: web, namespace: shop, serviceAccount: web, ips: [10.0.0.3]}
- {name: clerk, namespace: shop, serviceAccount: clerk, ips: [10.0.0.4]}
";

const ORDERS: &str = "
apiVersion: eastwall.dev/v1alpha1
kind: FirewallPolicy
metadata: {name: orders, namespace: shop}
spec:
  subject: [{serviceAccount: orders}]
  ingress:
  - {name: reads, from: [{serviceAccount: web}], ports: [8080], http: [{methods: [GET]}]}
  - {name: cache, from: [{serviceAccount: web}], ports: [6379], tcp: {}, expires: \"2027-01-31T00:00:00Z\"}
";

const NEXT: &str = "
---
apiVersion: eastwall.dev/v1alpha1
kind: FirewallPolicy
metadata: {name: orders-next, namespace: shop}
spec:
  mode: Audit
  replaces: [orders]
  subject: [{serviceAccount: orders}]
  ingress:
  - {name: clerk-reads, from: [{serviceAccount: clerk}], ports: [8080], http: [{methods: [GET]}]}
";

fn world(policies: &str) -> World {
    let compiled = dialect::compile(&source::parse("p.yaml", &policies.into()));
    let (registry, diagnostics) = Registry::parse("w.yaml", &WORKLOADS.into());
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    World::new(compiled.model, Arc::new(registry), 1)
}

fn answer(world: &World, line: &str) -> Answer {
    Question::parse(line).unwrap().answer(world, 0).unwrap()
}

#[test]
fn a_connection_is_judged_before_its_requests() {
    let world = world(ORDERS);
    let expires = 1_801_353_600;
    for (source, port, now, expected) in [
        ("10.0.0.3", 8080, 0, "inspect"),
        ("10.0.0.3", 6379, 0, "opaque"),
        ("10.0.0.3", 6379, expires - 1, "opaque"),
        ("10.0.0.3", 6379, expires, "deny"),
        ("10.0.0.4", 8080, 0, "deny"),
        // Nobody knows who is there: no request of theirs could surely be allowed.
        ("10.0.0.99", 8080, 0, "deny"),
        ("203.0.113.1", 6379, 0, "deny"),
    ] {
        let connection = Connection {
            source: world.source(source.parse().unwrap()),
            destination: world.destination([10, 0, 0, 2].into()),
            port,
            transport: Transport::Tcp,
            service: None,
            fqdn: None,
            direction: Some(Direction::Inbound),
        };
        let said = match world.connection_verdict(&world.flow(&connection), now) {
            ConnectionVerdict::Deny(verdict) => {
                assert_eq!((verdict.action, verdict.reason), (Action::Deny, Reason::NoRule));
                "deny"
            }
            ConnectionVerdict::Opaque(verdict) => {
                assert_eq!(world.named(verdict.rule.unwrap()).unwrap().rule, Some("cache"));
                "opaque"
            }
            ConnectionVerdict::Inspect => "inspect",
        };
        assert_eq!(said, expected, "{source}:{port} at {now}");
    }
}

#[test]
fn the_shadow_table_differs_in_both_directions() {
    let world = world(&format!("{ORDERS}{NEXT}"));
    let get = |ip: &str| {
        answer(
            &world,
            &format!(
                r#"{{"src": {{"ip": "{ip}"}}, "dst": {{"workload": "shop/orders", "port": 8080}}, "method": "GET", "path": "/"}}"#
            ),
        )
    };
    let (web, clerk) = (get("10.0.0.3"), get("10.0.0.4"));
    assert_eq!((web.verdict, web.rule.as_deref()), (Action::Allow, Some("reads")));
    assert_eq!(
        (web.audit.verdict, web.audit.policy.as_deref()),
        (Action::Deny, Some("FirewallPolicy shop/orders-next"))
    );
    assert_eq!((clerk.verdict, clerk.rule), (Action::Deny, None));
    assert_eq!((clerk.audit.verdict, clerk.audit.rule.as_deref()), (Action::Allow, Some("clerk-reads")));
}

#[test]
fn a_broken_document_closes_and_holds_back_no_other() {
    let broken = "
---
apiVersion: eastwall.dev/v1alpha1
kind: FirewallPolicy
metadata: {name: broken, namespace: shop}
spec:
  subject: [{any: true}]
  ingress: [{name: x, from: [{serviceAccount: clerk}], htp: [{}]}]
";
    let world = world(&format!("{ORDERS}{broken}"));
    let get = |ip: &str, to: &str| {
        let line = format!(
            r#"{{"src": {{"ip": "{ip}"}}, "dst": {{"ip": "{to}", "port": 8080}}, "direction": "inbound", "method": "GET", "path": "/"}}"#
        );
        let answer = answer(&world, &line);
        (answer.verdict, answer.reason)
    };
    assert_eq!(get("10.0.0.3", "10.0.0.2"), (Action::Allow, Reason::AllowRule), "another document's rule stands");
    assert_eq!(get("10.0.0.4", "10.0.0.2"), (Action::Deny, Reason::BrokenPolicy));
    assert_eq!(get("10.0.0.3", "10.0.0.4"), (Action::Deny, Reason::BrokenPolicy), "what it selects is closed");
}
