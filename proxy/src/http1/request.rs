//! The head of a request: read strictly, canonicalised, and kept in the one form that is matched, logged and forwarded.

use std::io::Write;
use std::mem::MaybeUninit;

use eastwall_policy::canonical::{self, Form, Framing, Refusal, Scheme, Target, octet};
use eastwall_policy::facts::{Fact, Headers, Protocol, Request};
use eastwall_policy::world::CanonicalScope;

use super::body::BodyLength;
use super::lines::{Lines, Part, diagnose};
use super::scan::{HeadLimits, MAX_FIELDS, Scan, Section};

/// The two versions of HTTP/1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// One request head. Reused: [`Self::read`] overwrites what was there, and allocates only to grow.
///
/// Call [`Self::read`] with all bytes that have arrived since the last head or body ended, until it says how many of
/// them the head had. The accessors mean something from then until the next call.
#[derive(Debug)]
pub struct RequestHead {
    pub(super) lines: Lines,
    consumed: Option<usize>,
    method: Part,
    target: Part,
    path: Option<Part>,
    query: Option<Part>,
    host: Option<Part>,
    authority: Option<Part>,
    host_port: Option<u16>,
    form: Form,
    version: Version,
    framing: Framing,
    upgrade: Option<Part>,
    expects_continue: bool,
}

impl Default for RequestHead {
    fn default() -> Self {
        Self {
            lines: Lines::default(),
            consumed: None,
            method: (0, 0),
            target: (0, 0),
            path: None,
            query: None,
            host: None,
            authority: None,
            host_port: None,
            form: Form::Origin,
            version: Version::Http11,
            framing: Framing::default(),
            upgrade: None,
            expects_continue: false,
        }
    }
}

impl RequestHead {
    /// Reads a head from the front of `input`. `Ok(None)`: more bytes are needed (call again with the same bytes and
    /// more behind them). `Ok(Some(n))`: the head had `n` bytes; what follows is its body.
    ///
    /// # Errors
    /// The first reason to refuse it.
    pub fn read(
        &mut self,
        input: &[u8],
        limits: HeadLimits,
        scope: &CanonicalScope,
        scheme: Scheme,
    ) -> Result<Option<usize>, Refusal> {
        self.forget();
        // PERF: every call looks at the whole head again. Heads that come in one piece, as they do, pay nothing, and no
        // state is left behind that a reader could carry from one connection's half of a head into another's.
        let mut scan = Scan::new(Section::Head);
        let scanned = scan.run(input, limits);
        if !matches!(scanned, Ok(Some(_))) {
            // What is no request at all is refused as soon as it shows, not when a head's worth of it is in.
            match scan.start_line() {
                None => method_so_far(input)?,
                Some(end) => {
                    request_line(input.get(..end).unwrap_or_default())?;
                }
            }
        }
        let Some(end) = scanned? else { return Ok(None) };
        let head = input.get(..end).unwrap_or_default();
        self.parse(head, scan.start_line().unwrap_or_default())?;
        self.consumed = Some(end);
        self.canonicalise(head, scope, scheme)?;
        Ok(Some(end))
    }

    fn forget(&mut self) {
        self.lines.clear();
        self.consumed = None;
        (self.method, self.target) = ((0, 0), (0, 0));
        (self.path, self.query, self.host, self.authority, self.host_port) = (None, None, None, None, None);
        (self.framing, self.upgrade, self.expects_continue) = (Framing::default(), None, false);
        (self.form, self.version) = (Form::Origin, Version::Http11);
    }

    fn parse(&mut self, head: &[u8], start_line: usize) -> Result<(), Refusal> {
        let (method, target, version) = request_line(head.get(..start_line).unwrap_or_default())?;
        let mut headers = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut parsed = httparse::Request::new(&mut []);
        match parsed.parse_with_uninit_headers(head, &mut headers) {
            Ok(httparse::Status::Complete(length)) if length == head.len() => {}
            Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooManyFields),
            Err(httparse::Error::HeaderName | httparse::Error::HeaderValue) => {
                return Err(diagnose(head.get(start_line + 2..).unwrap_or_default()));
            }
            Err(_) if !target.iter().all(u8::is_ascii_graphic) => return Err(odd_target(target)),
            _ => return Err(Refusal::MalformedStartLine),
        }
        self.lines.fill(head, parsed.headers)?;
        let method_end = u32::try_from(method.len()).map_err(|_| Refusal::MalformedMethod)?;
        let target_end = u32::try_from(target.len()).map_err(|_| Refusal::TargetTooLong)? + method_end + 1;
        self.method = (0, method_end);
        self.target = (method_end + 1, target_end);
        self.version = version;
        Ok(())
    }

    /// Judges first what decides where the message ends, so that after a refusal that keeps the connection the body's
    /// length is known.
    fn canonicalise(&mut self, head: &[u8], scope: &CanonicalScope, scheme: Scheme) -> Result<(), Refusal> {
        let fields = canonical::fields(self.lines.headers().iter(), scope);
        if let Err(refusal) = fields
            && refusal.closes()
        {
            return Err(refusal);
        }
        for (name, value) in self.lines.headers().iter() {
            self.framing.line(name, value)?;
        }
        if self.framing.chunked && self.version == Version::Http10 {
            return Err(Refusal::MisplacedEncoding);
        }
        self.lines.read_connection();
        self.expect()?;
        let raw = |part: Part| head.get(part.0 as usize..part.1 as usize).unwrap_or_default();
        let target = Target::parse(raw(self.method), raw(self.target))?;
        self.form = target.form;
        self.read_host(head, &target)?;
        self.read_upgrade()?;
        fields?;
        if let Some(stated) = target.scheme {
            scheme.check(stated)?;
        }
        if let Some(path) = target.path {
            self.path = Some(self.lines.append(|out| match path {
                b"*" => {
                    out.push(b'*');
                    Ok(())
                }
                path => canonical::path(path, scope.options, out),
            })?);
        }
        if let Some(query) = target.query {
            canonical::query(query)?;
            self.query = Some(self.lines.append(|out| {
                out.extend_from_slice(query);
                Ok(())
            })?);
        }
        let http10 = self.version == Version::Http10;
        self.lines.remove_hop_by_hop(|name| http10 && name == b"expect");
        Ok(())
    }

    fn expect(&mut self) -> Result<(), Refusal> {
        // SPEC: RFC 9110 10.1.1, an expectation in a request of HTTP/1.0 is ignored.
        if self.version == Version::Http10 {
            return Ok(());
        }
        for value in self.lines.headers().values(b"expect") {
            if !value.eq_ignore_ascii_case(b"100-continue") {
                return Err(Refusal::UnknownExpectation);
            }
            self.expects_continue = true;
        }
        Ok(())
    }

    fn read_host(&mut self, head: &[u8], target: &Target<'_>) -> Result<(), Refusal> {
        let position = self.lines.fields.iter().position(|field| self.lines.part(field.name) == b"host");
        let field = position.and_then(|position| self.lines.fields.get(position)).copied();
        if field.is_none() && self.version == Version::Http11 {
            return Err(Refusal::MissingHost);
        }
        if let (Some(stated), Some(field)) = (target.authority, field) {
            canonical::authorities_agree(stated, self.lines.part(field.value))?;
        }
        let raw = match (field, target.authority) {
            (Some(field), _) => head.get(field.value.0 as usize..field.value.1 as usize).unwrap_or_default(),
            (None, Some(stated)) => stated,
            (None, None) => return Ok(()),
        };
        let mut port = None;
        let host = self.lines.append(|out| {
            port = canonical::authority(raw, out)?;
            Ok(())
        })?;
        let end = self.lines.append(|out| match port {
            Some(port) => write!(out, ":{port}").map_err(|_| Refusal::MalformedHost),
            None => Ok(()),
        })?;
        self.host = Some(host);
        self.host_port = port;
        self.authority = Some((host.0, end.1));
        if self.form == Form::Authority && port.is_none() {
            return Err(Refusal::MalformedTarget);
        }
        if let Some(field) = position.and_then(|position| self.lines.fields.get_mut(position)) {
            // What rules and the backend see of Host is the canonical authority.
            field.value = (host.0, end.1);
        }
        Ok(())
    }

    /// What is asked for counts in HTTP/1.1 alone, and stands in no body's way.
    fn read_upgrade(&mut self) -> Result<(), Refusal> {
        let asked = canonical::upgrade(&self.lines.headers())?.is_some() && self.version == Version::Http11;
        let tunnels = asked || self.form == Form::Authority;
        if tunnels && self.body_length() != BodyLength::None {
            // The switch would come behind the body: two protocols in one stream of bytes.
            return Err(Refusal::MalformedUpgrade);
        }
        if asked {
            let field = self.lines.fields.iter().find(|field| self.lines.part(field.name) == b"upgrade");
            self.upgrade = field.map(|field| self.lines.lower(field.value));
        }
        Ok(())
    }
}

// === what was read ===

impl RequestHead {
    /// Bytes of the head that was read last, known after some refusals, too.
    #[must_use]
    pub fn consumed(&self) -> Option<usize> {
        self.consumed
    }

    /// Method, as it came.
    #[must_use]
    pub fn method(&self) -> &[u8] {
        self.lines.part(self.method)
    }

    /// Request target, as it came: for logs of what was refused.
    #[must_use]
    pub fn raw_target(&self) -> &[u8] {
        self.lines.part(self.target)
    }

    /// Canonical path; `*` of `OPTIONS *`; none of CONNECT.
    #[must_use]
    pub fn path(&self) -> Option<&[u8]> {
        self.path.map(|part| self.lines.part(part))
    }

    /// Validated query without `?`.
    #[must_use]
    pub fn query(&self) -> Option<&[u8]> {
        self.query.map(|part| self.lines.part(part))
    }

    /// Canonical host.
    #[must_use]
    pub fn host(&self) -> Option<&[u8]> {
        self.host.map(|part| self.lines.part(part))
    }

    /// Port of the authority.
    #[must_use]
    pub fn host_port(&self) -> Option<u16> {
        self.host_port
    }

    /// Canonical `host[:port]`, as it is forwarded.
    #[must_use]
    pub fn authority(&self) -> Option<&[u8]> {
        self.authority.map(|part| self.lines.part(part))
    }

    /// The client's version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// CONNECT: a tunnel is asked for.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        self.form == Form::Authority
    }

    /// HEAD: the response has no body, whatever its head says.
    #[must_use]
    pub fn is_head(&self) -> bool {
        self.method() == b"HEAD"
    }

    /// The protocol that is asked for, lower case.
    #[must_use]
    pub fn upgrade(&self) -> Option<&[u8]> {
        self.upgrade.map(|part| self.lines.part(part))
    }

    /// The client waits for `100 Continue` before it sends the body.
    #[must_use]
    pub fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// Whether the client keeps the connection for another request.
    #[must_use]
    pub fn keep_alive(&self) -> bool {
        let options = self.lines.options;
        !options.close && (self.version == Version::Http11 || options.keep_alive)
    }

    /// How long the body is. A request without framing has none.
    #[must_use]
    pub fn body_length(&self) -> BodyLength {
        match self.framing {
            Framing { chunked: true, .. } => BodyLength::Chunked,
            Framing { length: Some(length @ 1..), .. } => BodyLength::Length(length),
            Framing { .. } => BodyLength::None,
        }
    }

    pub(super) fn framing(&self) -> Framing {
        self.framing
    }

    /// The lines that are matched and forwarded.
    #[must_use]
    pub fn headers(&self) -> Headers<'_> {
        self.lines.headers()
    }

    /// The request as rules see it.
    #[must_use]
    pub fn facts(&self, now: i64) -> Request<'_> {
        let known = |part: Option<Part>| part.map_or(Fact::Absent, |part| Fact::Known(self.lines.part(part)));
        let upgrade = if self.is_connect() { Fact::Known(b"connect".as_slice()) } else { known(self.upgrade) };
        Request {
            protocol: Fact::Known(Protocol::Http),
            method: Fact::Known(self.method()),
            // The way of a tunnel cannot be seen: unknown, so that a Deny of some path refuses it.
            path: if self.is_connect() { Fact::Unknown } else { known(self.path) },
            query: known(self.query),
            host: known(self.host),
            host_port: self.host_port,
            headers: Fact::Known(self.headers()),
            upgrade,
            ..Request::opaque(Fact::Known(Protocol::Http), now)
        }
    }
}

/// `METHOD target HTTP/1.x`, single spaces, nothing else.
fn request_line(line: &[u8]) -> Result<(&[u8], &[u8], Version), Refusal> {
    let mut parts = line.split(|&byte| byte == b' ');
    let method = parts.next().unwrap_or_default();
    canonical::method(method)?;
    let (Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next()) else {
        return Err(Refusal::MalformedStartLine);
    };
    let version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        [b'H', b'T', b'T', b'P', b'/', b'1'..=b'9', b'.', b'0'..=b'9'] => return Err(Refusal::UnsupportedVersion),
        _ => return Err(Refusal::MalformedStartLine),
    };
    if target.is_empty() {
        return Err(Refusal::MalformedStartLine);
    }
    if target.iter().all(u8::is_ascii_graphic) { Ok((method, target, version)) } else { Err(odd_target(target)) }
}

fn odd_target(target: &[u8]) -> Refusal {
    if target.is_ascii() { Refusal::TargetCharacter } else { Refusal::NonAsciiTarget }
}

/// The first bytes can still become a method.
fn method_so_far(input: &[u8]) -> Result<(), Refusal> {
    let odd = input.iter().take(canonical::LONGEST_METHOD + 1).enumerate().find(|(_, byte)| !octet::is_token(**byte));
    match odd {
        None if input.len() <= canonical::LONGEST_METHOD => Ok(()),
        Some((1.., b' ')) => Ok(()),
        // A line end inside the method: the scan says what is wrong with it.
        Some((_, b'\r' | b'\n')) => Ok(()),
        _ => Err(Refusal::MalformedMethod),
    }
}
