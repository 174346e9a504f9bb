//! Documents that are refused, or accepted with a warning.

use eastwall_policy::dialect::compile;
use eastwall_policy::source;

/// Documents that are refused, or accepted with a warning, each with the code.
#[test]
fn what_is_wrong_is_told() {
    let np = |spec: &str| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: {spec}\n"
        )
    };
    let cnp = |spec: &str| {
        format!(
            "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: p}}\nspec: {spec}\n"
        )
    };
    let rule =
        |rule: &str| cnp(&format!("{{tier: Admin, priority: 1, subject: {{namespaces: {{}}}}, egress: [{rule}]}}"));
    let anp = |rule: &str| {
        format!(
            "apiVersion: policy.networking.k8s.io/v1alpha1\nkind: AdminNetworkPolicy\nmetadata: {{name: p}}\nspec: {{priority: 1, subject: {{namespaces: {{}}}}, egress: [{rule}]}}\n"
        )
    };
    let banp = |name: &str| {
        format!(
            "apiVersion: policy.networking.k8s.io/v1alpha1\nkind: BaselineAdminNetworkPolicy\nmetadata: {{name: {name}}}\nspec: {{subject: {{namespaces: {{}}}}}}\n"
        )
    };
    for (text, code) in [
        (np("{podSelector: {}}"), None),
        (np("{podSelector: {}, ingress: [{form: []}]}"), Some("EW0201")),
        (np("{podSelector: {}, ingress: [{from: [{}]}]}"), Some("EW0203")),
        (np("{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/33}}]}]}"), Some("EW0208")),
        (
            np("{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 203.0.113.0/24, except: [10.0.0.0/8]}}]}]}"),
            Some("EW0209"),
        ),
        (
            np("{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 203.0.113.0/24}, podSelector: {}}]}]}"),
            Some("EW0301"),
        ),
        (np("{podSelector: {}, ingress: [{ports: [{port: \"80\"}]}]}"), Some("EW0208")),
        (np("{podSelector: {}, ingress: [{ports: [{port: http, endPort: 90}]}]}"), Some("EW0301")),
        (np("{podSelector: {}, ingress: [{ports: [{port: 90, endPort: 80}]}]}"), Some("EW0209")),
        (np("{podSelector: {}, policyTypes: [ingress]}"), Some("EW0204")),
        (np("{podSelector: {}, egress: []}"), Some("EW0507")),
        (np("{podSelector: {}, ingress: [{from: []}]}"), Some("EW0507")),
        (np("{podSelector: {}, ingress: [{ports: []}]}"), Some("EW0507")),
        (np("{podSelector: {}, egress: [{to: []}]}"), Some("EW0507")),
        (np("{podSelector: {}, ingress: [{from: null, ports: null}]}"), None),
        (np("{podSelector: {matchLabels: null}}"), Some("EW0507")),
        (np("{podSelector: {matchLabels: null, matchExpressions: [{key: a, operator: Exists}]}}"), None),
        (np("{podSelector: {matchLabels: {app.kubernetes.io/name: A-b_c.9}}}"), None),
        (np("{podSelector: {matchLabels: {-a: b}}}"), Some("EW0208")),
        (np("{podSelector: {matchLabels: {a/b/c: d}}}"), Some("EW0208")),
        (np("{podSelector: {matchLabels: {Example.com/a: b}}}"), Some("EW0208")),
        (np("{podSelector: {matchLabels: {a: b c}}}"), Some("EW0208")),
        (np(&format!("{{podSelector: {{matchLabels: {{a: {}}}}}}}", "b".repeat(63))), None),
        (np(&format!("{{podSelector: {{matchLabels: {{a: {}}}}}}}", "b".repeat(64))), Some("EW0208")),
        (np("{podSelector: {matchExpressions: [{key: a, operator: NotIn, values: [b!]}]}}"), Some("EW0208")),
        (np("{podSelector: {}, policyTypes: [Egress], ingress: [{}]}"), Some("EW0507")),
        (np("{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}, {podSelector: {}}]}]}"), Some("EW0507")),
        (rule("{action: Accept, to: [{namespaces: {}}]}"), None),
        (rule("{action: Allow, to: [{namespaces: {}}]}"), Some("EW0204")),
        (rule("{action: Accept, to: []}"), Some("EW0205")),
        (rule("{action: Accept, to: [{galaxies: {}}]}"), Some("EW0507")),
        (rule("{action: Deny, to: [{domainNames: [a.example]}]}"), Some("EW0301")),
        (rule("{action: Deny, to: [{nodes: {matchLabels: {a: b}}}]}"), Some("EW0310")),
        (rule("{action: Deny, to: [{namespaces: {}, networks: [10.0.0.0/8]}]}"), Some("EW0301")),
        (rule("{action: Deny, to: [{}]}"), Some("EW0203")),
        (rule("{action: Deny, to: [{pods: {podSelector: {}}}]}"), None),
        (rule("{action: Deny, to: [{pods: {namespaceSelector: {}}}]}"), Some("EW0203")),
        (rule("{action: Deny, to: [{namespaces: {matchLabels: null}}]}"), Some("EW0507")),
        (rule("{action: Deny, to: [{namespaces: {}}], protocols: []}"), Some("EW0205")),
        (
            rule(
                "{action: Deny, to: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {range: {start: 5, end: 6}}}}]}",
            ),
            None,
        ),
        (
            rule(
                "{action: Deny, to: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {range: {start: 5, end: 5}}}}]}",
            ),
            Some("EW0209"),
        ),
        (rule("{action: Deny, to: [{namespaces: {}}], protocols: [{destinationNamedPort: http}]}"), None),
        (
            rule("{action: Deny, to: [{networks: [10.0.0.0/8]}], protocols: [{destinationNamedPort: http}]}"),
            Some("EW0301"),
        ),
        (
            rule("{action: Deny, to: [{nodes: {}}], protocols: [{tcp: {}}, {destinationNamedPort: http}]}"),
            Some("EW0301"),
        ),
        (rule(&format!("{{name: {}, action: Deny, to: [{{namespaces: {{}}}}]}}", "é".repeat(100))), None),
        (rule(&format!("{{name: {}, action: Deny, to: [{{namespaces: {{}}}}]}}", "n".repeat(101))), Some("EW0209")),
        (rule("{action: Pass, to: [{namespaces: {}}]}"), None),
        (rule("{action: Pass, to: [{namespaces: {}}]}").replace("Admin", "Baseline"), Some("EW0507")),
        (
            cnp("{tier: Admin, priority: 1, subject: {namespaces: {}}}").replace("name: p", "name: p, namespace: shop"),
            Some("EW0507"),
        ),
        (cnp("{tier: Admin, priority: 1, subject: {pods: {podSelector: {}}}}"), None),
        (cnp("{tier: Admin, subject: {namespaces: {}}}"), Some("EW0203")),
        (cnp("{tier: Admin, priority: 1001, subject: {namespaces: {}}}"), Some("EW0209")),
        (anp("{action: Deny, to: [{pods: {podSelector: {}}}]}"), Some("EW0203")),
        (anp("{action: Deny, to: [{namespaces: {}}], ports: []}"), Some("EW0205")),
        (anp("{action: Deny, to: [{namespaces: {}}], ports: [{portRange: {start: 5, end: 5}}]}"), None),
        (anp("{action: Deny, to: [{networks: [10.0.0.0/8]}], ports: [{namedPort: http}]}"), Some("EW0301")),
        (anp("{action: Allow, to: [{domainNames: [a.example]}]}"), None),
        (
            anp("{action: Allow, to: [{domainNames: [a.example]}]}")
                .replace("AdminNetworkPolicy", "BaselineAdminNetworkPolicy")
                .replace("name: p", "name: default")
                .replace("priority: 1, ", ""),
            Some("EW0507"),
        ),
        (banp("default"), None),
        (banp("other"), Some("EW0311")),
    ] {
        let compiled = compile(&source::parse("p.yaml", &text.as_str().into()));
        let codes: Vec<&str> = compiled.diagnostics.iter().map(|finding| finding.code.as_str()).collect();
        assert_eq!(codes, code.into_iter().collect::<Vec<_>>(), "{text}");
    }
}
