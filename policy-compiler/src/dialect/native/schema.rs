//! The native kinds as JSON Schema (draft 2020-12), for editors and for whoever writes policies by program.
//!
//! It says what a document may look like. What it means, and whether it can, the compiler says.

use serde_json::{Map, Value, json};

use super::{CLUSTER, FIREWALL, SETTINGS, TEST};

/// Every kind with its schema.
#[must_use]
pub fn schemas() -> Vec<(&'static str, Value)> {
    let namespaced = json!({"name": name(), "namespace": name()});
    let cluster = json!({"name": name()});
    vec![
        (FIREWALL, document(FIREWALL, &namespaced, &["name", "namespace"], &policy(false))),
        (CLUSTER, document(CLUSTER, &cluster, &["name"], &policy(true))),
        (TEST, document(TEST, &namespaced, &["name", "namespace"], &test())),
        (SETTINGS, document(SETTINGS, &json!({"name": {"const": "cluster"}}), &["name"], &settings())),
    ]
}

fn document(kind: &str, identity: &Value, required: &[&str], spec: &Value) -> Value {
    let mut metadata = identity.as_object().cloned().unwrap_or_default();
    // What the Kubernetes API keeps beside name and namespace.
    for member in super::metadata::OBJECT_META {
        metadata.insert((*member).to_owned(), json!(true));
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": kind,
        "type": "object",
        "additionalProperties": false,
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {"const": format!("{}/{}", super::GROUP, super::VERSION)},
            "kind": {"const": kind},
            "metadata": {"type": "object", "additionalProperties": false, "required": required, "properties": metadata},
            "spec": spec,
            "status": true,
        },
    })
}

fn object(required: &[&str], members: &Value) -> Value {
    json!({"type": "object", "additionalProperties": false, "required": required, "properties": members})
}

fn list(items: &Value) -> Value {
    json!({"type": "array", "minItems": 1, "items": items})
}

fn words(words: &[&str]) -> Value {
    json!({"enum": words})
}

fn described(mut schema: Value, description: &str) -> Value {
    if let Some(members) = schema.as_object_mut() {
        members.insert("description".into(), json!(description));
    }
    schema
}

fn name() -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": 253, "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"})
}

fn text() -> Value {
    json!({"type": "string", "minLength": 1})
}

fn policy(is_cluster: bool) -> Value {
    let mut members = Map::new();
    let mut put = |name: &str, schema: Value, description: &str| {
        members.insert(name.to_owned(), described(schema, description));
    };
    if is_cluster {
        put(
            "tier",
            words(&["Admin", "Baseline"]),
            "Admin is asked first, and closes nothing; Baseline closes where no application policy does",
        );
    }
    put("mode", words(&["Enforce", "Audit"]), "Audit: in the shadow table alone");
    put("replaces", list(&name()), "policies that the shadow table has without; needs mode Audit");
    put("subject", list(&subject()), "the workloads that it protects: any of these");
    put("notSubject", list(&subject()), "but none of these");
    put(
        "directions",
        list(&words(&["Ingress", "Egress"])),
        "what it closes; the directions that have rules where left out",
    );
    put("ingress", list(&rule("from", "to")), "who may reach the subject");
    put("egress", list(&rule("to", "from")), "what the subject may reach");
    put("httpOptions", list(&http_options()), "how requests to some ports are made canonical");
    let required: &[&str] = if is_cluster { &["tier", "subject"] } else { &["subject"] };
    object(required, &Value::Object(members))
}

/// Who: exactly one of the kinds; `namespace` or `namespaceSelector` may qualify some of them.
fn subject() -> Value {
    let qualifiers = json!({"namespace": name(), "namespaceSelector": selector()});
    one_of(&[("serviceAccount", name()), ("pods", selector()), ("any", json!({"const": true}))], &qualifiers)
}

fn peer() -> Value {
    let qualifiers = json!({"namespace": name(), "namespaceSelector": selector()});
    let kinds = [
        ("serviceAccount", name()),
        ("pods", selector()),
        ("principal", described(text(), "an identity proven by mutual TLS, `spiffe://…`")),
        ("cidr", described(text(), "in an Allow never a registered workload")),
        ("service", name()),
        ("fqdn", text()),
        ("node", words(&["Own", "Any"])),
        ("any", json!({"const": true})),
    ];
    one_of(&kinds, &qualifiers)
}

fn one_of(kinds: &[(&str, Value)], qualifiers: &Value) -> Value {
    let mut members = qualifiers.as_object().cloned().unwrap_or_default();
    let mut choices: Vec<Value> = Vec::new();
    for (kind, schema) in kinds {
        members.insert((*kind).to_owned(), schema.clone());
        choices.push(json!({"required": [kind]}));
    }
    let none = json!({"not": {"anyOf": choices}});
    let of_namespace = |qualifier: &str| json!({"allOf": [none, {"required": [qualifier]}]});
    let mut all = choices.clone();
    all.extend([of_namespace("namespace"), of_namespace("namespaceSelector")]);
    json!({"type": "object", "additionalProperties": false, "properties": members, "oneOf": all})
}

fn selector() -> Value {
    let requirement = object(
        &["key", "operator"],
        &json!({"key": text(), "operator": words(&["In", "NotIn", "Exists", "DoesNotExist"]), "values": list(&json!({"type": "string"}))}),
    );
    let mut selector = object(
        &[],
        &json!({
            "matchLabels": {"type": "object", "minProperties": 1, "additionalProperties": {"type": "string"}},
            "matchExpressions": list(&requirement),
        }),
    );
    if let Some(members) = selector.as_object_mut() {
        members.insert("minProperties".into(), json!(1));
    }
    selector
}

fn rule(peers: &str, strangers: &str) -> Value {
    let not = |peers: &str| if peers == "from" { "notFrom" } else { "notTo" };
    let mut members = Map::new();
    let mut put = |name: &str, schema: Value, description: &str| {
        members.insert(name.to_owned(), described(schema, description));
    };
    put("name", text(), "how verdicts and tests call it");
    put("action", words(&["Allow", "Deny"]), "Deny beats Allow in its tier");
    put(peers, list(&peer()), "any of these");
    put(not(peers), list(&peer()), "but none of these");
    put(not(strangers), list(&subject()), "but not for these subjects");
    put("ports", list(&port()), "of the destination pod; those that it declares where left out in an Allow");
    put("proof", words(&["Address", "MutualTLS"]), "the least proof of who the peer is");
    put("expires", text(), "RFC 3339; on an Allow only");
    put("http", list(&http()), "HTTP, gRPC included: any of these matches");
    put("grpc", list(&grpc()), "gRPC calls");
    put("tls", list(&object(&[], &json!({"serverNames": list(&text())}))), "TLS passed through");
    put("dns", list(&object(&[], &json!({"names": list(&text())}))), "DNS over UDP and TCP");
    put("tcp", object(&[], &json!({})), "whatever the bytes are, written `{}`");
    put("udp", object(&[], &json!({})), "whatever the datagrams are, written `{}`");
    object(&[peers], &Value::Object(members))
}

fn port() -> Value {
    json!({"oneOf": [{"type": "integer", "minimum": 1, "maximum": 65535}, text()]})
}

fn http() -> Value {
    object(
        &[],
        &json!({
            "methods": list(&text()),
            "paths": described(list(&json!({"type": "string", "pattern": "^(/|regex:)"})), "`/x`, `/x/**`, `/orders/{id}` or `regex:…`"),
            "hosts": list(&text()),
            "headers": list(&requirement("name")),
            "query": list(&requirement("name")),
            "upgrades": list(&text()),
            "jwt": jwt(),
        }),
    )
}

fn grpc() -> Value {
    object(
        &["service"],
        &json!({"service": text(), "methods": list(&text()), "headers": list(&requirement("name")), "jwt": jwt()}),
    )
}

fn jwt() -> Value {
    object(&[], &json!({"issuer": text(), "claims": list(&requirement("path"))}))
}

fn requirement(key: &str) -> Value {
    let key_schema = if key == "path" { list(&text()) } else { text() };
    object(
        &[key],
        &json!({
            key: key_schema,
            "operator": words(&["In", "NotIn", "Exists", "DoesNotExist", "Matches"]),
            "values": list(&json!({"type": ["string", "number", "boolean"]})),
        }),
    )
}

fn http_options() -> Value {
    let decode = || words(&["Reject", "Keep", "Decode"]);
    let keep = || words(&["Reject", "Keep"]);
    object(
        &["ports"],
        &json!({
            "ports": list(&port()),
            "escapedSlash": decode(),
            "backslash": decode(),
            "pathParameters": keep(),
            "mergeSlashes": words(&["Merge", "Keep"]),
            "methodOverride": keep(),
            "underscoreHeaders": keep(),
        }),
    )
}

fn test() -> Value {
    let mut case = Map::new();
    case.insert("name".into(), text());
    case.insert("expect".into(), words(&["allow", "deny", "reject"]));
    case.insert("rule".into(), text());
    for member in super::tests::REQUEST {
        case.insert((*member).to_owned(), json!(true));
    }
    let members = |names: &[&str]| -> Value {
        names.iter().map(|name| ((*name).to_owned(), json!(true))).collect::<Map<_, _>>().into()
    };
    case.insert("src".into(), object(&[], &members(super::tests::SOURCE)));
    case.insert("dst".into(), object(&[], &members(super::tests::DESTINATION)));
    object(
        &["cases"],
        &json!({
            "now": described(text(), "RFC 3339: the time at which cases are judged"),
            "workloads": described(json!({"type": "array"}), "as in a workloads file"),
            "cases": list(&object(&["expect", "dst"], &Value::Object(case))),
        }),
    )
}

fn settings() -> Value {
    let compatibility = || words(&["Exact", "Hardened"]);
    object(
        &[],
        &json!({
            "cluster": object(&[], &json!({"networks": list(&text()), "nodeNetworks": list(&text()), "trustDomain": text(), "dnsDomain": text()})),
            "native": object(&[], &json!({"probes": words(&["Allow", "Policy"]), "minimumProof": words(&["Address", "MutualTLS"])})),
            "networkPolicy": object(&[], &json!({"joinedWith": words(&["Cilium"])})),
            "cilium": object(&[], &json!({"allowLocalhost": words(&["Auto", "Always", "Policy"]), "compatibility": compatibility()})),
            "istio": object(&[], &json!({
                "rootNamespace": name(),
                "trustDomain": text(),
                "trustDomainAliases": {"type": "array", "items": text()},
                "enforcementPoint": words(&["Sidecar", "Waypoint", "Ztunnel"]),
                "pathNormalization": words(&["None", "Base", "MergeSlashes", "DecodeAndMergeSlashes"]),
                "trustedProxies": {"type": "integer", "minimum": 0, "maximum": 64},
                "compatibility": compatibility(),
            })),
            "linkerd": object(&[], &json!({
                "controlPlaneNamespace": name(),
                "trustDomain": text(),
                "defaultInboundPolicy": words(&crate::settings::LinkerdAccess::WORDS.map(|(word, _)| word)),
                "clusterNetworks": list(&text()),
                "probeNetworks": list(&text()),
                "compatibility": compatibility(),
            })),
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::schemas;

    /// `INSTA_UPDATE=always` writes them anew.
    #[test]
    fn the_published_schemas_are_those_of_the_compiler() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema");
        for (kind, schema) in schemas() {
            let path = folder.join(format!("{}.json", kind.to_lowercase()));
            let text = format!("{schema:#}\n");
            if std::env::var("INSTA_UPDATE").as_deref() == Ok("always") {
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(&path, &text).unwrap();
            }
            let published = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(published == text, "{} is not what `eastwall schema {kind}` prints", path.display());
        }
    }
}
