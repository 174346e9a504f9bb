//! Random connections and requests, as owned values that lend the borrowed ones.

use std::net::IpAddr;
use std::sync::Arc;

use eastwall_policy::facts::{Connection, Direction, End, Fact, Field, Headers, Place, Protocol, Request, Transport};
use eastwall_policy::registry::{Registry, ServiceId, WorkloadId};
use eastwall_policy::settings::Settings;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::registries::transport;
use super::{ADDRESSES, FQDNS, HEADERS, HOSTS, METHODS, PATHS, PORTS, PRINCIPALS, QUERIES, VALUES, bytes, word};

/// A connection that owns what it names.
#[derive(Clone, Debug)]
pub(crate) struct OwnedConnection {
    source: OwnedEnd,
    destination: OwnedEnd,
    port: u16,
    transport: Transport,
    service: Option<ServiceId>,
    fqdn: Option<Arc<str>>,
    direction: Option<Direction>,
}

#[derive(Clone, Debug)]
struct OwnedEnd {
    address: Option<IpAddr>,
    place: Place,
    /// At the address of one of the registered workloads, instead.
    at: Option<prop::sample::Index>,
    /// Stated to be that workload, whatever the registry says of the address.
    stated: bool,
    principal: Option<Arc<str>>,
}

impl OwnedConnection {
    /// Who is at the addresses, as this registry has it.
    pub(crate) fn placed(mut self, registry: &Registry, settings: &Settings) -> Self {
        for end in [&mut self.source, &mut self.destination] {
            let chosen = end.at.filter(|_| !registry.workloads.is_empty()).map(|at| at.index(registry.workloads.len()));
            if let Some(workload) = chosen.and_then(|index| registry.workloads.get(index)) {
                end.address = workload.ips.first().copied();
            }
            end.place = match (chosen, end.address) {
                (Some(index), _) if end.stated => Place::Workload(WorkloadId(u32::try_from(index).unwrap())),
                (_, Some(address)) => registry.place(address, settings),
                (_, None) => Place::Unknown,
            };
        }
        let dialled = self.destination.address.filter(|_| !matches!(self.destination.place, Place::Workload(_)));
        self.service = dialled.and_then(|address| registry.service_at(address));
        self
    }

    /// As the data path would have it.
    pub(crate) fn connection(&self) -> Connection<'_> {
        Connection {
            source: self.source.end(),
            destination: self.destination.end(),
            port: self.port,
            transport: self.transport,
            service: self.service,
            fqdn: self.fqdn.as_deref(),
            direction: self.direction,
        }
    }
}

impl OwnedEnd {
    fn end(&self) -> End<'_> {
        End { address: self.address, place: self.place, principal: self.principal.as_deref() }
    }
}

/// Any connection of the universe; say where with [`OwnedConnection::placed`].
pub(crate) fn connection() -> impl Strategy<Value = OwnedConnection> {
    let directions = prop::sample::select(vec![None, Some(Direction::Inbound), Some(Direction::Outbound)]);
    let source = end(prop::option::weighted(0.3, word(PRINCIPALS)).boxed(), 0.5);
    let destination = end(Just(None).boxed(), 0.8);
    let fqdn = prop::option::weighted(0.3, word(FQDNS));
    (source, destination, prop::sample::select(PORTS), transport(), fqdn, directions).prop_map(
        |(source, destination, port, transport, fqdn, direction)| OwnedConnection {
            source,
            destination,
            port,
            transport,
            service: None,
            fqdn,
            direction,
        },
    )
}

fn end(principal: BoxedStrategy<Option<Arc<str>>>, registered: f64) -> impl Strategy<Value = OwnedEnd> {
    let address = prop::sample::select(ADDRESSES).prop_map(|text| text.parse().unwrap());
    let at = prop::option::weighted(registered, any::<prop::sample::Index>());
    (prop::option::weighted(0.95, address), at, prop::bool::weighted(0.1), principal)
        .prop_map(|(address, at, stated, principal)| OwnedEnd { address, place: Place::Unknown, at, stated, principal })
}

/// A request that owns its bytes.
#[derive(Clone, Debug)]
pub(crate) struct OwnedRequest {
    pub(crate) protocol: Fact<Protocol>,
    method: Owned,
    path: Owned,
    query: Owned,
    host: Owned,
    host_port: Option<u16>,
    headers: Lines,
    upgrade: Owned,
    sni: Owned,
    alpn: Owned,
    jwt: Token,
    mesh_jwt: Token,
    remote_ip: Option<IpAddr>,
    qname: Owned,
    pub(crate) now: i64,
}

#[derive(Clone, Debug)]
enum Owned {
    Known(Arc<[u8]>),
    Absent,
    Unknown,
}

#[derive(Clone, Debug)]
enum Lines {
    Known(Vec<u8>, Vec<Field>),
    Absent,
    Unknown,
}

#[derive(Clone, Debug)]
enum Token {
    Known(Value),
    Absent,
    Unknown,
}

impl Token {
    fn fact(&self) -> Fact<&Value> {
        match self {
            Self::Known(claims) => Fact::Known(claims),
            Self::Absent => Fact::Absent,
            Self::Unknown => Fact::Unknown,
        }
    }
}

impl Owned {
    fn fact(&self) -> Fact<&[u8]> {
        match self {
            Self::Known(bytes) => Fact::Known(bytes),
            Self::Absent => Fact::Absent,
            Self::Unknown => Fact::Unknown,
        }
    }
}

impl OwnedRequest {
    /// As the data path would have it.
    pub(crate) fn request(&self) -> Request<'_> {
        Request {
            protocol: self.protocol,
            method: self.method.fact(),
            path: self.path.fact(),
            query: self.query.fact(),
            host: self.host.fact(),
            host_port: self.host_port,
            headers: match &self.headers {
                Lines::Known(bytes, fields) => Fact::Known(Headers { bytes, fields }),
                Lines::Absent => Fact::Absent,
                Lines::Unknown => Fact::Unknown,
            },
            upgrade: self.upgrade.fact(),
            sni: self.sni.fact(),
            alpn: self.alpn.fact(),
            jwt: self.jwt.fact(),
            mesh_jwt: self.mesh_jwt.fact(),
            remote_ip: self.remote_ip,
            qname: self.qname.fact(),
            now: self.now,
        }
    }
}

/// Any request of the universe; some are what a kubelet sends.
pub(crate) fn request() -> impl Strategy<Value = OwnedRequest> {
    (anything(), prop::bool::weighted(0.15)).prop_map(|(request, probe)| {
        if !probe {
            return request;
        }
        OwnedRequest {
            protocol: Fact::Known(Protocol::Http),
            method: Owned::Known(Arc::from(&b"GET"[..])),
            path: Owned::Known(Arc::from(&b"/a"[..])),
            query: Owned::Absent,
            upgrade: Owned::Absent,
            ..request
        }
    })
}

fn anything() -> impl Strategy<Value = OwnedRequest> {
    let line = (fact(METHODS), fact(PATHS), fact(QUERIES), fact(HOSTS), prop::option::weighted(0.3, Just(8080_u16)));
    let upgrade = prop_oneof![
        4 => Just(Owned::Absent),
        1 => Just(Owned::Unknown),
        2 => bytes(&["websocket", "connect"]).prop_map(Owned::Known)
    ];
    let rest = (upgrade, fact(HOSTS), fact(&["h2", "http/1.1"]), fact(HOSTS));
    let remote = prop::option::weighted(0.2, prop::sample::select(ADDRESSES).prop_map(|text| text.parse().unwrap()));
    (protocol(), line, headers(), rest, (token(), token()), remote, 0..20_i64).prop_map(
        |(
            protocol,
            (method, path, query, host, host_port),
            headers,
            (upgrade, sni, alpn, qname),
            (jwt, mesh_jwt),
            remote_ip,
            now,
        )| {
            OwnedRequest {
                protocol,
                method,
                path,
                query,
                host,
                host_port,
                headers,
                upgrade,
                sni,
                alpn,
                jwt,
                mesh_jwt,
                remote_ip,
                qname,
                now,
            }
        },
    )
}

fn protocol() -> impl Strategy<Value = Fact<Protocol>> {
    prop_oneof![
        1 => Just(Fact::Unknown),
        6 => prop::sample::select(PROTOCOLS).prop_map(Fact::Known),
    ]
}

fn fact(of: &'static [&'static str]) -> impl Strategy<Value = Owned> {
    prop_oneof![
        5 => bytes(of).prop_map(Owned::Known),
        1 => Just(Owned::Absent),
        1 => Just(Owned::Unknown),
    ]
}

fn headers() -> impl Strategy<Value = Lines> {
    let line = prop_oneof![
        5 => (bytes(HEADERS), bytes(VALUES)),
        1 => (bytes(&["x-forwarded-for"]), prop_oneof![bytes(ADDRESSES), bytes(&["10.0.0.7, 203.0.113.9", "nobody"])]),
    ];
    let lines = prop::collection::vec(line, 0..4).prop_map(|lines| {
        let (mut buffer, mut fields) = (Vec::new(), Vec::new());
        let mut append = |part: &[u8]| {
            let from = u32::try_from(buffer.len()).unwrap();
            buffer.extend_from_slice(part);
            (from, u32::try_from(buffer.len()).unwrap())
        };
        for (name, value) in lines {
            let name = append(&name);
            fields.push(Field { name, value: append(&value) });
        }
        Lines::Known(buffer, fields)
    });
    prop_oneof![6 => lines, 1 => Just(Lines::Absent), 1 => Just(Lines::Unknown)]
}

fn token() -> impl Strategy<Value = Token> {
    let claims = prop::sample::select(vec![
        json!({"iss": "https://sso", "sub": "kim", "roles": ["acme", "globex"], "deep": {"n": 7}}),
        json!({"iss": "https://sso", "roles": "acme", "scope": "acme globex"}),
        json!({"roles": [], "deep": {"n": true}, "scope": ""}),
        json!({"roles": {"acme": 1}, "deep": "7", "sub": "kim"}),
        json!({}),
    ]);
    prop_oneof![3 => claims.prop_map(Token::Known), 1 => Just(Token::Absent), 1 => Just(Token::Unknown)]
}

/// Every protocol.
pub(crate) const PROTOCOLS: &[Protocol] = &[
    Protocol::Http,
    Protocol::Http2,
    Protocol::Grpc,
    Protocol::Tls,
    Protocol::Tcp,
    Protocol::Udp,
    Protocol::Sctp,
    Protocol::Dns,
];
