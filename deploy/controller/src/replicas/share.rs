//! The entry of one replica.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cluster::Key;
use crate::status::{Programmed, Progress};

/// What the proxies of one replica have acknowledged, as it is written down. Fields are only ever added.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Share {
    /// Makes each renewal another text; nobody compares it with a clock.
    written: String,
    /// All policies that the replica knows; `None`: they do not fit.
    policies: Option<Policies>,
    /// Pods before which its proxies stand, by namespace.
    #[serde(default)]
    served: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// Nodes whose own proxy follows it.
    #[serde(default)]
    nodes: BTreeSet<Arc<str>>,
}

/// By kind, namespace and name.
type Policies = BTreeMap<String, BTreeMap<String, BTreeMap<String, Told>>>;

/// Generation, proxies that are to have it, how many of them are behind, and the names of some of those.
#[derive(Debug, Serialize, Deserialize)]
struct Told(i64, usize, usize, Vec<Arc<str>>);

impl Share {
    pub(super) fn of(own: &Programmed) -> Self {
        let mut policies = Policies::new();
        for (key, Progress { generation, proxies, behind, named, .. }) in &own.policies {
            let told = Told(*generation, *proxies, *behind, named.clone());
            let kind = policies.entry(format!("{}/{}", key.api_version, key.kind)).or_default();
            kind.entry(key.namespace.to_string()).or_default().insert(key.name.to_string(), told);
        }
        let mut served: BTreeMap<Arc<str>, BTreeSet<Arc<str>>> = BTreeMap::new();
        for (namespace, name) in &own.served {
            served.entry(Arc::clone(namespace)).or_default().insert(Arc::clone(name));
        }
        let nodes = own.nodes.clone();
        Self { written: jiff::Timestamp::now().to_string(), policies: Some(policies), served, nodes }
    }

    /// As JSON; one that is longer than `most` bytes says only that it is.
    pub(super) fn text(self, most: usize) -> String {
        let text = |share: &Self| serde_json::to_string(share).unwrap_or_default();
        let whole = text(&self);
        if whole.len() <= most {
            return whole;
        }
        tracing::warn!(bytes = whole.len(), most, "the other replicas are not told how proxies stand: it does not fit");
        text(&Self { written: self.written, policies: None, served: BTreeMap::new(), nodes: BTreeSet::new() })
    }

    /// Nothing of what is not readable, or does not fit.
    pub(super) fn read(text: &str) -> Option<Programmed> {
        let share: Self = serde_json::from_str(text).ok()?;
        let mut read = Programmed { nodes: share.nodes, ..Programmed::default() };
        for (namespace, names) in share.served {
            read.served.extend(names.into_iter().map(|name| (Arc::clone(&namespace), name)));
        }
        for (kind, namespaces) in share.policies? {
            let (api_version, kind) = kind.rsplit_once('/')?;
            let (api_version, kind): (Arc<str>, Arc<str>) = (api_version.into(), kind.into());
            for (namespace, names) in namespaces {
                let namespace: Arc<str> = namespace.into();
                for (name, Told(generation, proxies, behind, named)) in names {
                    let (api_version, kind, namespace) =
                        (Arc::clone(&api_version), Arc::clone(&kind), Arc::clone(&namespace));
                    let key = Key { api_version, kind, namespace, name: name.into() };
                    read.policies.insert(key, Progress { generation, proxies, behind, named, silent: Vec::new() });
                }
            }
        }
        Some(read)
    }
}
