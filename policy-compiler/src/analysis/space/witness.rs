//! A request that stands for a region of requests, as a line that `decide` reads.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::ends::End;
use super::function::Requests;
use super::survey::Entry;
use super::variable::{Name, Value, values};
use crate::facts::{Direction, Protocol, Transport};
use crate::world::World;

/// The request with these classes, by level; whatever is left open is what reads best.
pub(super) fn request(
    requests: &Requests,
    classes: &BTreeMap<usize, usize>,
    between: (&End, &End),
    entry: &Entry,
    world: &World,
    direction: Option<Direction>,
    now: i64,
) -> Json {
    let mut parts: BTreeMap<&Name, &Value> = BTreeMap::new();
    for (level, class) in classes {
        if let Some(variable) = requests.variables.get(*level)
            && let Some((_, value)) = variable.classes.get(*class)
        {
            parts.insert(&variable.name, value);
        }
    }
    let protocol = match parts.get(&Name::Protocol) {
        Some(Value::Protocol(protocol)) => *protocol,
        _ => match entry.transport {
            Transport::Tcp => Protocol::Tcp,
            Transport::Udp => Protocol::Udp,
            Transport::Sctp => Protocol::Sctp,
        },
    };
    let mut line = Map::new();
    line.insert("src".into(), source(between.0, world));
    line.insert("dst".into(), destination(between.1, entry.port, world));
    if let Some(direction) = direction {
        line.insert("direction".into(), json!(format!("{direction:?}").to_lowercase()));
    }
    line.insert("transport".into(), json!(format!("{:?}", entry.transport).to_lowercase()));
    line.insert("protocol".into(), json!(protocol));
    if let Some(Value::Address(address)) = parts.get(&Name::RemoteIp) {
        line.insert("remoteIp".into(), json!(address));
    }
    for (name, member) in [(Name::Sni, "sni"), (Name::Alpn, "alpn")] {
        // Of other protocols there is no ClientHello to be seen.
        let seen = protocol == Protocol::Tls || protocol.is_http();
        if let Some(value) = parts.get(&name).and_then(|value| single(value)).filter(|_| seen) {
            line.insert(member.into(), text(&value));
        }
    }
    if protocol == Protocol::Dns {
        let name = parts.get(&Name::Qname).and_then(|value| single(value));
        line.insert("qname".into(), text(&name.unwrap_or_else(|| b"example.com".to_vec())));
    }
    if protocol.is_http() {
        http(&parts, protocol, &mut line);
    }
    line.insert("now".into(), json!(now));
    Json::Object(line)
}

fn http(parts: &BTreeMap<&Name, &Value>, protocol: Protocol, line: &mut Map<String, Json>) {
    let of = |name: Name| parts.get(&name).and_then(|value| single(value));
    let usual: &[u8] = if protocol == Protocol::Grpc { b"POST" } else { b"GET" };
    let target = of(Name::Target);
    let usual = if target.as_deref() == Some(b"*") { b"OPTIONS" } else { usual };
    let upgrade = of(Name::Upgrade);
    let by_connect = protocol != Protocol::Http && upgrade.as_deref() == Some(b"connect");
    let method = of(Name::Method).unwrap_or_else(|| if by_connect { b"CONNECT".to_vec() } else { usual.to_vec() });
    let target = target.unwrap_or_else(|| b"/".to_vec());
    let mut halves = target.splitn(2, |byte| *byte == b'?');
    line.insert("path".into(), text(halves.next().unwrap_or_default()));
    let mut query: Vec<u8> = halves.next().unwrap_or_default().to_vec();
    let mut has_query = target.contains(&b'?');
    let mut headers: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut token = Json::Null;
    for (name, value) in parts {
        match (name, value) {
            (Name::Header(name), Value::Written(written)) => {
                headers.extend(values(written).into_iter().map(|value| (name.as_bytes().to_vec(), value)));
            }
            (Name::Query(name), Value::Written(written)) => {
                for value in values(written) {
                    if has_query {
                        query.push(b'&');
                    }
                    has_query = true;
                    escape(name.as_bytes(), &mut query);
                    query.push(b'=');
                    escape(&value, &mut query);
                }
            }
            (Name::Claim(path), Value::Written(written)) => {
                let values: Vec<Json> = values(written).iter().map(|value| Json::String(lossless(value))).collect();
                let claim = match values.as_slice() {
                    [only] => only.clone(),
                    _ => Json::Array(values),
                };
                put(&mut token, path, claim);
            }
            (Name::Claim(path), Value::Nothing) => put(&mut token, path, json!([])),
            (Name::Subject, Value::Written(_)) => {
                let whole = single(value).unwrap_or_default();
                let cut = whole.iter().rposition(|byte| *byte == b'/').unwrap_or_default();
                let (issuer, subject) = whole.split_at_checked(cut).unwrap_or_default();
                put(&mut token, &["iss".into()], Json::String(lossless(issuer)));
                put(&mut token, &["sub".into()], Json::String(lossless(subject.get(1..).unwrap_or_default())));
            }
            _ => {}
        }
    }
    if let Some(asked) = upgrade.filter(|asked| !(asked == b"connect" && method == b"CONNECT")) {
        headers.push((b"connection".to_vec(), b"upgrade".to_vec()));
        headers.push((b"upgrade".to_vec(), asked));
    }
    line.insert("method".into(), text(&method));
    if has_query {
        line.insert("query".into(), text(&query));
    }
    if let Some(host) = of(Name::Authority) {
        line.insert("host".into(), text(&host));
    }
    if !headers.is_empty() {
        let lines = headers.iter().map(|(name, value)| json!([text(name), text(value)])).collect();
        line.insert("headers".into(), Json::Array(lines));
    }
    if token != Json::Null {
        line.insert("jwt".into(), token);
    }
}

fn source(end: &End, world: &World) -> Json {
    let mut members = Map::new();
    if let Some(workload) = end.workload.and_then(|id| world.registry().workload(id)) {
        members.insert("workload".into(), json!(format!("{}/{}", workload.namespace, workload.name)));
    }
    if let Some(address) = end.address {
        members.insert("ip".into(), json!(address));
    }
    if let Some(principal) = &end.principal {
        members.insert("principal".into(), json!(principal));
    }
    Json::Object(members)
}

fn destination(end: &End, port: u16, world: &World) -> Json {
    let mut members = Map::new();
    let registry = world.registry();
    if let Some(workload) = end.workload.and_then(|id| registry.workload(id)) {
        members.insert("workload".into(), json!(format!("{}/{}", workload.namespace, workload.name)));
    }
    if let Some(service) = end.service.and_then(|id| registry.service(id)) {
        members.insert("service".into(), json!(format!("{}/{}", service.namespace, service.name)));
    }
    if let Some(address) = end.address {
        members.insert("ip".into(), json!(address));
    }
    members.insert("port".into(), json!(port));
    if let Some(name) = &end.fqdn {
        members.insert("fqdn".into(), json!(name));
    }
    Json::Object(members)
}

fn single(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::Written(written) => Some(written.iter().filter_map(|symbol| u8::try_from(*symbol).ok()).collect()),
        _ => None,
    }
}

fn lossless(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Bytes as a member of a request: text, or base64 where they are none.
fn text(bytes: &[u8]) -> Json {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({"b64": base64(bytes)}),
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let at = |index: usize| u32::from(chunk.get(index).copied().unwrap_or_default());
        let word = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let value = (word >> (18 - 6 * digit)) & 63;
            let known = digit <= chunk.len();
            let digit = DIGITS.get(value as usize).copied().unwrap_or(b'=');
            out.push(if known { char::from(digit) } else { '=' });
        }
    }
    out
}

fn escape(bytes: &[u8], into: &mut Vec<u8>) {
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/') {
            into.push(*byte);
        } else {
            into.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
}

fn put(token: &mut Json, path: &[std::sync::Arc<str>], claim: Json) {
    if !token.is_object() {
        *token = json!({});
    }
    let Some(members) = token.as_object_mut() else { return };
    match path {
        [] => {}
        [last] => {
            members.insert(last.to_string(), claim);
        }
        [first, rest @ ..] => put(members.entry(first.to_string()).or_insert(Json::Null), rest, claim),
    }
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn bytes_that_are_no_text_are_base64() {
        for (bytes, expected) in
            [(&b""[..], ""), (b"\xff", "/w=="), (b"/a", "L2E="), (b"/a/", "L2Ev"), (b"/a/b", "L2EvYg==")]
        {
            assert_eq!(base64(bytes), expected);
        }
    }
}
