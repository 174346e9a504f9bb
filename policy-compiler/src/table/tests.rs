//! The shape of the table: what is shared, what is found by key, what stays small.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Size, Table};
use crate::dialect;
use crate::facts::{Connection, Direction, Fact, Protocol, Request, Transport};
use crate::model::{Model, Policy};
use crate::registry::{DeclaredPort, Labels, Registry, Workload};
use crate::source;
use crate::verdict::Action;
use crate::world::{Flow, World};

fn workload(account: &str, ip: impl Into<IpAddr>) -> Workload {
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

/// `orders` at 10.0.0.1, and callers `sa-0`, `sa-1`, ... from 10.1.0.0 on.
fn registry(callers: u32) -> Arc<Registry> {
    let mut workloads = vec![workload("orders", [10, 0, 0, 1])];
    workloads.extend((0..callers).map(|index| workload(&format!("sa-{index}"), caller(index))));
    Arc::new(Registry::new(workloads, vec![], vec![]))
}

fn caller(index: u32) -> IpAddr {
    std::net::Ipv4Addr::from(0x0A01_0000 + index).into()
}

fn world(rules: &str, registry: Arc<Registry>) -> World {
    let text = format!(
        "apiVersion: eastwall.dev/v1alpha1\nkind: FirewallPolicy\nmetadata: {{name: orders, namespace: shop}}\n\
         spec:\n  subject: [{{serviceAccount: orders}}]\n  ingress:\n{rules}"
    );
    let compiled = dialect::compile(&source::parse("test.yaml", &text.into()));
    assert!(compiled.refused.is_empty(), "{:?}", compiled.diagnostics);
    World::new(compiled.model, registry, 1)
}

fn flow(world: &World, from: IpAddr) -> Flow {
    world.flow(&Connection {
        source: world.source(from),
        destination: world.destination([10, 0, 0, 1].into()),
        port: 8080,
        transport: Transport::Tcp,
        service: None,
        fqdn: None,
        direction: Some(Direction::Inbound),
    })
}

fn ask(world: &World, flow: &Flow, method: &str, path: Fact<&[u8]>) -> (Action, Option<Arc<str>>) {
    let request = Request {
        method: Fact::Known(method.as_bytes()),
        path,
        query: Fact::Absent,
        headers: Fact::Absent,
        upgrade: Fact::Absent,
        ..Request::opaque(Fact::Known(Protocol::Http), 0)
    };
    let verdict = world.request_verdict(flow, &request);
    (verdict.action, verdict.rule.and_then(|id| world.named(id)?.rule.map(Into::into)))
}

#[test]
fn a_thousand_sources_with_a_thousand_routes_are_not_multiplied() {
    let sources: Vec<String> = (0..1000).map(|index| format!("{{serviceAccount: sa-{index}}}")).collect();
    let paths: Vec<String> = (0..1000).map(|index| format!("\"/route-{index}/{{id}}\"")).collect();
    let rule = format!(
        "  - {{name: mesh, from: [{}], http: [{{methods: [GET], paths: [{}]}}]}}\n",
        sources.join(",\n      "),
        paths.join(",\n      ")
    );
    let world = world(&rule, registry(1001));
    let Size { gates, clauses, postings, .. } = world.table().size();
    assert_eq!((gates, clauses), (1, 1));
    assert!(postings <= 1001, "{postings}");
    for index in [0, 17, 999] {
        let path = format!("/route-{}/7", 999 - index);
        let inside = flow(&world, caller(index));
        assert_eq!(ask(&world, &inside, "GET", Fact::Known(path.as_bytes())).0, Action::Allow);
        assert_eq!(ask(&world, &inside, "PUT", Fact::Known(path.as_bytes())).0, Action::Deny);
        assert_eq!(ask(&world, &inside, "GET", Fact::Known(b"/route-1000/7")).0, Action::Deny);
    }
    let outside = flow(&world, caller(1000));
    assert_eq!(ask(&world, &outside, "GET", Fact::Known(b"/route-1/7")).0, Action::Deny);
}

#[test]
fn of_several_rules_the_first_is_named_wherever_it_was_found() {
    let world = world(
        "  - {name: tree, from: [{serviceAccount: sa-0}], http: [{paths: [\"/a/**\"]}]}\n\
         \x20 - {name: exact, from: [{serviceAccount: sa-0}], http: [{paths: [/a/b]}]}\n\
         \x20 - {name: template, from: [{serviceAccount: sa-0}], http: [{paths: [\"/{x}/b\"]}]}\n\
         \x20 - {name: any, from: [{serviceAccount: sa-0}], http: [{}]}\n",
        registry(1),
    );
    let flow = flow(&world, caller(0));
    for (path, rule) in [("/a/b", "tree"), ("/c/b", "template"), ("/c/d", "any"), ("/a", "tree")] {
        let named = ask(&world, &flow, "GET", Fact::Known(path.as_bytes()));
        assert_eq!(named, (Action::Allow, Some(rule.into())), "{path}");
    }
}

#[test]
fn an_unknown_path_meets_every_deny_and_no_allow() {
    let rules = "  - {name: secret, action: Deny, from: [{serviceAccount: sa-0}], ports: [http], http: [{paths: [/secret]}]}\n\
                 \x20 - {name: read, from: [{any: true}], http: [{paths: [\"/**\"]}]}\n";
    let world = world(rules, registry(2));
    let denied = flow(&world, caller(0));
    assert_eq!(ask(&world, &denied, "GET", Fact::Unknown), (Action::Deny, Some("secret".into())));
    assert_eq!(ask(&world, &denied, "GET", Fact::Known(b"/secret/")), (Action::Deny, Some("secret".into())));
    let other = flow(&world, caller(1));
    assert_eq!(ask(&world, &other, "GET", Fact::Unknown), (Action::Deny, None));
    assert_eq!(ask(&world, &other, "GET", Fact::Known(b"/secret")), (Action::Allow, Some("read".into())));
}

#[test]
fn rules_for_other_peers_are_no_part_of_a_flow() {
    let mut rules = String::new();
    for index in 0..500 {
        let _ = writeln!(
            rules,
            "  - {{name: r{index}, from: [{{serviceAccount: sa-{index}}}], http: [{{paths: [/same]}}]}}"
        );
    }
    let world = world(&rules, registry(501));
    for index in [0, 250, 499] {
        let flow = flow(&world, caller(index));
        let named = ask(&world, &flow, "GET", Fact::Known(b"/same"));
        assert_eq!(named, (Action::Allow, Some(format!("r{index}").into())));
    }
    assert_eq!(ask(&world, &flow(&world, caller(500)), "GET", Fact::Known(b"/same")), (Action::Deny, None));
}

/// A thousand sources and a thousand routes in one rule are two thousand things, not a million.
#[test]
fn one_rule_of_many_sources_and_routes_stays_small() {
    let accounts: Vec<String> = (0..1000).map(|number| format!("{{serviceAccount: caller-{number}}}")).collect();
    let paths: Vec<String> = (0..1000).map(|number| format!("/api/v1/resource-{number}/{{id}}")).collect();
    let text = format!(
        "apiVersion: eastwall.dev/v1alpha1\nkind: FirewallPolicy\nmetadata: {{name: a, namespace: shop}}\nspec:\n  subject: [{{serviceAccount: orders}}]\n  ingress:\n  - {{name: all, from: [{}], http: [{{methods: [GET], paths: [{}]}}]}}\n",
        accounts.join(", "),
        paths.iter().map(|path| format!("\"{path}\"")).collect::<Vec<_>>().join(", ")
    );
    let compiled = dialect::compile(&source::parse("p.yaml", &text.into()));
    assert!(!compiled.has_errors(), "{:?}", compiled.diagnostics);
    let size = Table::build(&compiled.model).size();
    assert_eq!((size.rules, size.clauses, size.gates), (1, 1, 1));
    assert!(size.postings <= 2002, "{size:?}");
    assert!(size.bytes < 1_000_000, "{size:?}");
}

/// Policies that say of `orders` who may read what, two rules each.
fn documents(count: usize, version: usize) -> Vec<Arc<Policy>> {
    let document = |number: usize| {
        format!(
            "apiVersion: eastwall.dev/v1alpha1\nkind: FirewallPolicy\nmetadata: {{name: p{number:03}, namespace: shop}}\n\
             spec:\n  subject: [{{serviceAccount: orders}}]\n  ingress:\n\
             \x20 - {{name: one, from: [{{serviceAccount: sa-{number}}}], http: [{{paths: [/v{version}/{number}]}}]}}\n\
             \x20 - {{name: two, from: [{{serviceAccount: sa-0}}], http: [{{paths: [/v{version}/{number}/two]}}]}}\n"
        )
    };
    let text = (0..count).map(document).collect::<Vec<_>>().join("---\n");
    let compiled = dialect::compile(&source::parse("test.yaml", &text.into()));
    assert!(!compiled.has_errors(), "{:?}", compiled.diagnostics);
    compiled.model.policies.clone()
}

#[test]
fn of_a_crowd_what_has_not_changed_is_not_indexed_again() {
    const COUNT: usize = 40;
    let registry = registry(1);
    let mut policies = documents(COUNT, 0);
    let model = |policies: &[Arc<Policy>]| Arc::new(Model { policies: policies.to_vec(), ..Model::default() });
    let mut world = World::new(model(&policies), Arc::clone(&registry), 1);
    let alone = world.table().size();
    assert_eq!(alone.scopes, 1);
    for version in 1..100 {
        // The same one five times, and then the next.
        let place = version / 5 % COUNT;
        policies[place] = documents(COUNT, version).swap_remove(place);
        let indexed = world.table().units[0].content().clone();
        world = world.with_policies(model(&policies), Arc::clone(&registry), 1);
        let Size { rules, scopes, clauses, .. } = world.table().size();
        assert_eq!(rules, alone.rules);
        let is_kept = world.table().units[0].content().is_index_of(&indexed);
        assert_eq!(scopes, if is_kept { 2 } else { 1 }, "{version}");
        assert!(is_kept || version % 5 == 0, "{version}: for a policy that had changed before");
        assert!(clauses <= alone.clauses * 9 / 8, "{version}: {clauses}");
        let flow = flow(&world, caller(0));
        for (path, action) in [(version, Action::Allow), (version - 1, Action::Deny)]
            .map(|(version, action)| (format!("/v{version}/{place}/two"), action))
        {
            assert_eq!(ask(&world, &flow, "GET", Fact::Known(path.as_bytes())).0, action, "{path}");
        }
    }
}
