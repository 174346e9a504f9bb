//! Flows as the access log recorded them.

use serde_json::{Map, Value, json};

use crate::registry::Registry;

/// The request that a line of the access log is about. `None`: it is about none.
///
/// The log holds neither query nor header values, so those are unknown here: rules that ask for them are judged as they
/// would be if nothing were seen.
pub(crate) fn logged(line: &Value, registry: &Registry) -> Option<Value> {
    let text = |key: &str| line.get(key).and_then(Value::as_str);
    if text("event") != Some("request") {
        return None;
    }
    let known = |key: &str| {
        text(key).filter(|name| {
            name.split_once('/').is_some_and(|(namespace, name)| registry.find_workload(namespace, name).is_some())
        })
    };
    let mut source = Map::new();
    let mut destination = Map::new();
    if let Some(workload) = known("source_workload") {
        source.insert("workload".into(), json!(workload));
    }
    source.insert("ip".into(), line.get("client.address")?.clone());
    if let Some(principal) = text("principal") {
        source.insert("principal".into(), json!(principal));
    }
    if let Some(workload) = known("destination_workload") {
        destination.insert("workload".into(), json!(workload));
    }
    destination.insert("ip".into(), line.get("destination.address")?.clone());
    destination.insert("port".into(), line.get("destination.port")?.clone());
    let mut asked = Map::new();
    asked.insert("src".into(), Value::Object(source));
    asked.insert("dst".into(), Value::Object(destination));
    for (from, to) in [
        ("direction", "direction"),
        ("protocol", "protocol"),
        ("network.transport", "transport"),
        ("http.request.method", "method"),
        ("url.path", "path"),
        ("tls.client.server_name", "sni"),
    ] {
        if let Some(value) = line.get(from) {
            asked.insert(to.into(), value.clone());
        }
    }
    let http = matches!(text("protocol"), Some("http" | "http2" | "grpc"));
    if http {
        if let Some(host) = text("server.address").filter(|host| host.parse::<std::net::IpAddr>().is_err()) {
            asked.insert("host".into(), json!(host));
        }
        for unseen in ["query", "headers", "jwt"] {
            asked.insert(unseen.into(), Value::Null);
        }
    }
    Some(Value::Object(asked))
}
