//! The request of a question, made canonical by the rules of [`crate::canonical`].

use std::sync::Arc;

use serde_json::Value;

use super::{Given, Question};
use crate::canonical::{self, Refusal, octet};
use crate::facts::{Fact, Field, Headers, Protocol, Request};
use crate::world::CanonicalScope;

/// A canonical request that owns its bytes.
#[derive(Clone, Debug)]
pub(super) struct OwnedRequest {
    protocol: Fact<Protocol>,
    method: Owned,
    path: Owned,
    query: Owned,
    host: Owned,
    host_port: Option<u16>,
    headers: Fact<()>,
    bytes: Vec<u8>,
    fields: Vec<Field>,
    upgrade: Owned,
    sni: Owned,
    alpn: Owned,
    jwt: Fact<()>,
    claims: Value,
    remote_ip: Option<std::net::IpAddr>,
    qname: Owned,
    now: i64,
}

type Owned = Fact<Arc<[u8]>>;

/// [`Fact`] is only [`Copy`] for what is: this borrows one that owns.
fn borrow(fact: &Owned) -> Fact<&[u8]> {
    match fact {
        Fact::Known(bytes) => Fact::Known(bytes),
        Fact::Absent => Fact::Absent,
        Fact::Unknown => Fact::Unknown,
    }
}

impl OwnedRequest {
    /// The request as rules see it.
    pub(super) fn request(&self) -> Request<'_> {
        // A token that is given is accepted by everybody.
        let jwt = match self.jwt {
            Fact::Known(()) => Fact::Known(&self.claims),
            Fact::Absent => Fact::Absent,
            Fact::Unknown => Fact::Unknown,
        };
        Request {
            protocol: self.protocol,
            method: borrow(&self.method),
            path: borrow(&self.path),
            query: borrow(&self.query),
            host: borrow(&self.host),
            host_port: self.host_port,
            headers: match self.headers {
                Fact::Known(()) => Fact::Known(Headers { bytes: &self.bytes, fields: &self.fields }),
                Fact::Absent => Fact::Absent,
                Fact::Unknown => Fact::Unknown,
            },
            upgrade: borrow(&self.upgrade),
            sni: borrow(&self.sni),
            alpn: borrow(&self.alpn),
            jwt,
            mesh_jwt: jwt,
            remote_ip: self.remote_ip,
            qname: borrow(&self.qname),
            now: self.now,
        }
    }

    /// A request whose protocol is known at most: what is not HTTP cannot be seen.
    fn unseen(protocol: Fact<Protocol>, question: &Question, now: i64) -> Self {
        let (jwt, claims) = token(&question.jwt, Fact::Unknown);
        Self {
            protocol,
            method: Fact::Unknown,
            path: Fact::Unknown,
            query: Fact::Unknown,
            host: Fact::Unknown,
            host_port: None,
            headers: Fact::Unknown,
            bytes: Vec::new(),
            fields: Vec::new(),
            upgrade: Fact::Unknown,
            sni: Fact::Absent,
            alpn: Fact::Absent,
            jwt,
            claims,
            remote_ip: question.remote_ip,
            qname: Fact::Absent,
            now,
        }
    }
}

/// Makes the request canonical, or says why it is none. Where rules of layer 4 alone are in scope nothing is refused:
/// what has no canonical form is unknown.
pub(super) fn canonicalise(question: &Question, scope: &CanonicalScope, now: i64) -> Result<OwnedRequest, Refusal> {
    let protocol = protocol(question);
    let http = matches!(protocol, Fact::Known(protocol) if protocol.is_http());
    let mut request = OwnedRequest::unseen(protocol, question, now);
    let refused = (|| {
        request.sni = match &question.sni {
            // A name of no bytes is none.
            Given::Value(name) if name.is_empty() => Fact::Absent,
            sni => normalised(sni, default_for(protocol, &[]), canonical::server_name)?,
        };
        request.alpn = plain(&question.alpn, default_for(protocol, &[]));
        request.qname = plain(&question.qname, default_for(protocol, &[Protocol::Dns]));
        if let Fact::Known(name) = &request.qname {
            let name = name.strip_suffix(b".").unwrap_or(name);
            request.qname = Fact::Known(name.to_ascii_lowercase().into());
        }
        if http { self::http(question, scope, &mut request) } else { Ok(()) }
    })();
    match refused {
        Ok(()) => Ok(request),
        Err(_) if scope.opaque => Ok(OwnedRequest::unseen(protocol, question, now)),
        Err(refusal) => Err(refusal),
    }
}

/// As stated; else HTTP where anything of a request is given, else what the given parts belong to.
fn protocol(question: &Question) -> Fact<Protocol> {
    if let Some(stated) = question.protocol {
        return Fact::Known(match stated {
            // A call is known by its method and content type, as the proxy knows it.
            Protocol::Http2 if is_grpc(question) == Some(true) => Protocol::Grpc,
            Protocol::Grpc if is_grpc(question) == Some(false) => Protocol::Http2,
            other => other,
        });
    }
    let Question { method, path, query, host, headers, jwt, sni, alpn, qname, .. } = question;
    let given = [method, path, query, host].into_iter().any(|member| *member != Given::Missing);
    match question.transport {
        crate::facts::Transport::Tcp => {}
        crate::facts::Transport::Udp if *qname != Given::Missing => return Fact::Known(Protocol::Dns),
        crate::facts::Transport::Udp => return Fact::Known(Protocol::Udp),
        crate::facts::Transport::Sctp => return Fact::Known(Protocol::Sctp),
    }
    if given || *headers != Given::Missing || *jwt != Given::Missing {
        Fact::Known(Protocol::Http)
    } else if *sni != Given::Missing || *alpn != Given::Missing {
        Fact::Known(Protocol::Tls)
    } else if *qname != Given::Missing {
        Fact::Known(Protocol::Dns)
    } else {
        Fact::Unknown
    }
}

/// Whether it is a gRPC call; `None` where that is not said.
fn is_grpc(question: &Question) -> Option<bool> {
    let method: &[u8] = match &question.method {
        Given::Value(method) if method != b"POST" => return Some(false),
        Given::Value(_) | Given::Missing => b"POST",
        Given::Null => return None,
    };
    let Given::Value(lines) = &question.headers else { return None };
    let mut types = lines.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"content-type")).peekable();
    types.peek()?;
    Some(canonical::is_grpc_call(method, types.map(|(_, value)| octet::trim(value))))
}

/// What a missing value is: absent once the protocol is known (of one that must have it: unknown), else unknown.
fn default_for(protocol: Fact<Protocol>, must_have: &[Protocol]) -> Owned {
    match protocol {
        Fact::Known(protocol) if !must_have.contains(&protocol) => Fact::Absent,
        _ => Fact::Unknown,
    }
}

fn http(question: &Question, scope: &CanonicalScope, request: &mut OwnedRequest) -> Result<(), Refusal> {
    // A gRPC call is a POST.
    let grpc = request.protocol == Fact::Known(Protocol::Grpc);
    let method = if grpc { Fact::Known(b"POST".as_slice().into()) } else { Fact::Unknown };
    request.method = plain(&question.method, method);
    if let Fact::Known(method) = &request.method {
        canonical::method(method)?;
    }
    let is = |name: &[u8]| matches!(&request.method, Fact::Known(method) if **method == *name);
    let (connect, options) = (is(b"CONNECT"), is(b"OPTIONS"));
    request.path = match &question.path {
        Given::Value(path) if path == b"*" => {
            if !options {
                return Err(Refusal::MalformedTarget);
            }
            Fact::Known(path.as_slice().into())
        }
        other => normalised(other, Fact::Unknown, |raw, out| canonical::path(raw, scope.options, out))?,
    };
    request.query = plain(&question.query, Fact::Absent);
    if let Fact::Known(query) = &request.query {
        canonical::query(query)?;
    }
    headers(question, scope, request)?;
    host(question, request)?;
    (request.jwt, request.claims) = token(&question.jwt, Fact::Absent);
    request.upgrade = upgrade(request, connect)?;
    if question.tls
        && let (Fact::Known(sni), Fact::Known(host)) = (&request.sni, &request.host)
        && sni != host
    {
        return Err(Refusal::Misdirected);
    }
    Ok(())
}

/// Judges all lines, then keeps those that a rule may see: not the proxy's own names, not what Connection nominates.
fn headers(question: &Question, scope: &CanonicalScope, request: &mut OwnedRequest) -> Result<(), Refusal> {
    let lines = match &question.headers {
        Given::Value(lines) => lines.as_slice(),
        Given::Missing => &[],
        Given::Null => {
            request.headers = Fact::Unknown;
            return Ok(());
        }
    };
    let trimmed = || lines.iter().map(|(name, value)| (name.as_slice(), octet::trim(value)));
    canonical::fields(trimmed(), scope)?;
    let nominated: Vec<&[u8]> = trimmed()
        .filter(|(name, _)| name.eq_ignore_ascii_case(b"connection"))
        .flat_map(|(_, value)| canonical::connection_options(value))
        .filter(|option| !option.eq_ignore_ascii_case(b"upgrade"))
        .collect();
    for (name, value) in trimmed() {
        if canonical::is_reserved(name) || nominated.iter().any(|option| option.eq_ignore_ascii_case(name)) {
            continue;
        }
        let name = append(&mut request.bytes, &name.to_ascii_lowercase());
        let value = append(&mut request.bytes, value);
        request.fields.push(Field { name, value });
    }
    request.headers = Fact::Known(());
    Ok(())
}

fn append(to: &mut Vec<u8>, bytes: &[u8]) -> (u32, u32) {
    let position = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    let from = position(to.len());
    to.extend_from_slice(bytes);
    (from, position(to.len()))
}

/// The authority as given, else the Host line; where both are there they must agree.
fn host(question: &Question, request: &mut OwnedRequest) -> Result<(), Refusal> {
    let lines = Headers { bytes: &request.bytes, fields: &request.fields };
    let line = lines.values(b"host").next();
    let raw = match (&question.host, line) {
        (Given::Value(authority), Some(line)) => {
            canonical::authorities_agree(authority, line)?;
            authority.as_slice()
        }
        (Given::Value(authority), None) => authority.as_slice(),
        (Given::Missing | Given::Null, Some(line)) => line,
        (Given::Missing, None) => {
            request.host = Fact::Absent;
            return Ok(());
        }
        (Given::Null, None) => {
            request.host = Fact::Unknown;
            return Ok(());
        }
    };
    let mut canonical = Vec::new();
    request.host_port = canonical::authority(raw, &mut canonical)?;
    request.host = Fact::Known(canonical.into());
    Ok(())
}

/// The one protocol that the request asks to switch to; `connect` for CONNECT.
fn upgrade(request: &OwnedRequest, connect: bool) -> Result<Owned, Refusal> {
    if connect {
        return Ok(Fact::Known(b"connect".as_slice().into()));
    }
    if request.headers == Fact::Unknown {
        return Ok(Fact::Unknown);
    }
    let lines = Headers { bytes: &request.bytes, fields: &request.fields };
    let asked = canonical::upgrade(&lines)?;
    if request.protocol != Fact::Known(Protocol::Http) && lines.values(b"upgrade").next().is_some() {
        return Err(Refusal::MalformedUpgrade);
    }
    Ok(asked.map_or(Fact::Absent, |asked| Fact::Known(asked.to_ascii_lowercase().into())))
}

fn plain(member: &Given<Vec<u8>>, missing: Owned) -> Owned {
    match member {
        Given::Value(bytes) => Fact::Known(bytes.as_slice().into()),
        Given::Null => Fact::Unknown,
        Given::Missing => missing,
    }
}

fn normalised(
    member: &Given<Vec<u8>>,
    missing: Owned,
    normalise: impl FnOnce(&[u8], &mut Vec<u8>) -> Result<(), Refusal>,
) -> Result<Owned, Refusal> {
    let Given::Value(raw) = member else { return Ok(plain(member, missing)) };
    let mut canonical = Vec::new();
    normalise(raw, &mut canonical)?;
    Ok(Fact::Known(canonical.into()))
}

fn token(member: &Given<Value>, missing: Fact<()>) -> (Fact<()>, Value) {
    match member {
        Given::Value(claims) => (Fact::Known(()), claims.clone()),
        Given::Null => (Fact::Unknown, Value::Null),
        Given::Missing => (missing, Value::Null),
    }
}
