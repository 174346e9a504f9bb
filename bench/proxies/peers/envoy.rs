//! Envoy: its RBAC filter with a policy for each rule, as meshes write it.

use std::fs;

use serde_json::{Map, Value, json};

use super::{Protocol, Setup, words};
use crate::process::Failure;
use crate::rules::Rules;

pub(super) fn write(setup: &Setup) -> Result<Vec<String>, Failure> {
    let rules = json!({"action": "ALLOW", "policies": policies(setup)});
    let filters = match setup.protocol {
        Protocol::Tcp => bytes(&rules),
        _ => requests(&rules),
    };
    let configuration = json!({
        "static_resources": {
            "listeners": [{"name": "pod", "address": address(setup.listen), "filter_chains": [{"filters": filters}]}],
            "clusters": [cluster(setup)],
        },
    });
    fs::write(setup.file("envoy.json"), serde_json::to_string(&configuration)?)?;
    Ok(words(&format!("-c envoy.json --disable-hot-restart --log-level warn --concurrency {}", setup.workers)))
}

/// The filters of a listener that judges connections.
fn bytes(rules: &Value) -> Value {
    let rbac = typed("extensions.filters.network.rbac.v3.RBAC", json!({"stat_prefix": "pod", "rules": rules}));
    let proxy =
        typed("extensions.filters.network.tcp_proxy.v3.TcpProxy", json!({"stat_prefix": "pod", "cluster": "app"}));
    json!([
        {"name": "envoy.filters.network.rbac", "typed_config": rbac},
        {"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy},
    ])
}

/// The filters of a listener that judges requests.
fn requests(rules: &Value) -> Value {
    let rbac = typed("extensions.filters.http.rbac.v3.RBAC", json!({"rules": rules}));
    let router = typed("extensions.filters.http.router.v3.Router", json!({}));
    let route = json!({"match": {"prefix": "/"}, "route": {"cluster": "app", "timeout": "0s"}});
    let manager = typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": "pod",
            "normalize_path": true,
            "merge_slashes": true,
            "upgrade_configs": [{"upgrade_type": "websocket"}],
            "http_filters": [
                {"name": "envoy.filters.http.rbac", "typed_config": rbac},
                {"name": "envoy.filters.http.router", "typed_config": router},
            ],
            "route_config": {"virtual_hosts": [{"name": "app", "domains": ["*"], "routes": [route]}]},
        }),
    );
    json!([{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}])
}

fn policies(setup: &Setup) -> Map<String, Value> {
    let policy = |rule: crate::rules::Rule| {
        let method = json!({"header": {"name": ":method", "string_match": {"exact": rule.method}}});
        let path = json!({"url_path": {"path": {"exact": rule.path}}});
        let source = json!({"address_prefix": Rules::address(rule.source, 0), "prefix_len": 32});
        let what = match setup.protocol {
            Protocol::Tcp => json!({"any": true}),
            _ => json!({"and_rules": {"rules": [method, path]}}),
        };
        let policy = json!({
            "permissions": [what],
            "principals": [{"direct_remote_ip": source}],
        });
        (format!("r{}", rule.number), policy)
    };
    setup.rules.all().map(policy).collect()
}

fn cluster(setup: &Setup) -> Value {
    let endpoint = json!({"endpoint": {"address": address(setup.upstream)}});
    // Without these, Envoy opens the circuit at 1,024 connections or requests.
    let most = 1_000_000;
    let mut cluster = json!({
        "name": "app",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [{
            "max_connections": most, "max_pending_requests": most, "max_requests": most,
        }]},
        "load_assignment": {"cluster_name": "app", "endpoints": [{"lb_endpoints": [endpoint]}]},
    });
    if setup.protocol == Protocol::Http2 {
        let options = json!({"explicit_http_config": {"http2_protocol_options": {}}});
        let options = typed("extensions.upstreams.http.v3.HttpProtocolOptions", options);
        cluster["typed_extension_protocol_options"] =
            json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options});
    }
    cluster
}

fn address(address: std::net::SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip(), "port_value": address.port()}})
}

fn typed(name: &str, mut body: Value) -> Value {
    if let Some(body) = body.as_object_mut() {
        body.insert("@type".to_owned(), format!("type.googleapis.com/envoy.{name}").into());
    }
    body
}
