//! The request target of HTTP/1 and the `:scheme` rule of HTTP/2. Never a general URI parser: `//admin/x` is a path.

use super::{Refusal, octet};

/// What the transport really is. A scheme only repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plaintext.
    Http,
    /// TLS that is terminated here.
    Https,
}

impl Scheme {
    /// The lower-case name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// Compares a stated scheme, in whatever case, with the transport.
    ///
    /// # Errors
    /// [`Refusal::WrongScheme`]: a claim that is not true, or no such scheme.
    pub fn check(self, stated: &[u8]) -> Result<(), Refusal> {
        if stated.eq_ignore_ascii_case(self.name().as_bytes()) { Ok(()) } else { Err(Refusal::WrongScheme) }
    }
}

/// RFC 9112 3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// `/path?query`.
    Origin,
    /// `http://host/path?query`.
    Absolute,
    /// `host:port`, of CONNECT alone.
    Authority,
    /// `*`, of OPTIONS alone.
    Asterisk,
}

/// A request target cut into its raw parts; nothing is decoded yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// Which form it has.
    pub form: Form,
    /// Of the absolute form.
    pub scheme: Option<&'a [u8]>,
    /// Of the absolute and authority forms.
    pub authority: Option<&'a [u8]>,
    /// Raw path; `*` for the asterisk form; none for the authority form.
    pub path: Option<&'a [u8]>,
    /// Raw query without `?`; an empty one is there.
    pub query: Option<&'a [u8]>,
}

impl<'a> Target<'a> {
    /// Cuts the target of a request with this method.
    ///
    /// # Errors
    /// [`Refusal::MalformedTarget`] where it has no form, or one that the method does not have; [`Refusal::Fragment`].
    pub fn parse(method: &[u8], raw: &'a [u8]) -> Result<Self, Refusal> {
        if memchr::memchr(b'#', raw).is_some() {
            return Err(Refusal::Fragment);
        }
        if method == b"CONNECT" {
            let authority_only = !raw.is_empty() && !raw.iter().any(|byte| matches!(byte, b'/' | b'?' | b'*'));
            return if authority_only {
                Ok(Self { form: Form::Authority, scheme: None, authority: Some(raw), path: None, query: None })
            } else {
                Err(Refusal::MalformedTarget)
            };
        }
        match raw {
            b"*" if method == b"OPTIONS" => {
                Ok(Self { form: Form::Asterisk, scheme: None, authority: None, path: Some(raw), query: None })
            }
            [b'/', ..] => {
                let (path, query) = cut_query(raw);
                Ok(Self { form: Form::Origin, scheme: None, authority: None, path: Some(path), query })
            }
            _ => Self::absolute(method, raw),
        }
    }

    fn absolute(method: &[u8], raw: &'a [u8]) -> Result<Self, Refusal> {
        let colon = memchr::memchr(b':', raw).ok_or(Refusal::MalformedTarget)?;
        let (scheme, rest) = raw.split_at_checked(colon).ok_or(Refusal::MalformedTarget)?;
        let rest = rest.strip_prefix(b"://").ok_or(Refusal::MalformedTarget)?;
        if !octet::is_whole_token(scheme) {
            return Err(Refusal::MalformedTarget);
        }
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'\\')).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at_checked(end).ok_or(Refusal::MalformedTarget)?;
        let (path, query) = cut_query(rest);
        let path: &[u8] = match path {
            // SPEC: RFC 9112 3.2.4, `OPTIONS http://host` means `OPTIONS *`.
            [] if method == b"OPTIONS" && query.is_none() => b"*",
            [] => b"/",
            path => path,
        };
        Ok(Self { form: Form::Absolute, scheme: Some(scheme), authority: Some(authority), path: Some(path), query })
    }
}

fn cut_query(raw: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'?', raw).and_then(|at| Some((raw.get(..at)?, raw.get(at + 1..)?))) {
        Some((path, query)) => (path, Some(query)),
        None => (raw, None),
    }
}
