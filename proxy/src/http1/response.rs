//! The head of a response: read as strictly as a request's, since a desynchronised upstream poisons the next answer.
//!
//! Whatever is refused here is a 502 for the client and the end of both connections.

use std::mem::MaybeUninit;

use eastwall_policy::canonical::{self, Framing, Options, Refusal};
use eastwall_policy::facts::Headers;
use eastwall_policy::model::HttpOption;
use eastwall_policy::world::CanonicalScope;

use super::body::BodyLength;
use super::lines::{Lines, Part, diagnose};
use super::request::{RequestHead, Version};
use super::scan::{HeadLimits, MAX_FIELDS, Scan, Section};

/// What of the request decides how its response is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// HEAD: no body.
    pub head: bool,
    /// CONNECT: a 2xx opens a tunnel.
    pub connect: bool,
    /// The protocol that was asked for (lower case): a 101 must switch to it.
    pub upgrade: Option<&'a [u8]>,
}

impl<'a> From<&'a RequestHead> for Asked<'a> {
    fn from(request: &'a RequestHead) -> Self {
        Self { head: request.is_head(), connect: request.is_connect(), upgrade: request.upgrade() }
    }
}

/// One response head, interim ones included. Reused, as [`RequestHead`] is.
#[derive(Debug)]
pub struct ResponseHead {
    pub(super) lines: Lines,
    status: u16,
    reason: Part,
    version: Version,
    framing: Framing,
    body: BodyLength,
    tunnel: bool,
    /// Of a 101: what it switches to.
    upgrade: Part,
}

impl Default for ResponseHead {
    fn default() -> Self {
        Self {
            lines: Lines::default(),
            status: 0,
            reason: (0, 0),
            version: Version::Http11,
            framing: Framing::default(),
            body: BodyLength::None,
            tunnel: false,
            upgrade: (0, 0),
        }
    }
}

impl ResponseHead {
    /// Reads a head from the front of `input`: `Ok(None)` asks for more bytes, `Ok(Some(n))` says how many it had.
    ///
    /// # Errors
    /// The first reason to refuse it.
    pub fn read(&mut self, input: &[u8], limits: HeadLimits, asked: Asked<'_>) -> Result<Option<usize>, Refusal> {
        self.lines.clear();
        self.status = 0;
        let mut scan = Scan::new(Section::Head);
        let scanned = scan.run(input, limits);
        if !matches!(scanned, Ok(Some(_))) {
            // What is no response at all is refused as soon as it shows.
            match scan.start_line() {
                None if b"HTTP/1.".iter().zip(input).all(|(a, b)| a == b) => {}
                None => return Err(Refusal::MalformedStartLine),
                Some(end) => {
                    status_line(input.get(..end).unwrap_or_default())?;
                }
            }
        }
        let Some(end) = scanned? else { return Ok(None) };
        let head = input.get(..end).unwrap_or_default();
        self.parse(head, scan.start_line().unwrap_or_default())?;
        self.judge(asked)?;
        Ok(Some(end))
    }

    fn parse(&mut self, head: &[u8], start_line: usize) -> Result<(), Refusal> {
        let (version, status, reason) = status_line(head.get(..start_line).unwrap_or_default())?;
        let mut headers = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        match config.parse_response_with_uninit_headers(&mut parsed, head, &mut headers) {
            Ok(httparse::Status::Complete(length)) if length == head.len() => {}
            Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooManyFields),
            Err(httparse::Error::HeaderName | httparse::Error::HeaderValue) => {
                return Err(diagnose(head.get(start_line + 2..).unwrap_or_default()));
            }
            _ => return Err(Refusal::MalformedStartLine),
        }
        self.lines.fill(head, parsed.headers)?;
        let end = u32::try_from(start_line).map_err(|_| Refusal::HeadTooLarge)?;
        let reason = u32::try_from(reason.len()).map_err(|_| Refusal::HeadTooLarge)?;
        self.reason = (end - reason, end);
        self.status = status;
        self.version = version;
        Ok(())
    }

    fn judge(&mut self, asked: Asked<'_>) -> Result<(), Refusal> {
        // A response overrides nothing, and no rule looks at it: framing, nominations and octets remain.
        let options =
            Options { method_override: HttpOption::Keep, underscore_headers: HttpOption::Keep, ..Options::default() };
        let scope = CanonicalScope { options, ..CanonicalScope::default() };
        canonical::fields(self.lines.headers().iter(), &scope)?;
        self.framing = Framing::default();
        for (name, value) in self.lines.headers().iter() {
            self.framing.line(name, value)?;
        }
        let Framing { length, chunked } = self.framing;
        if chunked && (self.version == Version::Http10 || self.status < 200 || self.status == 204) {
            return Err(Refusal::MisplacedEncoding);
        }
        self.lines.read_connection();
        self.tunnel = asked.connect && (200..300).contains(&self.status);
        if self.status == 101 {
            self.switch(asked.upgrade)?;
            self.tunnel = true;
        }
        let bodiless = self.tunnel || self.status < 200 || self.status == 204 || self.status == 304 || asked.head;
        self.body = match (bodiless, chunked, length) {
            (true, ..) | (_, _, Some(0)) => BodyLength::None,
            (_, true, _) => BodyLength::Chunked,
            (_, _, Some(length)) => BodyLength::Length(length),
            _ => BodyLength::UntilClose,
        };
        if self.tunnel || self.status < 200 || self.status == 204 {
            // SPEC: RFC 9110 8.6 forbids it here; where a server says it all the same, it frames nothing.
            self.framing.length = None;
        }
        if bodiless {
            self.framing.chunked = false;
        }
        self.lines.remove_hop_by_hop(|_| false);
        Ok(())
    }

    /// Nothing is switched but what was asked for, and said on both lines.
    fn switch(&mut self, asked: Option<&[u8]>) -> Result<(), Refusal> {
        let lines = &self.lines;
        let mut upgrades = lines.fields.iter().filter(|field| lines.part(field.name) == b"upgrade");
        match (asked, upgrades.next(), upgrades.next()) {
            (Some(asked), Some(granted), None)
                if lines.options.upgrade && lines.part(granted.value).eq_ignore_ascii_case(asked) =>
            {
                self.upgrade = granted.value;
                Ok(())
            }
            _ => Err(Refusal::UnaskedUpgrade),
        }
    }

    /// Status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Reason phrase, as it came.
    #[must_use]
    pub fn reason(&self) -> &[u8] {
        self.lines.part(self.reason)
    }

    /// The upstream's version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// 1xx other than 101: another head follows.
    #[must_use]
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }

    /// From here on bytes are not HTTP: 101, or 2xx to CONNECT.
    #[must_use]
    pub fn is_tunnel(&self) -> bool {
        self.tunnel
    }

    /// How long the body is.
    #[must_use]
    pub fn body_length(&self) -> BodyLength {
        self.body
    }

    /// Whether the upstream keeps the connection for another request once the body has ended.
    #[must_use]
    pub fn keep_alive(&self) -> bool {
        let options = self.lines.options;
        !self.tunnel
            && self.body != BodyLength::UntilClose
            && !options.close
            && (self.version == Version::Http11 || options.keep_alive)
    }

    /// The lines that are forwarded.
    #[must_use]
    pub fn headers(&self) -> Headers<'_> {
        self.lines.headers()
    }

    /// What a 101 switches to, as it came.
    pub(super) fn upgrade(&self) -> &[u8] {
        self.lines.part(self.upgrade)
    }

    pub(super) fn framing(&self) -> Framing {
        self.framing
    }
}

/// `HTTP/1.x NNN[ reason]`.
fn status_line(line: &[u8]) -> Result<(Version, u16, &[u8]), Refusal> {
    let (version, rest) = match line {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ (b'0' | b'1'), b' ', rest @ ..] => {
            (if *minor == b'0' { Version::Http10 } else { Version::Http11 }, rest)
        }
        _ => return Err(Refusal::MalformedStartLine),
    };
    let (code, reason) = rest.split_at_checked(3).ok_or(Refusal::MalformedStartLine)?;
    let reason = match reason {
        [b' ', reason @ ..] => reason,
        // SPEC: RFC 9112 4 asks for the space even before an empty reason; many servers leave it out.
        [] => reason,
        _ => return Err(Refusal::MalformedStartLine),
    };
    let status = code.iter().try_fold(0_u16, |status, digit| match digit {
        b'0'..=b'9' => Ok(status * 10 + u16::from(digit - b'0')),
        _ => Err(Refusal::MalformedStartLine),
    })?;
    let reason_is_text = reason.iter().all(|&byte| canonical::octet::is_field_value(byte));
    if status < 100 || !reason_is_text {
        return Err(Refusal::MalformedStartLine);
    }
    Ok((version, status, reason))
}
