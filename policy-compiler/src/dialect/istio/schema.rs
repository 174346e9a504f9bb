//! Istio's documents as they are written, one to one. Unknown fields are errors: a condition that is not understood
//! must never be dropped.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_saphyr::Spanned;

pub(super) type Text = Spanned<String>;
pub(super) type Texts = Option<Spanned<Vec<Text>>>;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Document<S> {
    #[serde(rename = "apiVersion")]
    pub(super) _api_version: String,
    #[serde(rename = "kind")]
    pub(super) _kind: String,
    #[serde(default)]
    pub(super) metadata: Metadata,
    pub(super) spec: Option<S>,
    #[serde(default, rename = "status")]
    pub(super) _status: serde::de::IgnoredAny,
}

/// The members that matter; the rest of Kubernetes' ObjectMeta is passed over.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    #[serde(default)]
    pub(super) annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub(super) creation_timestamp: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AuthorizationPolicy {
    pub(super) selector: Option<Spanned<WorkloadSelector>>,
    pub(super) target_ref: Option<Spanned<TargetRef>>,
    pub(super) target_refs: Option<Spanned<Vec<TargetRef>>>,
    pub(super) rules: Option<Vec<Spanned<Rule>>>,
    pub(super) action: Option<Text>,
    pub(super) provider: Option<Spanned<Provider>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct WorkloadSelector {
    pub(super) match_labels: Option<BTreeMap<String, Text>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TargetRef {
    #[serde(default, rename = "group")]
    pub(super) _group: Option<String>,
    #[serde(rename = "kind")]
    pub(super) _kind: String,
    #[serde(rename = "name")]
    pub(super) _name: String,
    #[serde(default, rename = "namespace")]
    pub(super) _namespace: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Provider {
    #[serde(default, rename = "name")]
    pub(super) _name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Rule {
    pub(super) from: Option<Spanned<Vec<Spanned<From>>>>,
    pub(super) to: Option<Spanned<Vec<Spanned<To>>>>,
    pub(super) when: Option<Spanned<Vec<Spanned<Condition>>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct From {
    pub(super) source: Option<Spanned<Source>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Source {
    pub(super) principals: Texts,
    pub(super) not_principals: Texts,
    pub(super) request_principals: Texts,
    pub(super) not_request_principals: Texts,
    pub(super) namespaces: Texts,
    pub(super) not_namespaces: Texts,
    pub(super) service_accounts: Texts,
    pub(super) not_service_accounts: Texts,
    pub(super) trust_domains: Texts,
    pub(super) not_trust_domains: Texts,
    pub(super) ip_blocks: Texts,
    pub(super) not_ip_blocks: Texts,
    pub(super) remote_ip_blocks: Texts,
    pub(super) not_remote_ip_blocks: Texts,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct To {
    pub(super) operation: Option<Spanned<Operation>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Operation {
    pub(super) hosts: Texts,
    pub(super) not_hosts: Texts,
    pub(super) ports: Texts,
    pub(super) not_ports: Texts,
    pub(super) methods: Texts,
    pub(super) not_methods: Texts,
    pub(super) paths: Texts,
    pub(super) not_paths: Texts,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Condition {
    pub(super) key: Text,
    pub(super) values: Texts,
    pub(super) not_values: Texts,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PeerAuthentication {
    pub(super) selector: Option<Spanned<WorkloadSelector>>,
    pub(super) mtls: Option<MutualTls>,
    pub(super) port_level_mtls: Option<Spanned<BTreeMap<String, Spanned<MutualTls>>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct MutualTls {
    pub(super) mode: Option<Text>,
}
