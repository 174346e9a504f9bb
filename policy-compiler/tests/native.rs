//! The examples of the native schema compile, and mean what they say.

use std::path::PathBuf;
use std::sync::Arc;

use eastwall_policy::diagnostic::{Code, Style, as_text};
use eastwall_policy::dialect::{Compiled, compile};
use eastwall_policy::model::{Mode, Tier};
use eastwall_policy::source;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/native")
}

fn errors(compiled: &Compiled) -> String {
    compiled.diagnostics.iter().filter(|d| d.is_error()).map(|d| as_text(d, Style::Plain)).collect()
}

fn text(document: &str) -> Compiled {
    let document: Arc<str> = document.into();
    compile(&source::parse("p.yaml", &document))
}

#[test]
fn every_example_compiles() {
    for name in ["ingress", "egress", "admin", "baseline", "audit", "test", "settings"] {
        let compiled = compile(&source::read(&[folder().join(format!("{name}.yaml"))]));
        assert_eq!(errors(&compiled), "", "{name}");
        assert!(compiled.refused.is_empty() && compiled.passed_over.is_empty());
    }
}

#[test]
fn examples_mean_what_they_say() {
    let of = |name: &str| compile(&source::read(&[folder().join(name)]));
    let ingress = of("ingress.yaml");
    let orders = &ingress.model.policies[0];
    assert_eq!((orders.tier, orders.closes.inbound, orders.closes.outbound), (Tier::Application, true, false));
    let names: Vec<&str> = orders.rules.iter().map(|rule| &*rule.name).collect();
    let expected = [
        "web-reads",
        "back-office",
        "live-feed",
        "staff-tool",
        "billing-rpc",
        "replication",
        "legacy-mtls",
        "no-debug",
    ];
    assert_eq!(names, expected);
    assert_eq!(orders.rules[1].expires, Some(1_801_353_600));
    assert_eq!(orders.rules[0].location.line, 8);

    let admin = of("admin.yaml");
    let doors = &admin.model.policies[0];
    assert_eq!((doors.tier, doors.closes.inbound || doors.closes.outbound), (Tier::Admin, false));

    let baseline = of("baseline.yaml");
    let closed = &baseline.model.policies[0];
    assert_eq!(
        (closed.tier, closed.closes.inbound && closed.closes.outbound, closed.rules.len()),
        (Tier::Baseline, true, 0)
    );

    let audit = of("audit.yaml");
    let next = audit.model.policies.iter().find(|policy| &*policy.name.name == "orders-next").unwrap();
    assert_eq!((next.mode, next.replaces[0].to_string()), (Mode::Audit, "FirewallPolicy shop/orders".to_owned()));

    let test = of("test.yaml");
    assert_eq!((test.tests[0].cases.len(), test.tests[0].now), (4, Some(1_796_083_200)));
    assert_eq!(test.tests[0].cases[0].request["dst"]["port"], 8080);
    assert!(test.tests[0].registry.as_ref().unwrap().find_workload("shop", "orders").is_some());

    let settings = of("settings.yaml");
    assert_eq!(settings.model.settings.node_networks.len(), 1);
    assert_eq!(settings.model.settings.istio.trust_domain_aliases, ["old.local"]);
}

#[test]
fn what_the_proxy_cannot_see_yet_is_told() {
    for rule in [
        "{to: [{fqdn: api.stripe.com}], ports: [443], tls: [{}]}",
        "{to: [{cidr: 10.0.0.0/8}], ports: [53], dns: [{names: [example.com]}]}",
    ] {
        let compiled = text(&format!(
            "apiVersion: eastwall.dev/v1alpha1\nkind: FirewallPolicy\nmetadata: {{name: a, namespace: b}}\nspec:\n  subject: [{{any: true}}]\n  egress:\n  - {rule}\n"
        ));
        let found: Vec<Code> = compiled.diagnostics.iter().map(|d| d.code).collect();
        assert_eq!(found, [Code::NotEnforced], "{rule}");
        assert!(compiled.diagnostics[0].help.as_ref().unwrap().contains("the proxy"));
    }
}
