//! Any text as documents of Istio, under settings that the first byte chooses: findings or policies, never a panic. What
//! is accepted compiles to a table that says what the interpreter says, and `Hardened` allows nothing that `Exact` does
//! not.
#![no_main]

use std::sync::Arc;

use eastwall_policy::dialect;
use eastwall_policy::flow::Question;
use eastwall_policy::model::interpret;
use eastwall_policy::registry::Registry;
use eastwall_policy::source;
use eastwall_policy::verdict::Action;
use eastwall_policy::world::World;
use libfuzzer_sys::{Corpus, fuzz_target};

const WORKLOADS: &str = "
- {name: httpbin, namespace: foo, serviceAccount: httpbin, labels: {app: httpbin}, ips: [10.0.0.1], ports: [{name: http, port: 8080}]}
- {name: sleep, namespace: bar, serviceAccount: sleep, ips: [10.0.0.2]}
";

const QUESTIONS: &[&str] = &[
    r#"{"src": {"ip": "10.0.0.2"}, "dst": {"workload": "foo/httpbin", "port": 8080}, "method": "GET", "path": "/a/b/", "host": "x.example.com:8080"}"#,
    r#"{"src": {"ip": "10.0.0.2", "principal": "spiffe://cluster.local/ns/bar/sa/sleep"}, "dst": {"workload": "foo/httpbin", "port": 8080}, "sni": "a.b",
        "method": "POST", "path": "/a", "host": "example.com", "headers": [["x-a", "1"], ["x-a", "2"], ["x-forwarded-for", "1.2.3.4, 10.0.0.9"]],
        "jwt": {"iss": "i", "sub": "s", "aud": ["a"], "scope": "r w", "custom": "one two", "n": 5}}"#,
    r#"{"src": {"ip": "192.0.2.1"}, "dst": {"workload": "foo/httpbin", "port": 9000}, "protocol": "tcp"}"#,
    r#"{"src": {"ip": "10.0.0.99"}, "dst": {"workload": "foo/httpbin", "port": 8080}, "protocol": "http", "jwt": null}"#,
];

fuzz_target!(|data: &[u8]| -> Corpus {
    let [choice, text @ ..] = data else { return Corpus::Reject };
    let Ok(text) = std::str::from_utf8(text) else { return Corpus::Reject };
    let text: Arc<str> = text.into();
    let registry = Arc::new(Registry::parse("workloads.yaml", &WORKLOADS.into()).0);
    let worlds = ["Exact", "Hardened"].map(|how| {
        let documents = source::parse("settings.yaml", &settings(*choice, how).into()).and(source::parse("policies.yaml", &text));
        World::new(dialect::compile(&documents).model, Arc::clone(&registry), 1)
    });
    for line in QUESTIONS {
        let question = Question::parse(line).expect("a question of this file");
        let verdicts = worlds.each_ref().map(|world| {
            let asked = question.ask(world, 0).expect("a workload of this file");
            let judged = asked.judge(world).verdict;
            if let Ok(request) = asked.request() {
                let expected = interpret::request_verdict(world.model(), &registry, &asked.connection(), &request);
                assert_eq!(judged, expected, "{line}");
            }
            judged.action
        });
        if let [Action::Deny | Action::Reject, Action::Allow] = verdicts {
            panic!("hardened, this is allowed: {line}");
        }
    }
    Corpus::Keep
});

fn settings(choice: u8, compatibility: &str) -> String {
    let pick = |of: &[&str], place: u8| of[usize::from(choice / place) % of.len()].to_owned();
    let point = pick(&["Sidecar", "Waypoint", "Ztunnel"], 1);
    let normalization = pick(&["None", "Base", "MergeSlashes", "DecodeAndMergeSlashes"], 3);
    let trusted = pick(&["0", "1", "2"], 12);
    let aliases = pick(&["[old.local]", "[a, b]"], 36);
    format!(
        "apiVersion: eastwall.dev/v1alpha1\nkind: DialectSettings\nmetadata: {{name: cluster}}\nspec:\n  istio: {{enforcementPoint: {point}, \
         pathNormalization: {normalization}, trustedProxies: {trusted}, trustDomainAliases: {aliases}, compatibility: {compatibility}}}\n"
    )
}
