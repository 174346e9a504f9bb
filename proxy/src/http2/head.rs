//! The head of a stream: checked, made canonical, judged, and written again from the very same bytes.

use eastwall_policy::canonical::{self, Refusal, Scheme};
use eastwall_policy::facts::{Fact, Field, Headers, Protocol, Request};
use eastwall_policy::world::CanonicalScope;
use http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri, Version};

use crate::config::Limits;

/// What a stream is judged by, for as long as it lives.
#[derive(Debug)]
pub(super) struct Head {
    method: Method,
    bytes: Vec<u8>,
    fields: Vec<Field>,
    path: Option<(usize, usize)>,
    query: Option<(usize, usize)>,
    host: (usize, usize),
    host_port: Option<u16>,
    protocol: Protocol,
}

/// What goes upstream beside the bytes that were judged.
#[derive(Debug)]
pub(super) struct Forward {
    headers: HeaderMap,
    /// The target as it came, where that is how it is written canonically.
    same: Option<Uri>,
}

impl Head {
    /// Checks and canonicalises; what has two readings is refused. `protocol`: that of [`protocol`].
    pub(super) fn new(
        parts: http::request::Parts,
        protocol: Protocol,
        scope: &CanonicalScope,
        limits: &Limits,
    ) -> Result<(Self, Forward), Refusal> {
        let http::request::Parts { method, uri, mut headers, .. } = parts;
        let target = uri.authority().map_or(0, |authority| authority.as_str().len())
            + uri.path_and_query().map_or(0, |path| path.as_str().len());
        bounded(&headers, method.as_str().len() + target, limits)?;
        let lines = || headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        canonical::method(method.as_str().as_bytes())?;
        canonical::fields(lines(), scope)?;
        if let Some(scheme) = uri.scheme_str() {
            Scheme::Http.check(scheme.as_bytes())?;
        }

        let mut bytes = Vec::with_capacity(512);
        let connect = method == Method::CONNECT;
        let mark = |bytes: &Vec<u8>, from: usize| (from, bytes.len());
        let (mut path, mut query) = (None, None);
        if !connect {
            if method == Method::OPTIONS && uri.path() == "*" {
                bytes.push(b'*');
            } else {
                canonical::path(uri.path().as_bytes(), scope.options, &mut bytes)?;
            }
            path = Some(mark(&bytes, 0));
            if let Some(raw) = uri.query() {
                canonical::query(raw.as_bytes())?;
                let from = bytes.len();
                bytes.extend_from_slice(raw.as_bytes());
                query = Some(mark(&bytes, from));
            }
        }
        let authority = match (uri.authority(), headers.get(HOST)) {
            (Some(authority), Some(host)) => {
                canonical::authorities_agree(authority.as_str().as_bytes(), host.as_bytes())?;
                authority.as_str().as_bytes()
            }
            (Some(authority), None) => authority.as_str().as_bytes(),
            (None, Some(host)) => host.as_bytes(),
            (None, None) => return Err(Refusal::MissingHost),
        };
        let from = bytes.len();
        let host_port = canonical::authority(authority, &mut bytes)?;
        let host = mark(&bytes, from);

        // The name of the destination goes upstream as `:authority`.
        headers.remove(HOST);
        let fields = keep(&mut headers, &mut bytes)?;
        let head = Self { method, bytes, fields, path, query, host, host_port, protocol };
        let same = head.is_written(&uri).then_some(uri);
        Ok((head, Forward { headers, same }))
    }

    /// Whether this is, byte by byte, the target that [`Self::target`] writes.
    fn is_written(&self, uri: &Uri) -> bool {
        let Some(((authority, target), path)) = uri.authority().zip(uri.path_and_query()).zip(self.path) else {
            return false;
        };
        // INVARIANT: a port has one spelling, or is refused.
        let is_host = match authority.as_str().as_bytes().strip_prefix(self.part(self.host)) {
            Some([]) => self.host_port.is_none(),
            Some([b':', ..]) => self.host_port.is_some(),
            _ => false,
        };
        let is_target = match (target.as_str().as_bytes().strip_prefix(self.part(path)), self.query) {
            (Some([]), None) => true,
            (Some([b'?', query @ ..]), Some(held)) => query == self.part(held),
            _ => false,
        };
        uri.scheme_str() == Some(Scheme::Http.name()) && is_host && is_target
    }

    fn part(&self, (from, to): (usize, usize)) -> &[u8] {
        self.bytes.get(from..to).unwrap_or_default()
    }

    /// gRPC, or HTTP/2 of any other kind.
    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// CONNECT: nothing passes before a 2xx.
    pub(super) fn is_connect(&self) -> bool {
        self.method == Method::CONNECT
    }

    /// The canonical request.
    pub(super) fn request(&self, now: i64) -> Request<'_> {
        let optional = |range: Option<(usize, usize)>| range.map_or(Fact::Absent, |at| Fact::Known(self.part(at)));
        Request {
            method: Fact::Known(self.method.as_str().as_bytes()),
            // The way of a tunnel cannot be seen: unknown, so that a Deny of some path refuses it.
            path: if self.is_connect() { Fact::Unknown } else { optional(self.path) },
            query: optional(self.query),
            host: Fact::Known(self.part(self.host)),
            host_port: self.host_port,
            headers: Fact::Known(Headers { bytes: &self.bytes, fields: &self.fields }),
            upgrade: if self.is_connect() { Fact::Known(b"connect") } else { Fact::Absent },
            ..Request::opaque(Fact::Known(self.protocol), now)
        }
    }

    /// The request as it goes upstream: the bytes that were judged.
    pub(super) fn forwarded(&self, forward: Forward) -> Option<http::Request<()>> {
        let mut request = http::Request::new(());
        *request.uri_mut() = match forward.same {
            Some(uri) => uri,
            None => self.target()?,
        };
        *request.method_mut() = self.method.clone();
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = forward.headers;
        Some(request)
    }

    fn target(&self) -> Option<Uri> {
        let text = |part| std::str::from_utf8(self.part(part)).ok();
        let mut authority = text(self.host)?.to_owned();
        if let Some(port) = self.host_port {
            authority.push(':');
            authority.push_str(&port.to_string());
        }
        let mut uri = Uri::builder().authority(authority);
        if let Some(path) = self.path {
            let mut target = text(path)?.to_owned();
            if let Some(query) = self.query {
                target.push('?');
                target.push_str(text(query)?);
            }
            uri = uri.scheme(Scheme::Http.name()).path_and_query(target);
        }
        uri.build().ok()
    }
}

/// A head, or trailers, within the bounds. `start`: bytes of the start line, or of what stands for it.
pub(super) fn bounded(headers: &HeaderMap, start: usize, limits: &Limits) -> Result<(), Refusal> {
    if headers.len() > limits.header_fields {
        return Err(Refusal::TooManyFields);
    }
    // SPEC: RFC 9113 6.5.2 counts 32 for each line.
    let lines: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    if start + lines > limits.head_bytes { Err(Refusal::HeadTooLarge) } else { Ok(()) }
}

/// Takes out what only the proxy may say and whitespace that no value has, and copies what is left to be judged.
fn keep(headers: &mut HeaderMap, bytes: &mut Vec<u8>) -> Result<Vec<Field>, Refusal> {
    strip(headers);
    let mut fields = Vec::with_capacity(headers.len());
    let mut copy = |part: &[u8]| {
        let from = u32::try_from(bytes.len()).map_err(|_| Refusal::HeadTooLarge)?;
        bytes.extend_from_slice(part);
        u32::try_from(bytes.len()).map(|to| (from, to)).map_err(|_| Refusal::HeadTooLarge)
    };
    // `iter_mut` names each key for each of its values.
    for (name, value) in headers.iter_mut() {
        let trimmed = canonical::octet::trim(value.as_bytes());
        if trimmed.len() != value.as_bytes().len() {
            *value = HeaderValue::from_bytes(trimmed).map_err(|_| Refusal::ControlInValue)?;
        }
        fields.push(Field { name: copy(name.as_str().as_bytes())?, value: copy(value.as_bytes())? });
    }
    Ok(fields)
}

/// Removes names that only the proxy may write.
pub(super) fn strip(headers: &mut HeaderMap) {
    let reserved: Vec<HeaderName> =
        headers.keys().filter(|name| canonical::is_reserved(name.as_str().as_bytes())).cloned().collect();
    for name in reserved {
        headers.remove(name);
    }
}

/// What the stream carries: a gRPC call, or HTTP/2 of any other kind.
pub(super) fn protocol(method: &Method, headers: &HeaderMap) -> Protocol {
    let types = headers.get_all(CONTENT_TYPE).iter().map(HeaderValue::as_bytes);
    if canonical::is_grpc_call(method.as_str().as_bytes(), types) { Protocol::Grpc } else { Protocol::Http2 }
}
