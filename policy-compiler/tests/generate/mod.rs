//! Random worlds over a small universe, so that rules and flows meet: the same few namespaces, accounts, labels, ports,
//! paths and headers turn up on both sides, unknown and absent ones among them.
//!
//! Shared by the property tests of the semantics and by the differential test of the table.
#![allow(dead_code, reason = "each test binary uses its own part of the universe")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a generator that cannot make its own constants is a failing test"
)]

pub(crate) mod emergencies;
pub(crate) mod flows;
pub(crate) mod models;
pub(crate) mod registries;

use std::sync::Arc;

use eastwall_policy::model::Model;
use eastwall_policy::registry::Registry;
use proptest::prelude::*;

pub(crate) use flows::{OwnedConnection, OwnedRequest};

/// Policies, who is there, one connection and some requests on it.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) model: Arc<Model>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) connection: OwnedConnection,
    pub(crate) requests: Vec<OwnedRequest>,
}

/// A whole case.
pub(crate) fn case() -> impl Strategy<Value = Case> {
    (models::model(), registries::registry(), flows::connection(), prop::collection::vec(flows::request(), 1..6))
        .prop_map(|(model, registry, connection, requests)| Case {
            connection: connection.placed(&registry, &model.settings),
            model: Arc::new(model),
            registry: Arc::new(registry),
            requests,
        })
}

/// One of a few words.
pub(crate) fn word(of: &'static [&'static str]) -> impl Strategy<Value = Arc<str>> + Clone {
    prop::sample::select(of).prop_map(Arc::from)
}

/// One of a few byte strings.
pub(crate) fn bytes(of: &'static [&'static str]) -> impl Strategy<Value = Arc<[u8]>> + Clone {
    prop::sample::select(of).prop_map(|text| Arc::from(text.as_bytes()))
}

pub(crate) const NAMESPACES: &[&str] = &["shop", "office"];
pub(crate) const ACCOUNTS: &[&str] = &["web", "orders", "clerk"];
pub(crate) const APPS: &[&str] = &["web", "orders"];
pub(crate) const PORT_NAMES: &[&str] = &["http", "grpc"];
pub(crate) const PORTS: &[u16] = &[80, 8080, 9090];
pub(crate) const METHODS: &[&str] = &["GET", "POST", "get"];
pub(crate) const PATHS: &[&str] = &["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/x//y", "*"];
pub(crate) const HOSTS: &[&str] = &["orders.shop", "api.partner.example", "partner.example"];
pub(crate) const FQDNS: &[&str] = &["api.partner.example", "db.partner.example"];
pub(crate) const VALUES: &[&str] = &["acme", "globex", "", "acme, globex", "true", "7"];
pub(crate) const HEADERS: &[&str] = &["x-tenant", "x-role"];
pub(crate) const PARAMETERS: &[&str] = &["format", "q"];
pub(crate) const QUERIES: &[&str] =
    &["", "format=acme", "format=acme&format=globex", "q", "%66ormat=acme&q=%2e", "q=+"];
pub(crate) const PRINCIPALS: &[&str] = &[
    "spiffe://cluster.local/ns/shop/sa/web",
    "spiffe://cluster.local/ns/office/sa/clerk",
    "spiffe://cluster.local/ns/nowhere/sa/web",
    "spiffe://partner.example/ns/shop/sa/web",
    "db.partner.example",
];
/// Pods, a Service address, nodes (registered and not), an unregistered one inside the cluster, external ones.
pub(crate) const ADDRESSES: &[&str] = &[
    "10.0.0.1",
    "10.0.0.2",
    "10.0.0.3",
    "10.0.0.4",
    "10.0.0.5",
    "fd00::1",
    "10.96.0.1",
    "10.96.0.2",
    "192.168.1.1",
    "192.168.1.2",
    "192.168.1.9",
    "10.9.9.9",
    "203.0.113.7",
];
pub(crate) const NETWORKS: &[&str] =
    &["10.0.0.0/8", "10.0.0.2/32", "10.96.0.0/16", "192.168.1.0/24", "203.0.113.0/24", "0.0.0.0/0", "fd00::/8"];
