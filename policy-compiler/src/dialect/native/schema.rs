//! The native kinds as JSON Schema (draft 2020-12), for editors and for whoever writes policies by program.
//!
//! It says what a document may look like. What it means, and whether it can, the compiler says.

use serde_json::{Map, Value, json};

use super::{BREAK_GLASS, CLUSTER, FIREWALL, SETTINGS, TEST};

mod crd;
mod settings;
mod structural;

pub use crd::crds;

/// Every kind with its schema.
#[must_use]
pub fn schemas() -> Vec<(&'static str, Value)> {
    let is_name = ("name", name(), "how verdicts and findings call it");
    let namespaced = [is_name.clone(), ("namespace", name(), "the namespace that it belongs to; none is guessed")];
    let is_cluster = [is_name];
    let singleton = [("name", json!({"const": "cluster"}), "there is one")];
    vec![
        (FIREWALL, document(FIREWALL, &namespaced, &policy(false))),
        (CLUSTER, document(CLUSTER, &is_cluster, &policy(true))),
        (TEST, document(TEST, &namespaced, &test())),
        (SETTINGS, document(SETTINGS, &singleton, &settings::sections())),
        (BREAK_GLASS, document(BREAK_GLASS, &is_cluster, &break_glass())),
    ]
}

/// A member of an object: its name, what it may be, and what it is for.
type Member<'m> = (&'m str, Value, &'m str);

fn document(kind: &str, identity: &[Member<'_>], spec: &Value) -> Value {
    let required: Vec<&str> = identity.iter().map(|(name, ..)| *name).collect();
    let of_kubernetes =
        super::metadata::OBJECT_META.iter().map(|member| (*member, json!({}), "kept by the Kubernetes API"));
    let metadata: Vec<Member<'_>> = identity.iter().cloned().chain(of_kubernetes).collect();
    let version = format!("{}/{}", super::GROUP, super::VERSION);
    let mut schema = object(
        &["apiVersion", "kind", "metadata", "spec"],
        &[
            ("apiVersion", json!({"const": version}), "group and version of the kind"),
            ("kind", json!({"const": kind}), "the kind"),
            ("metadata", object(&required, &metadata), "who it is"),
            ("spec", spec.clone(), "what it says"),
            ("status", json!({}), "written by the controller, never read"),
        ],
    );
    if let Some(members) = schema.as_object_mut() {
        members.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
        members.insert("title".into(), json!(kind));
    }
    schema
}

fn object(required: &[&str], members: &[Member<'_>]) -> Value {
    json!({"type": "object", "additionalProperties": false, "required": required, "properties": properties(members)})
}

fn properties(members: &[Member<'_>]) -> Map<String, Value> {
    let described = members.iter().map(|(name, schema, description)| {
        let mut schema = schema.clone();
        if let Some(members) = schema.as_object_mut() {
            members.insert("description".into(), json!(description));
        }
        ((*name).to_owned(), schema)
    });
    described.collect()
}

fn list(items: &Value) -> Value {
    json!({"type": "array", "minItems": 1, "items": items})
}

fn words(words: &[&str]) -> Value {
    json!({"enum": words})
}

fn name() -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": 253, "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"})
}

fn text() -> Value {
    json!({"type": "string", "minLength": 1})
}

fn policy(is_cluster: bool) -> Value {
    let tier = words(&["Admin", "Baseline"]);
    let tier: Member<'_> =
        ("tier", tier, "Admin is asked first, and closes nothing; Baseline closes where no application policy does");
    let directions = list(&words(&["Ingress", "Egress"]));
    let members = [
        ("mode", words(&["Enforce", "Audit"]), "Audit: in the shadow table alone"),
        ("replaces", list(&name()), "policies that the shadow table has without; needs mode Audit"),
        ("subject", list(&subject()), "the workloads that it protects: any of these"),
        ("notSubject", list(&subject()), "but none of these"),
        ("directions", directions, "what it closes; the directions that have rules where left out"),
        ("ingress", list(&rule("from", "to")), "who may reach the subject"),
        ("egress", list(&rule("to", "from")), "what the subject may reach"),
        ("httpOptions", list(&http_options()), "how requests to some ports are made canonical"),
    ];
    let members: Vec<Member<'_>> = is_cluster.then_some(tier).into_iter().chain(members).collect();
    object(if is_cluster { &["tier", "subject"] } else { &["subject"] }, &members)
}

fn break_glass() -> Value {
    object(
        &["subject", "reason", "expires"],
        &[
            ("subject", list(&subject()), "the workloads that it opens: any of these"),
            ("notSubject", list(&subject()), "but none of these"),
            ("reason", text(), "why, for whoever is on call"),
            ("begins", text(), "RFC 3339; when the object was made where left out"),
            ("expires", text(), "RFC 3339; at most four hours after it begins"),
        ],
    )
}

/// Who: exactly one of the kinds; `namespace` or `namespaceSelector` may qualify some of them.
fn subject() -> Value {
    one_of(&[account(), pods(), everybody()])
}

fn peer() -> Value {
    one_of(&[
        account(),
        pods(),
        ("principal", text(), "an identity proven by mutual TLS, `spiffe://…`"),
        ("cidr", text(), "addresses; in an Allow never a registered workload"),
        ("service", name(), "the endpoints of a Service; egress only"),
        ("fqdn", text(), "a DNS name outside the cluster; egress only"),
        ("node", words(&["Own", "Any"]), "the node that the workload runs on, or any"),
        everybody(),
    ])
}

fn account() -> Member<'static> {
    ("serviceAccount", name(), "workloads that run under this service account")
}

fn pods() -> Member<'static> {
    ("pods", selector(), "workloads with these labels")
}

fn everybody() -> Member<'static> {
    ("any", json!({"const": true}), "everybody")
}

fn one_of(kinds: &[Member<'_>]) -> Value {
    let qualifiers = [
        ("namespace", name(), "of this namespace; the policy's own where left out"),
        ("namespaceSelector", selector(), "of namespaces with these labels"),
    ];
    let choices: Vec<Value> = kinds.iter().map(|(kind, ..)| json!({"required": [kind]})).collect();
    let none = json!({"not": {"anyOf": choices}});
    let of_namespace = |qualifier: &str| json!({"allOf": [none, {"required": [qualifier]}]});
    let mut all = choices.clone();
    all.extend([of_namespace("namespace"), of_namespace("namespaceSelector")]);
    let members: Vec<Member<'_>> = kinds.iter().cloned().chain(qualifiers).collect();
    json!({"type": "object", "additionalProperties": false, "properties": properties(&members), "oneOf": all})
}

fn selector() -> Value {
    let values = list(&json!({"type": "string"}));
    let requirement = object(
        &["key", "operator"],
        &[
            ("key", text(), "of the label"),
            ("operator", words(&["In", "NotIn", "Exists", "DoesNotExist"]), "how the label is compared"),
            ("values", values, "with In and NotIn"),
        ],
    );
    let labels = json!({"type": "object", "minProperties": 1, "additionalProperties": {"type": "string"}});
    let mut selector = object(
        &[],
        &[
            ("matchLabels", labels, "labels that all must have exactly these values"),
            ("matchExpressions", list(&requirement), "requirements that all must hold"),
        ],
    );
    if let Some(members) = selector.as_object_mut() {
        members.insert("minProperties".into(), json!(1));
    }
    selector
}

fn rule(peers: &str, strangers: &str) -> Value {
    let not = |peers: &str| if peers == "from" { "notFrom" } else { "notTo" };
    let tls = object(&[], &[("serverNames", list(&text()), "names of the ClientHello; any where left out")]);
    let dns = object(&[], &[("names", list(&text()), "names that may be asked for; any where left out")]);
    object(
        &[peers],
        &[
            ("name", text(), "how verdicts and tests call it"),
            ("action", words(&["Allow", "Deny"]), "Deny beats Allow in its tier"),
            (peers, list(&peer()), "any of these"),
            (not(peers), list(&peer()), "but none of these"),
            (not(strangers), list(&subject()), "but not for these subjects"),
            ("ports", list(&port()), "of the destination pod; those that it declares where left out in an Allow"),
            ("proof", words(&["Address", "MutualTLS"]), "the least proof of who the peer is"),
            ("expires", text(), "RFC 3339; on an Allow only"),
            ("http", list(&http()), "HTTP, gRPC included: any of these matches"),
            ("grpc", list(&grpc()), "gRPC calls"),
            ("tls", list(&tls), "TLS passed through"),
            ("dns", list(&dns), "DNS over UDP and TCP"),
            ("tcp", object(&[], &[]), "whatever the bytes are, written `{}`"),
            ("udp", object(&[], &[]), "whatever the datagrams are, written `{}`"),
        ],
    )
}

fn port() -> Value {
    json!({"oneOf": [{"type": "integer", "minimum": 1, "maximum": 65535}, text()]})
}

fn http() -> Value {
    let paths = list(&json!({"type": "string", "pattern": "^(/|regex:)"}));
    object(
        &[],
        &[
            ("methods", list(&text()), "any of these, as requests have them: upper case"),
            ("paths", paths, "`/x`, `/x/**`, `/orders/{id}` or `regex:…`"),
            ("hosts", list(&text()), "any of these host names, `*.example.com` included"),
            ("headers", list(&requirement("name", text(), "of the header")), "all must hold"),
            ("query", list(&requirement("name", text(), "of the parameter")), "all must hold"),
            ("upgrades", list(&text()), "protocols that may be switched to, such as `websocket`"),
            ("jwt", jwt(), "what the accepted token must say"),
        ],
    )
}

fn grpc() -> Value {
    object(
        &["service"],
        &[
            ("service", text(), "package and service, `shop.v1.Orders`"),
            ("methods", list(&text()), "of the service; all where left out"),
            ("headers", list(&requirement("name", text(), "of the header")), "all must hold"),
            ("jwt", jwt(), "what the accepted token must say"),
        ],
    )
}

fn jwt() -> Value {
    let claims = list(&requirement("path", list(&text()), "member by member: `[realm_access, roles]`"));
    object(&[], &[("issuer", text(), "who issued it"), ("claims", claims, "all must hold")])
}

fn requirement(key: &str, schema: Value, description: &str) -> Value {
    let operators = words(&["In", "NotIn", "Exists", "DoesNotExist", "Matches"]);
    let values = list(&json!({"type": "string"}));
    object(
        &[key],
        &[
            (key, schema, description),
            ("operator", operators, "how it is compared; In where left out"),
            ("values", values, "with In, NotIn, and as expressions with Matches"),
        ],
    )
}

fn http_options() -> Value {
    let decode = || words(&["Reject", "Keep", "Decode"]);
    let keep = || words(&["Reject", "Keep"]);
    object(
        &["ports"],
        &[
            ("ports", list(&port()), "of the subject"),
            ("escapedSlash", decode(), "`%2F` in a path; Reject where left out"),
            ("backslash", decode(), "`\\` and `%5C` in a path; Reject where left out"),
            ("pathParameters", keep(), "`;` in a path; Reject where left out"),
            ("mergeSlashes", words(&["Merge", "Keep"]), "`//` in a path; Merge where left out"),
            ("methodOverride", keep(), "headers such as `X-HTTP-Method-Override`; Reject where left out"),
            ("underscoreHeaders", keep(), "second spellings of a header that a rule asks for; Reject where left out"),
        ],
    )
}

fn test() -> Value {
    let request = |members: &[(&'static str, &'static str)]| -> Vec<Member<'static>> {
        members.iter().map(|(name, description)| (*name, json!({}), *description)).collect()
    };
    let mut case = request(&super::tests::REQUEST);
    case.retain(|(name, ..)| *name != "src");
    case.extend([
        ("name", text(), "how results call it"),
        ("expect", words(&["allow", "deny", "reject"]), "the verdict"),
        ("rule", text(), "the name of the rule that must decide"),
        ("src", object(&[], &request(&super::tests::SOURCE)), "who asks"),
        ("dst", object(&[], &request(&super::tests::DESTINATION)), "who is asked"),
    ]);
    let members = [
        ("now", text(), "RFC 3339: the time at which cases are judged"),
        (
            "workloads",
            json!({"type": "array", "items": {}}),
            "as in a workloads file; those of the command line where left out",
        ),
        ("cases", list(&object(&["expect", "dst"], &case)), "flows with the verdicts that are expected"),
    ];
    object(&["cases"], &members)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Value;

    use super::schemas;

    pub(super) fn is_published(path: &Path, value: &Value, call: &str) {
        let text = format!("{value:#}\n");
        if std::env::var("INSTA_UPDATE").as_deref() == Ok("always") {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, &text).unwrap();
        }
        let published = std::fs::read_to_string(path).unwrap_or_default();
        assert!(published == text, "{} is not what `eastwall schema {call}` prints", path.display());
    }

    /// `INSTA_UPDATE=always` writes them anew.
    #[test]
    fn the_published_schemas_are_those_of_the_compiler() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema");
        for (kind, schema) in schemas() {
            is_published(&folder.join(format!("{}.json", kind.to_lowercase())), &schema, kind);
        }
    }
}
