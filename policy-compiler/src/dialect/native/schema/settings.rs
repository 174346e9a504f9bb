//! The sections of `DialectSettings`.

use serde_json::{Value, json};

use super::{Member, list, name, object, text, words};
use crate::settings::LinkerdAccess;

/// The `spec`.
pub(super) fn sections() -> Value {
    object(
        &[],
        &[
            ("cluster", cluster(), "addresses and names of the cluster"),
            ("native", native(), "the kinds of this API group"),
            ("networkPolicy", network_policy(), "`NetworkPolicy` of Kubernetes"),
            ("cilium", cilium(), "Cilium's policies"),
            ("istio", istio(), "Istio's policies"),
            ("linkerd", linkerd(), "Linkerd's policies"),
        ],
    )
}

fn cluster() -> Value {
    object(
        &[],
        &[
            (
                "networks",
                list(&text()),
                "of pods and Services: who is not registered there is unknown; private networks where left out",
            ),
            ("nodeNetworks", list(&text()), "of nodes"),
            trust_domain(),
            ("dnsDomain", text(), "DNS domain of the cluster; `cluster.local` where left out"),
        ],
    )
}

fn native() -> Value {
    object(
        &[],
        &[
            ("probes", words(&["Allow", "Policy"]), "Allow: probes that a pod declares pass without a rule"),
            (
                "minimumProof",
                words(&["Address", "MutualTLS"]),
                "the least proof of who a peer is, for every Allow that names workloads",
            ),
        ],
    )
}

fn network_policy() -> Value {
    object(&[], &[("joinedWith", words(&["Cilium"]), "the system whose allows are united with them")])
}

fn cilium() -> Value {
    let localhost = words(&["Auto", "Always", "Policy"]);
    object(&[], &[("allowLocalhost", localhost, "Cilium's option `allow-localhost`"), compatibility()])
}

fn istio() -> Value {
    let aliases = json!({"type": "array", "items": text()});
    let normalizations = words(&["None", "Base", "MergeSlashes", "DecodeAndMergeSlashes"]);
    object(
        &[],
        &[
            ("rootNamespace", name(), "its policies hold for the whole mesh; `istio-system` where left out"),
            trust_domain(),
            ("trustDomainAliases", aliases, "other trust domains of the same mesh"),
            ("enforcementPoint", words(&["Sidecar", "Waypoint", "Ztunnel"]), "where the mesh enforces"),
            ("pathNormalization", normalizations, "the mesh's `pathNormalization`"),
            (
                "trustedProxies",
                json!({"type": "integer", "minimum": 0, "maximum": 64}),
                "proxies in front whose `X-Forwarded-For` counts",
            ),
            compatibility(),
        ],
    )
}

fn linkerd() -> Value {
    let access = words(&LinkerdAccess::WORDS.map(|(word, _)| word));
    object(
        &[],
        &[
            ("controlPlaneNamespace", name(), "where Linkerd runs; `linkerd` where left out"),
            trust_domain(),
            ("defaultInboundPolicy", access, "what holds for ports without a `Server`"),
            ("clusterNetworks", list(&text()), "what counts as inside for `cluster-*` policies"),
            ("probeNetworks", list(&text()), "where probes come from"),
            compatibility(),
        ],
    )
}

fn trust_domain() -> Member<'static> {
    ("trustDomain", text(), "SPIFFE trust domain; that of `cluster`, which is `cluster.local`, where left out")
}

fn compatibility() -> Member<'static> {
    (
        "compatibility",
        words(&["Exact", "Hardened"]),
        "Exact: as its owner enforces it; Hardened: known bypasses are closed",
    )
}
