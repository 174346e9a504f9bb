//! The native kinds as `CustomResourceDefinition`s, made from their JSON Schema.
//!
//! What the API refuses the compiler refuses too; it accepts what only the compiler can judge. The rules in CEL say what
//! fields mean together, as far as the API server's bound on their cost allows without a bound on the lists: none of
//! them looks into a list.

use serde_json::{Map, Value, json};

use super::structural::structural;
use super::{CLUSTER, FIREWALL, SETTINGS, TEST, schemas};
use crate::dialect::native::{GROUP, VERSION};

/// Every kind with its definition.
#[must_use]
pub fn crds() -> Vec<(&'static str, Value)> {
    schemas().into_iter().filter_map(|(kind, schema)| Some((kind, definition(Of::kind(kind)?, &schema)))).collect()
}

/// What the JSON Schema of a kind does not say.
struct Of {
    kind: &'static str,
    plural: &'static str,
    short: &'static str,
    scope: &'static str,
    description: &'static str,
    /// Columns before those of the status: name, path, description.
    columns: &'static [(&'static str, &'static str, &'static str)],
    status: Status,
    /// Rules of the whole object and of its `spec`.
    root: &'static [Rule],
    spec: &'static [Rule],
}

/// A condition in CEL, and what is wrong where it does not hold.
type Rule = (&'static str, &'static str);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    /// It is never in force.
    None,
    /// It is in force as a whole.
    InForce,
    /// It protects workloads.
    Protects,
}

impl Of {
    fn kind(kind: &str) -> Option<Self> {
        [POLICY, CLUSTER_POLICY, POLICY_TEST, DIALECT_SETTINGS].into_iter().find(|of| of.kind == kind)
    }
}

fn definition(of: Of, schema: &Value) -> Value {
    let names = json!({
        "kind": of.kind, "listKind": format!("{}List", of.kind), "plural": of.plural, "singular": of.kind.to_lowercase(),
        "shortNames": [of.short], "categories": ["eastwall"],
    });
    let mut version = json!({
        "name": VERSION, "served": true, "storage": true,
        "schema": {"openAPIV3Schema": object(&of, schema)},
        "additionalPrinterColumns": columns(&of),
    });
    if let (Some(version), true) = (version.as_object_mut(), of.status != Status::None) {
        version.insert("subresources".into(), json!({"status": {}}));
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{}.{GROUP}", of.plural), "labels": {"app.kubernetes.io/part-of": "eastwall"}},
        "spec": {"group": GROUP, "names": names, "scope": of.scope, "versions": [version]},
    })
}

fn object(of: &Of, schema: &Value) -> Value {
    let mut spec = structural(schema.pointer("/properties/spec").unwrap_or(&Value::Null));
    validate(&mut spec, of.spec);
    for direction in ["ingress", "egress"] {
        if let Some(rule) = spec.pointer_mut(&format!("/properties/{direction}/items")) {
            validate(rule, RULE);
        }
    }
    // The API server itself checks these three; of `metadata` a definition may say nothing else.
    let mut properties = Map::new();
    properties.insert("apiVersion".into(), json!({"type": "string", "description": "group and version of the kind"}));
    properties.insert("kind".into(), json!({"type": "string", "description": "the kind"}));
    properties.insert("metadata".into(), json!({"type": "object"}));
    properties.insert("spec".into(), spec);
    if of.status != Status::None {
        properties.insert("status".into(), status(of.status));
    }
    let mut object = json!({
        "type": "object", "description": of.description, "required": ["spec"], "properties": properties,
    });
    validate(&mut object, of.root);
    object
}

fn validate(schema: &mut Value, rules: &[Rule]) {
    let rules: Vec<Value> = rules.iter().map(|(rule, message)| json!({"rule": rule, "message": message})).collect();
    if let (Some(members), false) = (schema.as_object_mut(), rules.is_empty()) {
        members.insert("x-kubernetes-validations".into(), Value::Array(rules));
    }
}

fn columns(of: &Of) -> Vec<Value> {
    let column = |(name, path, description): &(&str, &str, &str)| json!({"name": name, "type": "string", "jsonPath": path, "description": description});
    let mut columns: Vec<Value> = of.columns.iter().map(column).collect();
    if of.status == Status::Protects {
        let path = ".status.selectedWorkloads";
        columns.push(json!({"name": "Selected", "type": "integer", "jsonPath": path, "description": SELECTED}));
    }
    if of.status != Status::None {
        for (name, description) in [ACCEPTED, PROGRAMMED] {
            let path = format!(".status.conditions[?(@.type==\"{name}\")].status");
            columns.push(column(&(name, &path, description)));
        }
    }
    let path = ".metadata.creationTimestamp";
    columns.push(json!({"name": "Age", "type": "date", "jsonPath": path, "description": "since it was created"}));
    columns
}

fn status(of: Status) -> Value {
    let mut conditions = vec![ACCEPTED, PROGRAMMED];
    let mut properties = Map::new();
    let generation = "generation of the object that the status is about";
    let count =
        |description: &str| json!({"type": "integer", "format": "int64", "minimum": 0, "description": description});
    properties.insert("observedGeneration".into(), count(generation));
    if of == Status::Protects {
        properties.insert("selectedWorkloads".into(), count(SELECTED));
        conditions.push(SELECTING);
    }
    let types: Vec<&str> = conditions.iter().map(|(name, _)| *name).collect();
    let about: Vec<String> = conditions.iter().map(|(name, description)| format!("{name}: {description}")).collect();
    let text = |most: u32, description: &str| json!({"type": "string", "maxLength": most, "description": description});
    let time = json!({"type": "string", "format": "date-time", "description": "when `status` last changed"});
    let condition = json!({
        "type": "object",
        "required": ["type", "status", "reason", "message", "lastTransitionTime"],
        "properties": {
            "type": {"type": "string", "enum": types, "description": about.join("; ")},
            "status": {"type": "string", "enum": ["True", "False", "Unknown"], "description": "whether it holds"},
            "observedGeneration": count(generation),
            "reason": {
                "type": "string", "minLength": 1, "maxLength": 1024, "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                "description": "one word for programs",
            },
            "message": text(32_768, "for people: file, line and what to do, or which proxies are behind"),
            "lastTransitionTime": time,
        },
    });
    properties.insert(
        "conditions".into(),
        json!({
            "type": "array", "maxItems": 8, "items": condition, "description": "what became of the object",
            "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
        }),
    );
    json!({"type": "object", "description": "written by the controller, never read", "properties": properties})
}

const SELECTED: &str = "workloads that it protects";
const ACCEPTED: (&str, &str) = ("Accepted", "whether the compiler took it");
const PROGRAMMED: (&str, &str) = ("Programmed", "whether every proxy has it in force");
const SELECTING: (&str, &str) = ("Selecting", "whether it protects any workload");
const MODE: (&str, &str, &str) = ("Mode", ".spec.mode", "Enforce where empty");

const POLICY: Of = Of {
    kind: FIREWALL,
    plural: "firewallpolicies",
    short: "fwp",
    scope: "Namespaced",
    description: "Who may reach workloads of its namespace, and what they may reach. What it closes passes only by one of its \
                  Allow rules.",
    columns: &[MODE],
    status: Status::Protects,
    root: &[],
    spec: &[REPLACES, SAYS_SOMETHING],
};

const CLUSTER_POLICY: Of = Of {
    kind: CLUSTER,
    plural: "clusterfirewallpolicies",
    short: "cfwp",
    scope: "Cluster",
    description: "What holds for workloads of the whole cluster: Admin before the policies of the namespaces, Baseline where \
                  those close nothing.",
    columns: &[("Tier", ".spec.tier", "Admin or Baseline"), MODE],
    status: Status::Protects,
    root: &[],
    spec: &[
        REPLACES,
        SAYS_SOMETHING,
        (
            "self.tier != 'Admin' || !has(self.directions)",
            "an Admin policy has no `directions`: it denies and allows, and closes nothing; `tier: Baseline` closes",
        ),
    ],
};

const POLICY_TEST: Of = Of {
    kind: TEST,
    plural: "policytests",
    short: "fwt",
    scope: "Namespaced",
    description: "Flows with the verdicts that are expected of them. It is never in force; `eastwall test` runs it.",
    columns: &[],
    status: Status::None,
    root: &[],
    spec: &[],
};

const DIALECT_SETTINGS: Of = Of {
    kind: SETTINGS,
    plural: "dialectsettings",
    short: "fws",
    scope: "Cluster",
    description: "What policies cannot know of the cluster: its networks, its names, and the options of other policy systems.",
    columns: &[],
    status: Status::InForce,
    root: &[("self.metadata.name == 'cluster'", "there is one, and it is called `cluster`")],
    spec: &[],
};

const REPLACES: Rule = (
    "!has(self.replaces) || (has(self.mode) && self.mode == 'Audit')",
    "`replaces` needs `mode: Audit`; an enforced policy replaces by being the same document",
);
const SAYS_SOMETHING: Rule = (
    "has(self.ingress) || has(self.egress) || has(self.directions) || has(self.httpOptions)",
    "the policy closes nothing and has no rules; `directions: [Ingress, Egress]` closes both directions",
);

/// Of every rule of a policy.
const RULE: &[Rule] = &[
    (
        "(has(self.http) ? 1 : 0) + (has(self.grpc) ? 1 : 0) + (has(self.tls) ? 1 : 0) + (has(self.dns) ? 1 : 0) + \
         (has(self.tcp) ? 1 : 0) + (has(self.udp) ? 1 : 0) <= 1",
        "a rule has one protocol: write two rules",
    ),
    (
        "(has(self.action) && self.action == 'Deny') || has(self.http) || has(self.grpc) || has(self.tls) || \
         has(self.dns) || has(self.tcp) || has(self.udp)",
        "an Allow must name its protocol: `http`, `grpc`, `tls`, `tcp`, `udp` or `dns`; opaque access is written `tcp: {}`",
    ),
    (
        "!has(self.action) || self.action != 'Deny' || !(has(self.proof) || has(self.expires))",
        "a Deny has neither `proof` nor `expires`",
    ),
    (
        "!has(self.action) || self.action != 'Deny' || has(self.ports) || !(has(self.http) || has(self.grpc) || \
         has(self.tls) || has(self.dns))",
        "a Deny with `http`, `grpc`, `tls` or `dns` must name its `ports`: it closes them to every other protocol",
    ),
];

#[cfg(test)]
mod tests {
    use super::crds;

    /// `INSTA_UPDATE=always` writes them anew.
    #[test]
    fn the_published_definitions_are_those_of_the_compiler() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds");
        let mut published: Vec<String> = Vec::new();
        for (kind, definition) in crds() {
            let name = format!("{}.json", definition["metadata"]["name"].as_str().unwrap());
            super::super::tests::is_published(&folder.join(&name), &definition, &format!("--crd {kind}"));
            published.push(name);
        }
        assert_eq!(published.len(), 4);
        let names = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut there: Vec<String> = names.collect();
        there.sort();
        published.sort();
        assert_eq!(there, published, "a file of a kind that is gone");
    }
}
