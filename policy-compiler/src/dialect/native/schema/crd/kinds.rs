//! What each kind has beside its schema: names, columns, rules in CEL.

use super::super::{BREAK_GLASS, CLUSTER, FIREWALL, SETTINGS, TEST};

/// What the JSON Schema of a kind does not say.
pub(super) struct Of {
    pub(super) kind: &'static str,
    pub(super) plural: &'static str,
    pub(super) short: &'static str,
    pub(super) scope: &'static str,
    pub(super) description: &'static str,
    /// Columns before those of the status: name, path, description.
    pub(super) columns: &'static [(&'static str, &'static str, &'static str)],
    pub(super) status: Status,
    /// Rules of the whole object and of its `spec`.
    pub(super) root: &'static [Rule],
    pub(super) spec: &'static [Rule],
}

/// A condition in CEL, and what is wrong where it does not hold.
pub(super) type Rule = (&'static str, &'static str);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// It is never in force.
    None,
    /// It is in force as a whole.
    InForce,
    /// It protects workloads.
    Protects,
}

impl Of {
    pub(super) fn kind(kind: &str) -> Option<&'static Self> {
        KINDS.iter().find(|of| of.kind == kind)
    }
}

const MODE: (&str, &str, &str) = ("Mode", ".spec.mode", "Enforce where empty");

const KINDS: &[Of] = &[POLICY, CLUSTER_POLICY, POLICY_TEST, DIALECT_SETTINGS, EMERGENCY];

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

const EMERGENCY: Of = Of {
    kind: BREAK_GLASS,
    plural: "breakglasses",
    short: "fwbg",
    scope: "Cluster",
    description: "An emergency: what policies refuse to these workloads passes until it ends, and is told of as in audit. An alert \
                  is raised every minute.",
    columns: &[("Reason", ".spec.reason", "why"), ("Expires", ".spec.expires", "when it ends")],
    status: Status::Protects,
    root: &[],
    spec: &[(
        "!has(self.begins) || (timestamp(self.expires) - timestamp(self.begins) <= duration('4h') && \
         timestamp(self.expires) > timestamp(self.begins))",
        "it has to end within four hours of its begin",
    )],
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
pub(super) const RULE: &[Rule] = &[
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
