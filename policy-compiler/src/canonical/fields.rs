//! Header lines and trailers: what overrides, what folds, what Connection nominates, what frames.

use std::sync::Arc;

use super::framing::Framing;
use super::{Refusal, octet};
use crate::model::HttpOption;
use crate::world::CanonicalScope;

/// Judges all header lines of a request head: names in any case, values without surrounding whitespace.
///
/// # Errors
/// Override channels, names that fold to a watched or framing header, nominations of such by Connection, framing that
/// has two readings, several Hosts, octets that a line cannot hold.
pub fn fields<'a>(lines: impl Iterator<Item = (&'a [u8], &'a [u8])>, scope: &CanonicalScope) -> Result<(), Refusal> {
    let mut framing = Framing::default();
    let mut hosts = 0_u32;
    for (name, value) in lines {
        well_formed(name, value)?;
        framing.line(name, value)?;
        name_is_plain(name, scope)?;
        if name.eq_ignore_ascii_case(b"host") {
            hosts += 1;
        } else if name.eq_ignore_ascii_case(b"connection") {
            nominations(value, scope)?;
        }
    }
    if hosts > 1 { Err(Refusal::SeveralHosts) } else { Ok(()) }
}

/// Judges the trailers of a request. The verdict is made by then, so nothing that a rule looks at may come here.
///
/// # Errors
/// As [`fields`], and [`Refusal::ForbiddenTrailer`].
pub fn trailers<'a>(lines: impl Iterator<Item = (&'a [u8], &'a [u8])>, scope: &CanonicalScope) -> Result<(), Refusal> {
    for (name, value) in lines {
        trailer(name, value)?;
        name_is_plain(name, scope)?;
        if scope.watched_headers.iter().any(|watched| watched.as_bytes().eq_ignore_ascii_case(name)) {
            return Err(Refusal::ForbiddenTrailer);
        }
    }
    Ok(())
}

/// Judges the trailers of a response, of which no rule asks anything: they may not frame, route or authenticate.
///
/// # Errors
/// [`Refusal::ForbiddenTrailer`], or octets that a line cannot hold.
pub fn response_trailers<'a>(lines: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<(), Refusal> {
    for (name, value) in lines {
        trailer(name, value)?;
    }
    Ok(())
}

/// Names that only the proxy may write: taken out of every message on entry, before anything is matched.
#[must_use]
pub fn is_reserved(name: &[u8]) -> bool {
    name.get(..RESERVED_PREFIX.len()).is_some_and(|prefix| folds_to(prefix, RESERVED_PREFIX))
}

/// Names by which some framework takes another method or path than the request line's, in any spelling.
#[must_use]
pub fn is_override(name: &[u8]) -> bool {
    OVERRIDES.iter().any(|override_name| folds_to(name, override_name))
}

/// Each option of a Connection value, trimmed. Empty list members are none.
pub fn connection_options(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(octet::trim).filter(|option| !option.is_empty())
}

fn well_formed(name: &[u8], value: &[u8]) -> Result<(), Refusal> {
    if !octet::is_whole_token(name) {
        return Err(Refusal::MalformedName);
    }
    if value.iter().copied().all(octet::is_field_value) { Ok(()) } else { Err(Refusal::ControlInValue) }
}

/// The name is no override channel, and no second spelling of a name that matters.
fn name_is_plain(name: &[u8], scope: &CanonicalScope) -> Result<(), Refusal> {
    if scope.options.method_override == HttpOption::Reject && is_override(name) {
        return Err(Refusal::OverrideHeader);
    }
    if FRAMING.iter().any(|framing| folds_otherwise(name, framing)) {
        return Err(Refusal::FoldedName);
    }
    if scope.options.underscore_headers == HttpOption::Reject && folds_to_watched(name, &scope.watched_headers) {
        return Err(Refusal::FoldedName);
    }
    Ok(())
}

fn folds_to_watched(name: &[u8], watched: &[Arc<str>]) -> bool {
    let mut folds = false;
    for watched in watched {
        if watched.as_bytes().eq_ignore_ascii_case(name) {
            return false; // a rule looks at this very spelling
        }
        folds |= folds_to(name, watched.as_bytes());
    }
    folds
}

fn nominations(value: &[u8], scope: &CanonicalScope) -> Result<(), Refusal> {
    for option in connection_options(value) {
        if !octet::is_whole_token(option) {
            return Err(Refusal::MalformedConnection);
        }
        if HOP_OPTIONS.iter().any(|known| option.eq_ignore_ascii_case(known)) {
            continue;
        }
        let matters = FRAMING.iter().any(|framing| folds_to(option, framing))
            || is_reserved(option)
            || scope.watched_headers.iter().any(|watched| folds_to(option, watched.as_bytes()));
        if matters {
            return Err(Refusal::NominatedHeader);
        }
    }
    Ok(())
}

fn trailer(name: &[u8], value: &[u8]) -> Result<(), Refusal> {
    well_formed(name, value)?;
    let forbidden = FRAMING.iter().chain(NEVER_TRAILERS).chain(OVERRIDES).any(|forbidden| folds_to(name, forbidden))
        || is_reserved(name);
    if forbidden { Err(Refusal::ForbiddenTrailer) } else { Ok(()) }
}

/// Whether a server that makes variables of header names takes `name` for `canonical` (CGI and its heirs: case is
/// nothing, and whatever is no letter or digit is `_`). True of the same name, too.
fn folds_to(name: &[u8], canonical: &[u8]) -> bool {
    let fold = |byte: u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    name.len() == canonical.len() && name.iter().zip(canonical).all(|(a, b)| fold(*a) == fold(*b))
}

fn folds_otherwise(name: &[u8], canonical: &[u8]) -> bool {
    !name.eq_ignore_ascii_case(canonical) && folds_to(name, canonical)
}

const RESERVED_PREFIX: &[u8] = b"x-eastwall-";

/// What some framework takes for the method or the path in place of the request line's.
const OVERRIDES: &[&[u8]] = &[
    b"x-http-method-override",
    b"x-http-method",
    b"x-method-override",
    b"x-original-url",
    b"x-rewrite-url",
    b"x-override-url",
    b"x-http-path-override",
];

/// What decides where a message ends or goes: no second spelling, no nomination, no trailer.
const FRAMING: &[&[u8]] = &[b"content-length", b"transfer-encoding", b"host", b"connection"];

/// Options of Connection that are about the connection itself.
const HOP_OPTIONS: &[&[u8]] = &[b"close", b"keep-alive", b"upgrade", b"te", b"http2-settings", b"proxy-connection"];

/// RFC 9110 6.5.1: control, routing, authentication and content description come before the content or not at all.
const NEVER_TRAILERS: &[&[u8]] = &[
    b"te",
    b"trailer",
    b"upgrade",
    b"expect",
    b"range",
    b"authorization",
    b"proxy-authorization",
    b"proxy-connection",
    b"keep-alive",
    b"cookie",
    b"set-cookie",
    b"content-encoding",
    b"content-type",
    b"content-range",
];
