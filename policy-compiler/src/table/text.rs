//! The texts of a request against patterns, without allocation: values are visited where they lie, and those that have
//! to be put together are put together in one buffer a thread.

use std::cell::RefCell;
use std::sync::Arc;

use serde_json::Value;

use crate::facts::{Fact, Request, Truth};
use crate::model::interpret::pattern;
use crate::model::{Each, Pattern, Text};

thread_local! {
    /// Values that do not lie in the request as they are compared: `host:port`, a decoded parameter.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The truth of "a value matches when any of these patterns does", values combined as `each` says.
pub(super) fn truth(of: &Text, each: Each, is: &[Pattern], request: &Request<'_>) -> Truth {
    let matches = |value: &[u8]| is.iter().any(|pattern| applies(of, pattern, value));
    let every = each == Each::Every;
    let (mut any, mut all) = (false, true);
    let visited = visit(of, each, request, &mut |value| {
        let held = matches(value);
        any |= held;
        all &= held;
        // Of "every" a miss decides, of "some" a hit does.
        held == every
    });
    match visited {
        Fact::Known(()) => (any && (all || !every)).into(),
        Fact::Absent => Truth::False,
        Fact::Unknown => Truth::Unknown,
    }
}

/// Whether the value is there at all.
pub(super) fn present(of: &Text, request: &Request<'_>) -> Truth {
    let held = match of {
        Text::Claim(path) | Text::StringClaim(path) | Text::SpacedClaim(path) => match token(of, request) {
            Fact::Known(token) => match claim(token, path) {
                Some(_) => Fact::Known(()),
                None => Fact::Absent,
            },
            Fact::Absent => Fact::Absent,
            Fact::Unknown => Fact::Unknown,
        },
        _ => visit(of, Each::Line, request, &mut |_| false),
    };
    match held {
        Fact::Known(()) => Truth::True,
        Fact::Absent => Truth::False,
        Fact::Unknown => Truth::Unknown,
    }
}

/// SPEC: `OPTIONS *` has the known path `*`, which no path form matches, an expression that would match any bytes
/// included.
pub(super) fn applies(of: &Text, with: &Pattern, value: &[u8]) -> bool {
    let asterisk = matches!(of, Text::Path | Text::PathEitherSlash) && value.first() != Some(&b'/');
    !(asterisk && matches!(with, Pattern::Regex { .. })) && pattern::matches(with, value)
}

/// Hands every value over until the visitor has seen enough (returns `false`). Known without a value is a claim that
/// is an empty list.
fn visit(of: &Text, each: Each, request: &Request<'_>, see: &mut impl FnMut(&[u8]) -> bool) -> Fact<()> {
    match of {
        Text::Method => one(request.method, see),
        Text::Path => one(request.path, see),
        Text::Host => one(request.host, see),
        Text::Upgrade => one(request.upgrade, see),
        Text::Sni => one(request.sni, see),
        Text::Alpn => one(request.alpn, see),
        Text::Qname => one(request.qname, see),
        Text::PathEitherSlash => known(request.path, |path| {
            if see(path) {
                with_other_slash(path, &mut *see);
            }
        }),
        Text::PathAndQuery => match (request.path, request.query) {
            (Fact::Known(path), Fact::Known(query)) => {
                joined(&[path, b"?", query], see);
                Fact::Known(())
            }
            (path, Fact::Absent) => one(path, see),
            (Fact::Absent, _) => Fact::Absent,
            (Fact::Unknown, _) | (_, Fact::Unknown) => Fact::Unknown,
        },
        Text::Authority => known(request.host, |host| match request.host_port {
            Some(port) => {
                let mut digits = [0u8; 5];
                joined(&[host, b":", decimal(port, &mut digits)], see);
            }
            None => {
                see(host);
            }
        }),
        Text::Header(name) => header(request, name, each, see),
        Text::Query(name) => match request.query {
            Fact::Known(query) => parameters(query, name.as_bytes(), see),
            Fact::Absent => Fact::Absent,
            Fact::Unknown => Fact::Unknown,
        },
        Text::Claim(path) => claims(request, of, path, Reading::Scalars, see),
        Text::StringClaim(path) => claims(request, of, path, Reading::Strings, see),
        Text::SpacedClaim(path) => claims(request, of, path, Reading::Words, see),
        Text::RequestPrincipal => match request.mesh_jwt {
            Fact::Known(token) => match (token.get("iss"), token.get("sub")) {
                (Some(Value::String(issuer)), Some(Value::String(subject))) => {
                    joined(&[issuer.as_bytes(), b"/", subject.as_bytes()], see);
                    Fact::Known(())
                }
                _ => Fact::Absent,
            },
            Fact::Absent => Fact::Absent,
            Fact::Unknown => Fact::Unknown,
        },
        // It belongs to the connection: gates ask for it.
        Text::PeerPrincipal => Fact::Unknown,
    }
}

fn known(fact: Fact<&[u8]>, see: impl FnOnce(&[u8])) -> Fact<()> {
    match fact {
        Fact::Known(value) => {
            see(value);
            Fact::Known(())
        }
        Fact::Absent => Fact::Absent,
        Fact::Unknown => Fact::Unknown,
    }
}

fn one(fact: Fact<&[u8]>, see: &mut impl FnMut(&[u8]) -> bool) -> Fact<()> {
    known(fact, |value| {
        see(value);
    })
}

/// The other spelling of a path: with a trailing slash where it has none, without where it has one. `/` has none.
pub(super) fn with_other_slash<R>(path: &[u8], see: impl FnOnce(&[u8]) -> R) -> Option<R> {
    match path {
        b"/" => None,
        [without @ .., b'/'] => Some(see(without)),
        _ => Some(put_together(&[path, b"/"], see)),
    }
}

fn joined(parts: &[&[u8]], see: &mut impl FnMut(&[u8]) -> bool) -> bool {
    put_together(parts, |whole| see(whole))
}

fn put_together<R>(parts: &[&[u8]], see: impl FnOnce(&[u8]) -> R) -> R {
    SCRATCH.with_borrow_mut(|whole| {
        whole.clear();
        parts.iter().for_each(|part| whole.extend_from_slice(part));
        see(whole)
    })
}

/// A number in decimal, without allocation.
fn decimal(number: u16, digits: &mut [u8; 5]) -> &[u8] {
    let mut left = number;
    let mut length = 0;
    for slot in digits.iter_mut().rev() {
        *slot = b'0' + u8::try_from(left % 10).unwrap_or_default();
        left /= 10;
        length += 1;
        if left == 0 {
            break;
        }
    }
    digits.get(digits.len() - length..).unwrap_or_default()
}

/// The values of header lines of one name, cut as the rule's dialect cuts them.
fn header(request: &Request<'_>, name: &str, each: Each, see: &mut impl FnMut(&[u8]) -> bool) -> Fact<()> {
    let headers = match request.headers {
        Fact::Known(headers) => headers,
        Fact::Absent => return Fact::Absent,
        Fact::Unknown => return Fact::Unknown,
    };
    let mut lines = headers.values(name.as_bytes());
    let Some(first) = lines.next() else { return Fact::Absent };
    if each == Each::Joined {
        SCRATCH.with_borrow_mut(|whole| {
            whole.clear();
            whole.extend_from_slice(first);
            for line in lines {
                whole.push(b',');
                whole.extend_from_slice(line);
            }
            see(whole);
        });
        return Fact::Known(());
    }
    for line in std::iter::once(first).chain(lines) {
        let going = match each {
            Each::Line => see(line),
            Each::Some => see(line) && comma_parts(line).all(&mut *see),
            Each::Every | Each::Joined => comma_parts(line).all(&mut *see),
        };
        if !going {
            break;
        }
    }
    Fact::Known(())
}

fn comma_parts(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b',').map(trim)
}

fn trim(mut part: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = part {
        part = rest;
    }
    part
}

/// The values of one parameter: split at `&`, percent-decoded once, `+` literal, `a` alone an empty value.
fn parameters(query: &[u8], name: &[u8], see: &mut impl FnMut(&[u8]) -> bool) -> Fact<()> {
    let mut found = Fact::Absent;
    for pair in query.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
        let mut halves = pair.splitn(2, |byte| *byte == b'=');
        let key = halves.next().unwrap_or_default();
        let value = halves.next().unwrap_or_default();
        if !decoded(key).eq(name.iter().copied()) {
            continue;
        }
        found = Fact::Known(());
        let going = if value.contains(&b'%') {
            SCRATCH.with_borrow_mut(|whole| {
                whole.clear();
                whole.extend(decoded(value));
                see(whole)
            })
        } else {
            see(value)
        };
        if !going {
            break;
        }
    }
    found
}

/// Percent-decodes once; the escapes were validated when the query was made canonical.
fn decoded(text: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let mut left = text;
    std::iter::from_fn(move || {
        let (first, rest) = left.split_first()?;
        if let (b'%', [high, low, after @ ..]) = (first, rest)
            && let (Some(high), Some(low)) = (digit(high), digit(low))
        {
            left = after;
            return Some(high * 16 + low);
        }
        left = rest;
        Some(*first)
    })
}

/// The token whose claims are asked for: a native rule sees what the operator accepts, a rule of the mesh what a
/// `RequestAuthentication` accepts, so that neither can speak for the other.
fn token<'a>(of: &Text, request: &Request<'a>) -> Fact<&'a Value> {
    if matches!(of, Text::Claim(_)) { request.jwt } else { request.mesh_jwt }
}

fn claim<'a>(claims: &'a Value, path: &[Arc<str>]) -> Option<&'a Value> {
    path.iter().try_fold(claims, |held, key| held.as_object()?.get(&**key))
}

/// Which values a claim has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// Strings, numbers and booleans.
    Scalars,
    /// Strings.
    Strings,
    /// Strings; the words between spaces where the claim is one string.
    Words,
}

fn claims(
    request: &Request<'_>,
    of: &Text,
    path: &[Arc<str>],
    reading: Reading,
    see: &mut impl FnMut(&[u8]) -> bool,
) -> Fact<()> {
    let token = match token(of, request) {
        Fact::Known(token) => token,
        Fact::Absent => return Fact::Absent,
        Fact::Unknown => return Fact::Unknown,
    };
    let Some(held) = claim(token, path) else { return Fact::Absent };
    let elements = match held {
        Value::Array(elements) => elements.as_slice(),
        other => std::slice::from_ref(other),
    };
    for element in elements {
        let going = match element {
            Value::String(text)
                if reading == Reading::Words && held.is_string() && text.bytes().any(|byte| byte != b' ') =>
            {
                text.split(' ').filter(|part| !part.is_empty()).all(|part| see(part.as_bytes()))
            }
            Value::String(text) => see(text.as_bytes()),
            Value::Number(_) | Value::Bool(_) if reading == Reading::Scalars => SCRATCH.with_borrow_mut(|whole| {
                whole.clear();
                // Writing a number into a buffer in memory cannot fail.
                serde_json::to_writer(&mut *whole, element).is_ok() && see(whole)
            }),
            Value::Number(_) | Value::Bool(_) | Value::Null | Value::Array(_) | Value::Object(_) => true,
        };
        if !going {
            break;
        }
    }
    Fact::Known(())
}
