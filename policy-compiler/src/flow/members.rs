//! The members of a question, each read once and strictly.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use serde_json::{Map, Value};

use super::{DestinationMembers, Given, Question, SourceMembers};
use crate::facts::{Direction, Protocol, Transport};

/// Why a question could not be read, or not be asked of this world.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct QuestionError {
    /// The member, as `dst.port`; empty for the whole.
    pub member: String,
    /// What is wrong.
    pub message: String,
}

impl QuestionError {
    pub(crate) fn new(member: impl Into<String>, message: impl Into<String>) -> Self {
        Self { member: member.into(), message: message.into() }
    }
}

impl fmt::Display for QuestionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { member, message } = self;
        if member.is_empty() { f.write_str(message) } else { write!(f, "`{member}`: {message}") }
    }
}

type Result<T> = std::result::Result<T, QuestionError>;

pub(super) fn question(value: &Value) -> Result<Question> {
    let mut top = Members::of(value, "")?;
    let source = match top.take("src") {
        None | Some(Value::Null) => SourceMembers::default(),
        Some(value) => source(value)?,
    };
    let Some(destination) = top.take("dst") else { return Err(QuestionError::new("dst", "is required")) };
    let protocol = top.optional("protocol", choice(&PROTOCOLS))?;
    let question = Question {
        id: top.take("id").cloned(),
        now: top.optional("now", time)?,
        source,
        destination: self::destination(destination)?,
        direction: top.optional("direction", choice(&DIRECTIONS))?,
        transport: transport(top.optional("transport", choice(&TRANSPORTS))?, protocol)?,
        protocol,
        method: top.given("method", bytes)?,
        path: top.given("path", bytes)?,
        query: top.given("query", bytes)?,
        host: top.given("host", bytes)?,
        headers: top.given("headers", headers)?,
        // No name was sent: that is what an empty one says.
        sni: match top.given("sni", bytes)? {
            Given::Value(name) if name.is_empty() => Given::Missing,
            sni => sni,
        },
        alpn: top.given("alpn", bytes)?,
        tls: top.optional("tls", boolean)?.unwrap_or(false),
        jwt: top.given("jwt", claims)?,
        remote_ip: top.optional("remoteIp", address)?,
        qname: top.given("qname", bytes)?,
    };
    top.finish()?;
    if let Given::Value(path) = &question.path
        && path.contains(&b'?')
    {
        return Err(QuestionError::new("path", "holds a `?`: what follows it belongs into `query`"));
    }
    Ok(question)
}

fn source(value: &Value) -> Result<SourceMembers> {
    let mut members = Members::of(value, "src")?;
    let source = SourceMembers {
        ip: members.optional("ip", address)?,
        workload: members.optional("workload", qualified)?,
        principal: members.optional("principal", text)?,
    };
    members.finish()?;
    Ok(source)
}

fn destination(value: &Value) -> Result<DestinationMembers> {
    let mut members = Members::of(value, "dst")?;
    let destination = DestinationMembers {
        ip: members.optional("ip", address)?,
        workload: members.optional("workload", qualified)?,
        port: members.optional("port", port)?.ok_or_else(|| QuestionError::new("dst.port", "is required"))?,
        service: members.optional("service", qualified)?,
        fqdn: members.optional("fqdn", text)?,
    };
    members.finish()?;
    if destination.workload.is_some() && destination.service.is_some() {
        return Err(QuestionError::new("dst", "names a workload and a service: a flow is judged at one or the other"));
    }
    Ok(destination)
}

/// The transport as stated, else the protocol's own. DNS alone runs over two.
fn transport(stated: Option<Transport>, protocol: Option<Protocol>) -> Result<Transport> {
    match (stated, protocol) {
        (None, protocol) => Ok(protocol.map_or(Transport::Tcp, Protocol::transport)),
        (Some(Transport::Tcp), Some(Protocol::Dns)) => Ok(Transport::Tcp),
        (Some(stated), Some(protocol)) if protocol.transport() != stated => {
            Err(QuestionError::new("transport", "does not carry this protocol"))
        }
        (Some(stated), _) => Ok(stated),
    }
}

/// The members of one object, taken one by one; what is left at the end is unknown.
struct Members<'a> {
    map: &'a Map<String, Value>,
    place: &'static str,
    known: BTreeSet<&'static str>,
}

impl<'a> Members<'a> {
    fn of(value: &'a Value, place: &'static str) -> Result<Self> {
        let map = value.as_object().ok_or_else(|| QuestionError::new(place, "must be an object"))?;
        Ok(Self { map, place, known: BTreeSet::new() })
    }

    fn name(&self, key: &str) -> String {
        if self.place.is_empty() { key.to_owned() } else { format!("{}.{key}", self.place) }
    }

    fn take(&mut self, key: &'static str) -> Option<&'a Value> {
        self.known.insert(key);
        self.map.get(key)
    }

    /// A member for which `null` is the same as leaving it out.
    fn optional<T>(&mut self, key: &'static str, read: impl Fn(&Value) -> Reading<T>) -> Result<Option<T>> {
        match self.take(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(value).map(Some).map_err(|message| QuestionError::new(self.name(key), message)),
        }
    }

    fn given<T>(&mut self, key: &'static str, read: impl Fn(&Value) -> Reading<T>) -> Result<Given<T>> {
        match self.take(key) {
            None => Ok(Given::Missing),
            Some(Value::Null) => Ok(Given::Null),
            Some(value) => read(value).map(Given::Value).map_err(|message| QuestionError::new(self.name(key), message)),
        }
    }

    fn finish(self) -> Result<()> {
        let Some(unknown) = self.map.keys().find(|key| !self.known.contains(key.as_str())) else { return Ok(()) };
        let nearest = self
            .known
            .iter()
            .map(|known| (strsim::damerau_levenshtein(&known.to_lowercase(), &unknown.to_lowercase()), known))
            .min()
            .filter(|(distance, _)| *distance <= 2);
        let message = match nearest {
            Some((_, nearest)) => format!("is not a member; did you mean `{nearest}`?"),
            None => "is not a member".to_owned(),
        };
        Err(QuestionError::new(self.name(unknown), message))
    }
}

type Reading<T> = std::result::Result<T, String>;

fn text(value: &Value) -> Reading<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned).ok_or_else(|| "must be a string".into())
}

fn boolean(value: &Value) -> Reading<bool> {
    value.as_bool().ok_or_else(|| "must be `true` or `false`".into())
}

fn address(value: &Value) -> Reading<IpAddr> {
    let parsed = value.as_str().and_then(|text| text.parse::<IpAddr>().ok());
    parsed.map(|address| address.to_canonical()).ok_or_else(|| "must be an IP address".into())
}

fn port(value: &Value) -> Reading<u16> {
    let number = value.as_u64().and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0);
    number.ok_or_else(|| "must be a number from 1 to 65535".into())
}

fn qualified(value: &Value) -> Reading<(String, String)> {
    let halves = value.as_str().and_then(|text| text.split_once('/'));
    match halves {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        _ => Err("must be `namespace/name`".into()),
    }
}

/// A string, or bytes that are not UTF-8 as `{"b64": ".."}`.
fn bytes(value: &Value) -> Reading<Vec<u8>> {
    match value {
        Value::String(text) => Ok(text.clone().into_bytes()),
        Value::Object(map) => match (map.get("b64"), map.len()) {
            (Some(Value::String(encoded)), 1) => base64(encoded).ok_or_else(|| "is not valid base64".into()),
            _ => Err("must be a string or `{\"b64\": ..}`".into()),
        },
        _ => Err("must be a string or `{\"b64\": ..}`".into()),
    }
}

fn headers(value: &Value) -> Reading<Vec<(Vec<u8>, Vec<u8>)>> {
    const SHAPE: &str = "must be a list of `[name, value]`";
    let lines = value.as_array().ok_or(SHAPE)?;
    let line = |line: &Value| match line.as_array().map(Vec::as_slice) {
        Some([name, value]) => Ok((bytes(name)?, bytes(value)?)),
        _ => Err(SHAPE.to_owned()),
    };
    lines.iter().map(line).collect()
}

fn claims(value: &Value) -> Reading<Value> {
    if value.is_object() { Ok(value.clone()) } else { Err("must be an object of claims".into()) }
}

/// RFC 3339, or seconds since the epoch.
fn time(value: &Value) -> Reading<i64> {
    let parsed = match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second),
        _ => None,
    };
    parsed.ok_or_else(|| "must be a time as `2026-12-01T00:00:00Z`, or seconds since the epoch".into())
}

fn choice<T: Copy>(of: &'static [(&'static str, T)]) -> impl Fn(&Value) -> Reading<T> {
    move |value| {
        let found = value.as_str().and_then(|text| of.iter().find(|(name, _)| *name == text));
        found.map(|(_, choice)| *choice).ok_or_else(|| {
            let names: Vec<String> = of.iter().map(|(name, _)| format!("`{name}`")).collect();
            format!("must be one of {}", names.join(", "))
        })
    }
}

/// Standard or URL-safe alphabet, padded or not.
fn base64(encoded: &str) -> Option<Vec<u8>> {
    let body = encoded.trim_end_matches('=');
    let mut decoded = Vec::with_capacity(body.len() / 4 * 3 + 2);
    for group in body.as_bytes().chunks(4) {
        let mut bits = 0_u32;
        for byte in group {
            bits = bits << 6 | u32::from(sextet(*byte)?);
        }
        let octets = group.len() * 6 / 8;
        if octets == 0 {
            return None;
        }
        let [_, a, b, c] = (bits << (6 * (4 - group.len()))).to_be_bytes();
        decoded.extend([a, b, c].iter().take(octets));
    }
    Some(decoded)
}

fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}

const DIRECTIONS: [(&str, Direction); 2] = [("inbound", Direction::Inbound), ("outbound", Direction::Outbound)];

const TRANSPORTS: [(&str, Transport); 3] =
    [("tcp", Transport::Tcp), ("udp", Transport::Udp), ("sctp", Transport::Sctp)];

const PROTOCOLS: [(&str, Protocol); 8] = [
    ("http", Protocol::Http),
    ("http2", Protocol::Http2),
    ("grpc", Protocol::Grpc),
    ("tls", Protocol::Tls),
    ("tcp", Protocol::Tcp),
    ("udp", Protocol::Udp),
    ("sctp", Protocol::Sctp),
    ("dns", Protocol::Dns),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_destination_is_required() {
        let question = Question::parse(r#"{"dst": {"ip": "10.0.0.1", "port": 80}}"#).unwrap();
        assert_eq!((question.transport, question.protocol, question.tls), (Transport::Tcp, None, false));
        assert_eq!(question.sni, Given::Missing);
    }

    #[test]
    fn what_cannot_be_read_is_an_error_that_names_its_member() {
        for (line, expected) in [
            ("{", "EOF while parsing an object at line 1 column 1"),
            ("[]", "must be an object"),
            ("{}", "`dst`: is required"),
            (r#"{"dst": {"ip": "10.0.0.1"}}"#, "`dst.port`: is required"),
            (r#"{"dst": {"port": 0}}"#, "`dst.port`: must be a number from 1 to 65535"),
            (r#"{"dst": {"port": 80}, "metod": "GET"}"#, "`metod`: is not a member; did you mean `method`?"),
            (r#"{"dst": {"port": 80, "Port": 80}}"#, "`dst.Port`: is not a member; did you mean `port`?"),
            (r#"{"dst": {"port": 80}, "src": {"ip": "10.0.0"}}"#, "`src.ip`: must be an IP address"),
            (r#"{"dst": {"port": 80, "workload": "orders"}}"#, "`dst.workload`: must be `namespace/name`"),
            (r#"{"dst": {"port": 80}, "headers": [["a"]]}"#, "`headers`: must be a list of `[name, value]`"),
            (r#"{"dst": {"port": 80}, "path": {"b64": "*"}}"#, "`path`: is not valid base64"),
            (r#"{"dst": {"port": 80}, "path": "/a?b"}"#, "`path`: holds a `?`: what follows it belongs into `query`"),
            (
                r#"{"dst": {"port": 80}, "protocol": "udp", "transport": "tcp"}"#,
                "`transport`: does not carry this protocol",
            ),
            (
                r#"{"dst": {"port": 80}, "now": "today"}"#,
                "`now`: must be a time as `2026-12-01T00:00:00Z`, or seconds since the epoch",
            ),
            (r#"{"dst": {"port": 80}, "direction": "ingress"}"#, "`direction`: must be one of `inbound`, `outbound`"),
        ] {
            assert_eq!(Question::parse(line).unwrap_err().to_string(), expected, "{line}");
        }
    }

    #[test]
    fn base64_gives_bytes_back() {
        for (encoded, expected) in [
            ("", &b""[..]),
            ("/w==", &[0xff]),
            ("_w", &[0xff]),
            ("L2E=", b"/a"),
            ("L2Ev", b"/a/"),
            ("L2EvYg==", b"/a/b"),
        ] {
            assert_eq!(base64(encoded).as_deref(), Some(expected), "{encoded}");
        }
        assert_eq!(base64("A"), None);
        assert_eq!(base64("L2E%"), None);
    }

    #[test]
    fn null_is_unknown_and_missing_is_not() {
        let question = Question::parse(r#"{"dst": {"port": 443}, "sni": null, "alpn": "h2"}"#).unwrap();
        assert_eq!((question.sni, question.alpn), (Given::Null, Given::Value(b"h2".to_vec())));
        let question = Question::parse(r#"{"dst": {"port": 443}, "sni": ""}"#).unwrap();
        assert_eq!(question.sni, Given::Missing);
    }
}
