//! Real kinds of workload, each with the sidecar or the reason why not. For every one that gets it: doing it twice changes
//! nothing, whatever a second webhook did is repaired, and the patch of an admission review says the same.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "these are tests, helpers included")]

use eastwall_injector::{Family, Injector, NamespaceChoice, Outcome, PullPolicy, Scope, Settings};
use serde_json::{Value, json};

fn settings() -> Settings {
    Settings { image: "registry.example/eastwall:1.2.3".into(), ..Settings::default() }
}

fn injector() -> Injector {
    Injector::new(settings()).unwrap()
}

fn injected(injector: &Injector, object: &Value) -> Value {
    match injector.inject(object, Scope::Everything) {
        Ok(Outcome::Injected(injected)) => injected.object,
        other => panic!("{other:?}"),
    }
}

fn told(object: &Value) -> String {
    match injector().inject(object, Scope::Everything) {
        Ok(Outcome::Injected(injected)) => {
            let warnings: String = injected.warnings.iter().map(|warning| format!("# warning: {warning}\n")).collect();
            // A release changes no snapshot.
            let text = serde_saphyr::to_string(&injected.object).unwrap();
            warnings + &text.replace(&format!("injected: \"{}\"", env!("CARGO_PKG_VERSION")), "injected: VERSION")
        }
        Ok(Outcome::Untouched(why)) => format!("untouched: {why:?}\n"),
        Err(refusals) => refusals.iter().map(|refusal| format!("refused: {refusal}\n")).collect(),
    }
}

#[test]
fn every_kind_of_workload() {
    for file in std::fs::read_dir("tests/workloads").unwrap() {
        let path = file.unwrap().path();
        let object: Value = serde_saphyr::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let text = told(&object);
        assert_eq!(text.starts_with("refused"), name.starts_with("refused"), "{name}: {text}");
        insta::assert_snapshot!(format!("every_kind_of_workload@{name}.yaml"), text);
        if let Ok(Outcome::Injected(once)) = injector().inject(&object, Scope::Everything) {
            // As text: the order of fields stays too.
            assert_eq!(injected(&injector(), &once.object).to_string(), once.object.to_string(), "{name}: twice");
            let mut meddled = once.object.clone();
            meddle(&mut meddled);
            if meddled != once.object {
                assert_eq!(first_two(&injected(&injector(), &meddled)), first_two(&once.object), "{name}: repaired");
            }
            if object["kind"] == "Pod" {
                assert_eq!(patched(&object, NamespaceChoice::Enabled), once.object, "{name}: by patch");
                assert!(injector().review(&once.object, NamespaceChoice::Enabled).unwrap().patch.is_empty(), "{name}");
            }
        }
    }
}

/// What a second webhook may do to every pod: its own container first, ours last and changed.
fn meddle(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::Array(containers)) = map.get_mut("initContainers") {
                containers.reverse();
                containers.insert(0, json!({"name": "early", "image": "early:1.0"}));
                for container in containers {
                    if container["name"] == "eastwall-redirect" {
                        container["command"] = json!(["true"]);
                    }
                }
            }
            map.values_mut().for_each(meddle);
        }
        Value::Array(items) => items.iter_mut().for_each(meddle),
        _ => {}
    }
}

/// The first two init containers of every pod.
fn first_two(value: &Value) -> Vec<Value> {
    match value {
        Value::Object(map) => match map.get("initContainers") {
            Some(Value::Array(containers)) => containers[..2].to_vec(),
            _ => map.values().flat_map(first_two).collect(),
        },
        Value::Array(items) => items.iter().flat_map(first_two).collect(),
        _ => Vec::new(),
    }
}

fn patched(pod: &Value, namespace: NamespaceChoice) -> Value {
    let review = injector().review(pod, namespace).unwrap();
    let mut pod = pod.clone();
    json_patch::patch(&mut pod, &review.patch).unwrap();
    pod
}

fn pod() -> Value {
    json!({"metadata": {"generateName": "web-"}, "spec": {"containers": [{"name": "web", "image": "nginx:1.27"}]}})
}

fn has_sidecar(pod: &Value) -> bool {
    pod["spec"]["initContainers"].as_array().is_some_and(|all| all.iter().any(|one| one["name"] == "eastwall-proxy"))
}

#[test]
fn the_namespace_chooses_and_the_pod_overrides() {
    for (namespace, label, annotation, expected) in [
        (NamespaceChoice::Enabled, None, None, true),
        (NamespaceChoice::Disabled, None, None, false),
        (NamespaceChoice::Enabled, Some("disabled"), None, false),
        (NamespaceChoice::Enabled, None, Some("disabled"), false),
        (NamespaceChoice::Disabled, Some("enabled"), None, true),
        (NamespaceChoice::Disabled, None, Some("enabled"), true),
        (NamespaceChoice::Enabled, Some("enabled"), Some("enabled"), true),
    ] {
        let mut pod = pod();
        for (member, word) in [("labels", label), ("annotations", annotation)] {
            if let Some(word) = word {
                pod["metadata"][member]["eastwall.dev/inject"] = word.into();
            }
        }
        let case = format!("{namespace:?} {label:?} {annotation:?}");
        assert_eq!(has_sidecar(&patched(&pod, namespace)), expected, "{case}");
    }
}

#[test]
fn labels_of_a_namespace() {
    let of = |labels: Value| NamespaceChoice::of(labels.as_object());
    assert_eq!(of(Value::Null).unwrap(), NamespaceChoice::Disabled);
    assert_eq!(of(json!({"a": "b"})).unwrap(), NamespaceChoice::Disabled);
    assert_eq!(of(json!({"eastwall.dev/inject": "enabled"})).unwrap(), NamespaceChoice::Enabled);
    assert_eq!(of(json!({"eastwall.dev/inject": "disabled"})).unwrap(), NamespaceChoice::Disabled);
    assert!(of(json!({"eastwall.dev/inject": "yes"})).is_err());
}

#[test]
fn what_is_no_pod_is_never_let_through_a_review() {
    for object in [json!({"kind": "Deployment"}), json!([]), json!({"kind": "Pod", "metadata": {}}), json!({})] {
        assert!(injector().review(&object, NamespaceChoice::Enabled).is_err(), "{object}");
    }
}

#[test]
fn the_platform_forbids_what_a_pod_may_keep_and_names_the_image() {
    let mut pod = pod();
    pod["metadata"]["annotations"] = json!({"eastwall.dev/allow-capabilities": "true"});
    let strict = Injector::new(Settings { allow_capabilities_annotation: false, ..settings() }).unwrap();
    let error = strict.review(&pod, NamespaceChoice::Enabled).unwrap_err().to_string();
    assert!(error.starts_with("metadata.annotations[\"eastwall.dev/allow-capabilities\"]: "), "{error}");

    pod["metadata"]["annotations"] = json!({"eastwall.dev/proxy-image": "mine:1.0"});
    let open = Injector::new(Settings { allow_image_annotation: true, ..settings() }).unwrap();
    let review = open.review(&pod, NamespaceChoice::Enabled).unwrap();
    json_patch::patch(&mut pod, &review.patch).unwrap();
    assert_eq!(pod["spec"]["initContainers"][1]["image"], "mine:1.0");
}

#[test]
fn every_setting_reaches_the_pod() {
    let text = "image: r.example/e@sha256:0123456789012345678901234567890123456789012345678901234567890123\nimagePullPolicy: Always\n\
                uid: 777\ninboundPort: 1001\noutboundPort: 1002\nadminPort: 1003\nfamily: ipv4\ncontroller: c:9\nworkers: 7\n\
                bypass: {inboundPorts: [22], inboundCidrs: [10.9.0.0/16], outboundPorts: [123-125], outboundCidrs: [169.254.0.0/16]}\n\
                resources: {cpu: 1m, memory: 2Mi, cpuLimit: 3m, memoryLimit: 4Mi}\nlog: {level: warn, allowed: false}\n\
                drainSeconds: 9\nallowCapabilitiesAnnotation: false\nallowImageAnnotation: true\n";
    let settings: Settings = serde_saphyr::from_str(text).unwrap();
    assert_eq!((settings.family, settings.image_pull_policy), (Family::Ipv4, PullPolicy::Always));
    let object = injected(&Injector::new(settings).unwrap(), &json!({"kind": "Pod", "spec": {"containers": []}}));
    let text = object["spec"]["initContainers"].to_string();
    for expected in [
        "r.example/e@sha256:",
        "\"imagePullPolicy\":\"Always\"",
        "--uid=777",
        "\"runAsUser\":777",
        "\"runAsGroup\":777",
        "--inbound-port=1001",
        "--outbound-port=1002",
        "--admin=[::]:1003",
        "\"port\":1003",
        "--family=ipv4",
        "--controller=c:9",
        "--workers=7",
        "--bypass-inbound-ports=1003,22",
        "--bypass-inbound-cidrs=10.9.0.0/16",
        "--bypass-outbound-ports=123-125",
        "--bypass-outbound-cidrs=169.254.0.0/16",
        "{\"cpu\":\"1m\",\"memory\":\"2Mi\"}",
        "{\"cpu\":\"3m\",\"memory\":\"4Mi\"}",
        "\"value\":\"warn\"",
        "--log-allowed=false",
        "--drain=9s",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn unusable_settings() {
    for text in [
        "image: eastwall",
        "image: eastwall:latest",
        "image: \"\"",
        "image: \"r:5000/eastwall\"",
        "image: \"e@sha256:12\"",
        "uid: 0",
        "inboundPort: 0",
        "adminPort: 15106",
        "controller: nowhere",
        "controller: \"host:0\"",
        "resources: {cpu: much}",
        "resources: {memoryLimit: \"0\"}",
        "workers: 0",
        "log: {level: loud}",
    ] {
        let settings: Settings = serde_saphyr::from_str(text).unwrap();
        assert!(Injector::new(settings).is_err(), "{text}");
    }
    assert!(serde_saphyr::from_str::<Settings>("images: x").is_err(), "an unknown setting");
}

/// The sidecar keeps no privilege, and the pod's own do not leak into it.
#[test]
fn neither_container_has_more_than_it_needs() {
    let pod = json!({"kind": "Pod", "spec": {
        "securityContext": {"runAsUser": 0, "runAsNonRoot": true, "seccompProfile": {"type": "Unconfined"}},
        "containers": [{"name": "app", "image": "app:1.0"}],
    }});
    let containers = injected(&injector(), &pod)["spec"]["initContainers"].clone();
    for (container, user, capabilities) in [
        (&containers[0], 0, json!({"add": ["NET_ADMIN"], "drop": ["ALL"]})),
        (&containers[1], 15106, json!({"drop": ["ALL"]})),
    ] {
        let context = &container["securityContext"];
        assert_eq!(context["capabilities"], capabilities);
        assert_eq!((&context["runAsUser"], &context["runAsNonRoot"]), (&json!(user), &json!(user != 0)));
        for (member, expected) in [
            ("privileged", json!(false)),
            ("allowPrivilegeEscalation", json!(false)),
            ("readOnlyRootFilesystem", json!(true)),
            ("seccompProfile", json!({"type": "RuntimeDefault"})),
        ] {
            assert_eq!(context[member], expected, "{member}");
        }
    }
}
