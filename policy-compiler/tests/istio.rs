//! What documents of Istio come to under each setting of the dialect: verdicts, warnings, and what stays in force.

use std::sync::Arc;

use eastwall_policy::dialect::{Compiled, LastGood, compile, compile_onto};
use eastwall_policy::flow::Question;
use eastwall_policy::model::{JwtRule, KeysFrom, TokenPlace};
use eastwall_policy::registry::Registry;
use eastwall_policy::source::{self, Sources};
use eastwall_policy::world::World;
use serde_json::{Value, json};

const WORKLOADS: &str = "
- {name: httpbin, namespace: foo, serviceAccount: httpbin, labels: {app: httpbin}, ips: [10.0.0.1], ports: [{name: http, port: 8080}], node: n1, probes: [{port: 8080, path: /healthz}]}
- {name: other, namespace: foo, serviceAccount: other, labels: {app: other}, ips: [10.0.0.3]}
- {name: sleep, namespace: bar, serviceAccount: sleep, ips: [10.0.0.2]}
- {kind: Service, name: web, namespace: foo, ips: [10.96.0.1], endpoints: [foo/httpbin], ports: [{port: 80, targetPort: 8080}]}
- {kind: Node, name: n1, ips: [192.168.1.1]}
";

fn document(kind: &str, metadata: &str, spec: &str) -> String {
    format!("apiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{{metadata}}}\nspec: {spec}\n---\n")
}

fn authorization(spec: &str) -> String {
    document("AuthorizationPolicy", "name: p, namespace: foo", spec)
}

fn settings(istio: &str) -> String {
    format!(
        "apiVersion: eastwall.dev/v1alpha1\nkind: DialectSettings\nmetadata: {{name: cluster}}\nspec: {{istio: {istio}}}\n---\n"
    )
}

fn sources(text: &str) -> Sources {
    source::parse("p.yaml", &text.into())
}

fn world(compiled: Compiled) -> World {
    let (registry, findings) = Registry::parse("w.yaml", &WORKLOADS.into());
    assert!(findings.is_empty(), "{findings:?}");
    World::new(compiled.model, Arc::new(registry), 1)
}

fn read(text: &str) -> World {
    let compiled = compile(&sources(text));
    assert!(!compiled.has_errors(), "{text}\n{:?}", compiled.diagnostics);
    world(compiled)
}

/// The verdict on a request to `httpbin`, given what is special about it; why there is none.
fn verdict(world: &World, special: &Value) -> String {
    let usual = json!({"src": {"ip": "192.0.2.1"}, "dst": {"workload": "foo/httpbin", "port": 8080}, "protocol": "http", "method": "GET",
        "path": "/", "host": "httpbin.foo"});
    let members = [&usual, special].into_iter().filter_map(Value::as_object).flatten();
    answer(world, &members.map(|(name, value)| (name.clone(), value.clone())).collect())
}

fn answer(world: &World, flow: &Value) -> String {
    match Question::from_json(flow).and_then(|question| question.answer(world, 0)) {
        Ok(answer) => json!(answer.verdict).as_str().unwrap_or_default().to_owned(),
        Err(error) => error.to_string(),
    }
}

#[track_caller]
fn expect(text: &str, cases: &[(Value, &str)]) {
    let world = read(text);
    for (special, expected) in cases {
        assert_eq!(verdict(&world, special), *expected, "{special}\n{text}");
    }
}

fn codes(text: &str) -> Vec<String> {
    compile(&sources(text)).diagnostics.iter().map(|d| format!("{} {}", d.code, d.message)).collect()
}

#[test]
fn request_authentication_says_which_claims_are_lists_of_words() {
    let rule = "{rules: [{when: [{key: \"request.auth.claims[custom]\", values: [read]}]}]}";
    let claims = |iss: &str, custom: Value| json!({"jwt": {"iss": iss, "sub": "s", "custom": custom}});
    let request_authentication = |metadata: &str, selector: &str| {
        let rules = "jwtRules: [{issuer: a, spaceDelimitedClaims: [custom]}, {issuer: b}]";
        document("RequestAuthentication", metadata, &format!("{{{selector}{rules}}}"))
    };
    let own = authorization(rule) + &request_authentication("name: r, namespace: foo", "");
    expect(
        &own,
        &[
            (claims("a", json!("read write")), "allow"),
            (claims("b", json!("read write")), "deny"),
            (claims("b", json!("read")), "allow"),
            // Only a text is cut into words.
            (claims("a", json!(["read write"])), "deny"),
            (claims("a", json!(["x", "read"])), "allow"),
        ],
    );
    for (metadata, selector, expected) in [
        ("name: r, namespace: bar", "", "deny"),
        ("name: r, namespace: istio-system", "", "allow"),
        ("name: r, namespace: foo", "selector: {matchLabels: {app: other}}, ", "deny"),
        ("name: r, namespace: foo", "selector: {matchLabels: {app: httpbin}}, ", "allow"),
    ] {
        let text = authorization(rule) + &request_authentication(metadata, selector);
        expect(&text, &[(claims("a", json!("read write")), expected)]);
    }
}

#[test]
fn a_claim_is_text() {
    let text =
        authorization("{rules: [{when: [{key: \"request.auth.claims[n]\", values: [\"5\", \"true\", \"*\"]}]}]}");
    for (value, expected) in
        [(json!("5"), "allow"), (json!(5), "deny"), (json!(true), "deny"), (json!([5]), "deny"), (json!("\n"), "deny")]
    {
        expect(&text, &[(json!({"jwt": {"iss": "i", "n": value}}), expected)]);
    }
}

#[test]
fn a_required_token() {
    let text = document(
        "RequestAuthentication",
        "name: r, namespace: foo",
        "{jwtRules: [{issuer: a, presence: REQUIRED}, {issuer: b}]}",
    );
    expect(
        &text,
        &[
            (json!({}), "deny"),
            (json!({"jwt": {"iss": "b"}}), "allow"),
            (json!({"jwt": null}), "deny"),
            (json!({"dst": {"workload": "bar/sleep", "port": 8080}}), "allow"),
        ],
    );
    expect(&text.replace("REQUIRED", "OPTIONAL"), &[(json!({}), "allow")]);
}

#[test]
fn targets_count_at_a_waypoint_alone() {
    let target = |kind: &str, group: &str, name: &str| {
        format!("{{action: DENY, targetRefs: [{{kind: {kind}, group: \"{group}\", name: {name}}}], rules: [{{}}]}}")
    };
    let gateway = "gateway.networking.k8s.io";
    let (httpbin, other) = (json!({}), json!({"dst": {"workload": "foo/other", "port": 8080}}));
    let waypoint = settings("{enforcementPoint: Waypoint}");
    for (metadata, spec, at_httpbin, at_other) in [
        ("name: p, namespace: foo", target("Service", "", "web"), "deny", "allow"),
        ("name: p, namespace: bar", target("Service", "", "web"), "allow", "allow"),
        ("name: p, namespace: foo", target("Gateway", gateway, "waypoint"), "deny", "deny"),
        ("name: p, namespace: istio-system", target("GatewayClass", gateway, "istio-waypoint"), "deny", "deny"),
        ("name: p, namespace: foo", target("GatewayClass", gateway, "istio-waypoint"), "allow", "allow"),
        ("name: p, namespace: foo", target("ServiceEntry", "networking.istio.io", "x"), "allow", "allow"),
        ("name: p, namespace: foo", "{action: DENY, rules: [{}]}".to_owned(), "allow", "allow"),
    ] {
        let policy = document("AuthorizationPolicy", metadata, &spec);
        expect(&(waypoint.clone() + &policy), &[(httpbin.clone(), at_httpbin), (other.clone(), at_other)]);
        if spec.contains("targetRefs") {
            expect(&policy, &[(httpbin.clone(), "allow"), (other.clone(), "allow")]);
        }
    }
}

#[test]
fn trusted_proxies_name_the_client() {
    let rule = authorization("{rules: [{when: [{key: remote.ip, values: [203.0.113.0/24]}]}]}");
    let by = |lines: &[&str]| {
        let lines: Vec<_> = lines.iter().map(|line| json!(["X-Forwarded-For", line])).collect();
        json!({"headers": lines})
    };
    for (trusted, lines, expected) in [
        (0, &["203.0.113.9"][..], "deny"),
        (1, &["203.0.113.9"], "allow"),
        (1, &["203.0.113.9, 10.0.0.9"], "deny"),
        (2, &["203.0.113.9", "10.0.0.9"], "allow"),
        (1, &["nobody"], "deny"),
    ] {
        expect(&(settings(&format!("{{trustedProxies: {trusted}}}")) + &rule), &[(by(lines), expected)]);
    }
    // What a proxy behind might take for the same header is refused.
    let folded = json!({"headers": [["X_Forwarded_For", "203.0.113.9"]]});
    expect(&(settings("{trustedProxies: 1}") + &rule), &[(folded, "reject")]);
    expect(&rule, &[(json!({"remoteIp": "203.0.113.9"}), "allow")]);
}

#[test]
fn slashes_are_decoded_where_the_mesh_decodes_them() {
    let rule = authorization("{rules: [{to: [{operation: {paths: [/a/b]}}]}]}");
    for (how, compatibility, expected) in [
        ("None", "Exact", "reject"),
        ("Base", "Exact", "reject"),
        ("MergeSlashes", "Exact", "reject"),
        ("DecodeAndMergeSlashes", "Exact", "allow"),
        ("DecodeAndMergeSlashes", "Hardened", "reject"),
    ] {
        let text = settings(&format!("{{pathNormalization: {how}, compatibility: {compatibility}}}")) + &rule;
        for path in ["/a%2Fb", "/a%5cb", "/a\\b"] {
            expect(&text, &[(json!({"path": path}), expected)]);
        }
        expect(&text, &[(json!({"path": "/a//b"}), "allow")]);
    }
}

#[test]
fn hardened_closes_what_exact_warns_of() {
    let sleep = json!({"ip": "10.0.0.2"});
    for (spec, special, warning) in [
        (
            "{action: DENY, rules: [{to: [{operation: {hosts: [x.com], ports: [\"8080\"]}}]}]}",
            json!({"host": "x.com:81"}),
            "EW0507 a request may write a port behind its host: `x.com` does not cover it",
        ),
        (
            "{rules: [{to: [{operation: {notHosts: [\"*.x.com\"]}}]}]}",
            json!({"host": "a.x.com:81"}),
            "EW0507 a request may write a port behind its host: `*.x.com` does not cover it",
        ),
        (
            "{action: DENY, rules: [{to: [{operation: {paths: [/admin], ports: [\"8080\"]}}]}]}",
            json!({"path": "/admin/"}),
            "EW0507 many servers take `/admin/` for the same, and it is not covered",
        ),
        (
            "{rules: [{to: [{operation: {notPaths: [/admin/*]}}]}]}",
            json!({"path": "/admin"}),
            "EW0507 `/admin` itself is not covered by `/admin/*`",
        ),
        (
            "{action: DENY, rules: [{to: [{operation: {methods: [GET], ports: [\"8080\"]}}]}]}",
            json!({"method": "HEAD"}),
            "EW0507 `HEAD` reads the same and is not covered",
        ),
        (
            "{action: DENY, rules: [{to: [{operation: {ports: [\"8080\"]}}], when: [{key: \"request.headers[x-a]\", values: [evil]}]}]}",
            json!({"headers": [["x-a", "evil"], ["x-a", "b"]]}),
            "EW0507 header `x-a` sent twice is one value, joined with `,`, and is not covered",
        ),
        (
            "{action: DENY, rules: [{from: [{source: {namespaces: [bar]}}]}]}",
            json!({"src": sleep}),
            "EW0507 `namespaces` does not cover a peer without mTLS, whoever it is",
        ),
        (
            "{rules: [{from: [{source: {notPrincipals: [cluster.local/ns/bar/sa/sleep]}}]}]}",
            json!({"src": sleep}),
            "EW0507 `notPrincipals` does not cover a peer without mTLS, whoever it is",
        ),
    ] {
        let policy = authorization(spec);
        expect(&policy, &[(special.clone(), "allow")]);
        assert!(codes(&policy).iter().any(|found| found == warning), "{spec}: {:?}", codes(&policy));
        let hardened = settings("{compatibility: Hardened}") + &policy;
        expect(&hardened, &[(special, "deny")]);
        assert_eq!(codes(&hardened), [""; 0], "{spec}");
    }
    let prefix = authorization("{rules: [{to: [{operation: {paths: [/admin*]}}]}]}");
    let beyond = json!({"path": "/administrator"});
    expect(&prefix, &[(beyond.clone(), "allow")]);
    let hardened = settings("{compatibility: Hardened}") + &prefix;
    expect(
        &hardened,
        &[(beyond, "deny"), (json!({"path": "/admin"}), "allow"), (json!({"path": "/admin/x"}), "allow")],
    );
}

#[test]
fn a_deny_without_ports_grows_on_tcp() {
    let rule = "{action: DENY, rules: [{to: [{operation: {methods: [PUT]}}]}]}";
    let policy = authorization(rule);
    assert!(codes(&policy).iter().any(|found| found.contains("on TCP that is not HTTP")), "{:?}", codes(&policy));
    let tcp = json!({"src": {"ip": "192.0.2.1"}, "dst": {"workload": "foo/httpbin", "port": 9000}, "protocol": "tcp"});
    for (istio, expected) in [
        ("{}", "deny"),
        ("{enforcementPoint: Ztunnel}", "allow"),
        ("{enforcementPoint: Ztunnel, compatibility: Hardened}", "deny"),
    ] {
        let world = read(&(settings(istio) + &policy));
        assert_eq!(answer(&world, &tcp), expected, "{istio}");
    }
}

#[test]
fn empty_lists_ask_nothing_and_are_told() {
    let text = authorization("{rules: [{from: [{source: {principals: [], namespaces: [bar]}}], when: []}]}");
    let found = codes(&text);
    let told = found.iter().filter(|found| found.contains("is an empty list: Istio takes no notice of it")).count();
    assert_eq!(told, 2, "{found:?}");
    let bar = json!({"src": {"ip": "10.0.0.2", "principal": "spiffe://cluster.local/ns/bar/sa/any"}});
    expect(&text, &[(bar, "allow"), (json!({}), "deny")]);
}

#[test]
fn a_field_without_a_value_is_not_there_and_is_told() {
    for (spec, expected) in [
        ("{rules: [{from: null, to: [{operation: {methods: [GET], paths: null}}]}]}", "allow"),
        ("{action: null, rules: null}", "deny"),
        ("null", "deny"),
    ] {
        let text = authorization(spec);
        assert!(codes(&text).iter().any(|found| found.contains("has no value: Istio takes no notice of it")), "{spec}");
        expect(&text, &[(json!({}), expected)]);
    }
}

#[test]
fn strict_lets_declared_probes_pass() {
    let text = document("PeerAuthentication", "name: p, namespace: foo", "{mtls: {mode: STRICT}}");
    let probe = json!({"src": {"ip": "192.168.1.1"}, "path": "/healthz"});
    let mtls = json!({"src": {"ip": "10.0.0.2", "principal": "spiffe://cluster.local/ns/bar/sa/sleep"}});
    expect(&text, &[(json!({}), "deny"), (mtls, "allow"), (probe, "allow")]);
}

#[test]
fn what_refuses_nothing_is_a_last_good_version_too() {
    let peers = document("PeerAuthentication", "name: p, namespace: foo", "{mtls: {mode: PERMISSIVE}}");
    let tokens = document("RequestAuthentication", "name: r, namespace: foo", "{jwtRules: [{issuer: a}]}");
    let good = peers.clone() + &tokens;
    let bad = good.replace("PERMISSIVE", "PERMISIVE").replace("issuer", "isuer");
    let fresh = compile(&sources(&bad));
    assert_eq!(fresh.refused.len(), 2);
    assert_eq!(verdict(&world(fresh), &json!({})), "deny", "what never was good closes what it selects");
    let held = LastGood::of(&compile(&sources(&good)));
    assert_eq!(verdict(&world(compile_onto(&sources(&bad), &held)), &json!({})), "allow");
}

#[test]
fn what_istio_refuses_is_refused() {
    for (kind, spec, code) in [
        ("AuthorizationPolicy", "{action: CUSTOM, provider: {name: x}, rules: [{}]}", "EW0310"),
        ("AuthorizationPolicy", "{provider: {name: x}, rules: [{}]}", "EW0301"),
        ("AuthorizationPolicy", "{action: DENY}", "EW0306"),
        ("AuthorizationPolicy", "{action: DENY, rules: null}", "EW0306"),
        ("AuthorizationPolicy", "{rules: [null]}", "EW0202"),
        ("AuthorizationPolicy", "{rules: [{from: [{source: null}]}]}", "EW0206"),
        ("AuthorizationPolicy", "{selector: {}, targetRef: {kind: Service, name: x}}", "EW0301"),
        (
            "AuthorizationPolicy",
            "{targetRef: {kind: Service, name: x}, targetRefs: [{kind: Service, name: x}]}",
            "EW0301",
        ),
        ("AuthorizationPolicy", "{targetRef: {kind: Pod, name: x}}", "EW0204"),
        ("AuthorizationPolicy", "{targetRef: {kind: Service, name: x, namespace: y}}", "EW0208"),
        ("AuthorizationPolicy", "{targetRef: {kind: Service}}", "EW0203"),
        ("AuthorizationPolicy", "{rules: [{from: []}]}", "EW0205"),
        ("AuthorizationPolicy", "{rules: [{from: [{}]}]}", "EW0203"),
        ("AuthorizationPolicy", "{rules: [{from: [{source: {}}]}]}", "EW0208"),
        ("AuthorizationPolicy", "{rules: [{from: [{source: {principals: []}}]}]}", "EW0208"),
        ("AuthorizationPolicy", "{rules: [{from: [{source: {principals: [\"\"]}}]}]}", "EW0208"),
        ("AuthorizationPolicy", "{rules: [{from: [{source: {serviceAccounts: [a], namespaces: [b]}}]}]}", "EW0301"),
        ("AuthorizationPolicy", "{rules: [{from: [{source: {serviceAccounts: [a/b/c]}}]}]}", "EW0208"),
        ("AuthorizationPolicy", "{rules: [{from: [{source: {trustDomains: [a*b]}}]}]}", "EW0208"),
        ("AuthorizationPolicy", "{rules: [{from: [{source: {trustDomains: [a/b]}}]}]}", "EW0208"),
        ("AuthorizationPolicy", "{rules: [{from: [{source: {ipBlocks: [10.0.0.256]}}]}]}", "EW0208"),
        ("AuthorizationPolicy", "{rules: [{to: [{operation: {ports: [http]}}]}]}", "EW0208"),
        ("AuthorizationPolicy", "{rules: [{to: [{operation: {ports: [\"65536\"]}}]}]}", "EW0208"),
        ("AuthorizationPolicy", "{rules: [{to: [{operation: {paths: [\"/a/{id}\"]}}]}]}", "EW0208"),
        ("AuthorizationPolicy", "{rules: [{when: [{key: \"\", values: [a]}]}]}", "EW0208"),
        ("AuthorizationPolicy", "{rules: [{when: [{key: source.ip}]}]}", "EW0203"),
        ("AuthorizationPolicy", "{rules: [{when: [{key: source.ip, values: []}]}]}", "EW0203"),
        ("AuthorizationPolicy", "{rules: [{when: [{key: \"destination.labels[a]\", values: [b]}]}]}", "EW0204"),
        (
            "AuthorizationPolicy",
            "{rules: [{when: [{key: \"experimental.envoy.filters.a[b]\", values: [c]}]}]}",
            "EW0310",
        ),
        ("AuthorizationPolicy", "{rules: [{when: [{key: \"request.headers[:scheme]\", values: [c]}]}]}", "EW0310"),
        ("AuthorizationPolicy", "{rules: [{too: []}]}", "EW0201"),
        ("RequestAuthentication", "{jwtRules: [{audiences: [a]}]}", "EW0203"),
        ("RequestAuthentication", "{jwtRules: [{issuer: a, jwks: x}]}", "EW0208"),
        ("RequestAuthentication", "{jwtRules: [{issuer: a, jwks: \"{}\", jwksUri: \"https://a\"}]}", "EW0301"),
        ("RequestAuthentication", "{jwtRules: [{issuer: a, jwksUri: ftp://a}]}", "EW0208"),
        ("RequestAuthentication", "{jwtRules: [{issuer: a, timeout: 1us}]}", "EW0208"),
        ("RequestAuthentication", "{jwtRules: [{issuer: a, presence: MAYBE}]}", "EW0204"),
        ("RequestAuthentication", "{jwtRules: [{issuer: a, fromHeader: x}]}", "EW0201"),
        ("PeerAuthentication", "{mtls: {mode: MAYBE}}", "EW0204"),
        ("PeerAuthentication", "{portLevelMtls: {\"80\": {mode: STRICT}}}", "EW0301"),
    ] {
        let found = codes(&document(kind, "name: p, namespace: foo", spec));
        assert!(found.iter().any(|found| found.starts_with(code)), "{kind} {spec}: {found:?}");
        let compiled = compile(&sources(&document(kind, "name: p, namespace: foo", spec)));
        assert_eq!(compiled.refused.len(), 1, "{kind} {spec}");
        assert_eq!(verdict(&world(compiled), &json!({})), "deny", "{kind} {spec}: what it selects is closed");
    }
    let dry = |kind: &str, value: &str, spec: &str| {
        codes(&document(
            kind,
            &format!("name: p, namespace: foo, annotations: {{istio.io/dry-run: \"{value}\"}}"),
            spec,
        ))
    };
    assert!(dry("AuthorizationPolicy", "yes", "{}")[0].starts_with("EW0208"));
    assert!(dry("AuthorizationPolicy", "true", "{action: AUDIT}")[0].starts_with("EW0301"));
    assert!(dry("PeerAuthentication", "true", "{}")[0].starts_with("EW0301"));
    for accepted in ["true", "True", "1", "f"] {
        assert_eq!(dry("AuthorizationPolicy", accepted, "{}"), [""; 0]);
    }
}

#[test]
fn what_tokens_a_workload_accepts() {
    let accepted = |rule: &str| {
        let text = document("RequestAuthentication", "name: r, namespace: foo", &format!("{{jwtRules: [{rule}]}}"));
        let compiled = compile(&sources(&text));
        assert!(!compiled.has_errors(), "{:?}", compiled.diagnostics);
        JwtRule::clone(&compiled.model.policies[0].jwt_rules[0])
    };
    let header = |name: &str, prefix: &str| TokenPlace::Header { name: name.into(), prefix: prefix.into() };
    let usual = JwtRule {
        issuer: Some("a".into()),
        audiences: Vec::new(),
        keys: KeysFrom::Issuer("a".into()),
        places: vec![header("authorization", "Bearer "), TokenPlace::Parameter("access_token".into())],
        told_in: Vec::new(),
    };
    assert_eq!(accepted("{issuer: a}"), usual);
    assert_eq!(accepted("{issuer: a, jwks: \"\"}"), usual);
    let jwks = r#"{"keys": [{"kty": "RSA", "n": "x", "e": "y"}]}"#;
    let keys = KeysFrom::Text(jwks.into());
    let audiences = vec!["b".into(), "c".into()];
    let text = format!("{{issuer: a, audiences: [b, c], jwks: '{jwks}'}}");
    assert_eq!(accepted(&text), JwtRule { audiences, keys, ..usual.clone() });
    for field in ["jwksUri", "jwks_uri"] {
        let keys = KeysFrom::Address("https://k".into());
        assert_eq!(accepted(&format!("{{{field}: \"https://k\"}}")), JwtRule { issuer: None, keys, ..usual.clone() });
    }
    let everywhere = "{issuer: a, fromHeaders: [{name: X-A, prefix: 'T '}, {name: B}], fromParams: [p], fromCookies: [c], \
                      outputPayloadToHeader: X-P, outputClaimToHeaders: [{claim: d, header: X-D}]}";
    let mut places = vec![TokenPlace::Parameter("p".into()), TokenPlace::Cookie("c".into())];
    places.extend([header("x-a", "T "), header("b", "")]);
    let read = accepted(everywhere);
    assert_eq!((&read.places, read.told_in.len()), (&places, 2));
    assert!(read.told_in.contains(&"x-p".into()) && read.told_in.contains(&"x-d".into()));
}

#[test]
fn what_is_not_done_with_a_token_is_said() {
    let told = |settings: &str, rule: &str| {
        let text = document(
            "RequestAuthentication",
            "name: r, namespace: foo",
            &format!("{{jwtRules: [{{issuer: a{rule}}}]}}"),
        );
        codes(&format!("{settings}{text}"))
    };
    assert_eq!(told("", ""), [""; 0]);
    assert_eq!(told("", ", forwardOriginalToken: true"), [""; 0]);
    for rule in [
        ", forwardOriginalToken: false",
        ", outputPayloadToHeader: x",
        ", outputClaimToHeaders: [{claim: c, header: x}]",
    ] {
        let found = told("", rule);
        assert!(matches!(found.as_slice(), [only] if only.starts_with("EW0509")), "{rule}: {found:?}");
    }
    let ztunnel = settings("{enforcementPoint: Ztunnel}");
    assert!(told(&ztunnel, "")[0].starts_with("EW0509"));
    let text = document("RequestAuthentication", "name: r, namespace: foo", "{jwtRules: [{issuer: a}]}");
    let compiled = compile(&sources(&format!("{ztunnel}{text}")));
    assert!(compiled.model.policies.iter().all(|policy| policy.jwt_rules.is_empty()));
}
