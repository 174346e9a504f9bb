//! `DialectSettings`, validated: what holds for the whole cluster.

use ipnet::IpNet;

/// How a known bypass of a dialect is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Compatibility {
    /// The owner's meaning exactly.
    #[default]
    Exact,
    /// May turn an allow into a deny, never the reverse.
    Hardened,
}

/// Whether probes that a pod's spec declares pass without a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Probes {
    /// They pass.
    #[default]
    Allow,
    /// Rules decide.
    Policy,
}

/// The least proof that an Allow by account, pods, namespace or service asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum MinimumProof {
    /// The registered workload at the address is enough.
    #[default]
    Address,
    /// A certificate is needed.
    MutualTls,
}

/// Istio's mesh options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Istio {
    /// `meshConfig.rootNamespace`.
    pub root_namespace: String,
    /// Overrides the cluster's trust domain.
    pub trust_domain: Option<String>,
    /// Other trust domains that count as the mesh's own.
    pub trust_domain_aliases: Vec<String>,
    /// Which Istio enforcement point is followed where they differ (L7 fields on TCP).
    pub enforcement_point: IstioEnforcementPoint,
    /// `meshConfig.pathNormalization`.
    pub path_normalization: IstioPathNormalization,
    /// `gatewayTopology.numTrustedProxies`.
    pub trusted_proxies: u32,
    /// Known bypasses.
    pub compatibility: Compatibility,
}

/// See [`Istio::enforcement_point`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum IstioEnforcementPoint {
    /// A DENY rule loses its HTTP fields on TCP: wider.
    #[default]
    Sidecar,
    /// Targets of `targetRefs`.
    Waypoint,
    /// A DENY rule with HTTP fields never matches: narrower.
    Ztunnel,
}

/// See [`Istio::path_normalization`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum IstioPathNormalization {
    /// As sent.
    None,
    /// RFC 3986 dot segments, `\` to `/`, unreserved octets decoded once.
    #[default]
    Base,
    /// And `//` to `/`.
    MergeSlashes,
    /// And `%2F`, `%5C`.
    DecodeAndMergeSlashes,
}

/// Cilium's options.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Cilium {
    /// Whether the pod's own node may always reach it.
    pub allow_localhost: AllowLocalhost,
    /// Known bypasses.
    pub compatibility: Compatibility,
}

/// See [`Cilium::allow_localhost`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AllowLocalhost {
    /// As Cilium chooses in a Kubernetes cluster: always.
    #[default]
    Auto,
    /// Whatever rules say.
    Always,
    /// Rules decide.
    Policy,
}

/// Linkerd's options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linkerd {
    /// The section was written: ports without a `Server` have the default inbound policy.
    pub is_written: bool,
    /// Namespace of the control plane, part of every identity.
    pub control_plane_namespace: String,
    /// Overrides the cluster's trust domain.
    pub trust_domain: Option<String>,
    /// What holds for a port that no `Server` selects.
    pub default_inbound_policy: LinkerdAccess,
    /// Overrides the cluster's networks.
    pub cluster_networks: Option<Vec<IpNet>>,
    /// From where probes come.
    pub probe_networks: Vec<IpNet>,
    /// Known bypasses.
    pub compatibility: Compatibility,
}

/// Linkerd's default inbound policies, and a `Server`'s `accessPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkerdAccess {
    /// Everybody.
    AllUnauthenticated,
    /// Addresses of the cluster.
    ClusterUnauthenticated,
    /// Every mesh identity.
    AllAuthenticated,
    /// Mesh identities from addresses of the cluster.
    ClusterAuthenticated,
    /// Nobody.
    Deny,
    /// Everybody, and it is logged.
    Audit,
}

impl LinkerdAccess {
    /// As it is written.
    pub const WORDS: [(&'static str, Self); 6] = [
        ("all-unauthenticated", Self::AllUnauthenticated),
        ("cluster-unauthenticated", Self::ClusterUnauthenticated),
        ("all-authenticated", Self::AllAuthenticated),
        ("cluster-authenticated", Self::ClusterAuthenticated),
        ("deny", Self::Deny),
        ("audit", Self::Audit),
    ];
}

/// `DialectSettings` named `cluster`, every member with its default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Addresses that belong to the cluster's pods and services.
    pub networks: Vec<IpNet>,
    /// Addresses that belong to nodes.
    pub node_networks: Vec<IpNet>,
    /// SPIFFE trust domain of the cluster.
    pub trust_domain: String,
    /// DNS domain of the cluster.
    pub dns_domain: String,
    /// `native.probes`.
    pub probes: Probes,
    /// `native.minimumProof`.
    pub minimum_proof: MinimumProof,
    /// `cilium`.
    pub cilium: Cilium,
    /// `istio`.
    pub istio: Istio,
    /// `linkerd`.
    pub linkerd: Linkerd,
}

impl Default for Settings {
    fn default() -> Self {
        let networks = [
            IpNet::new_assert(std::net::IpAddr::from([10, 0, 0, 0]), 8),
            IpNet::new_assert(std::net::IpAddr::from([172, 16, 0, 0]), 12),
            IpNet::new_assert(std::net::IpAddr::from([192, 168, 0, 0]), 16),
            IpNet::new_assert(std::net::IpAddr::from([0xfc00, 0, 0, 0, 0, 0, 0, 0]), 7),
        ];
        Self {
            networks: networks.into(),
            node_networks: Vec::new(),
            trust_domain: "cluster.local".into(),
            dns_domain: "cluster.local".into(),
            probes: Probes::default(),
            minimum_proof: MinimumProof::default(),
            cilium: Cilium::default(),
            istio: Istio {
                root_namespace: "istio-system".into(),
                trust_domain: None,
                trust_domain_aliases: Vec::new(),
                enforcement_point: IstioEnforcementPoint::default(),
                path_normalization: IstioPathNormalization::default(),
                trusted_proxies: 0,
                compatibility: Compatibility::default(),
            },
            linkerd: Linkerd {
                is_written: false,
                control_plane_namespace: "linkerd".into(),
                trust_domain: None,
                default_inbound_policy: LinkerdAccess::AllAuthenticated,
                cluster_networks: None,
                probe_networks: Vec::new(),
                compatibility: Compatibility::default(),
            },
        }
    }
}
