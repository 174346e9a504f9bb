//! The values of a request that patterns are matched against.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;

use super::leg::Leg;
use super::pattern;
use crate::facts::{Fact, Request, Truth};
use crate::model::{Each, Pattern, Text};

/// The truth of "a value matches when any of these patterns does", values combined as `each` says.
pub(crate) fn truth(of: &Text, each: Each, is: &[Pattern], leg: &Leg<'_>, request: &Request<'_>) -> Truth {
    let values = match values(of, each, leg, request) {
        Fact::Known(values) => values,
        Fact::Absent => return Truth::False,
        Fact::Unknown => return Truth::Unknown,
    };
    let matches = |value: &Cow<'_, [u8]>| is.iter().any(|pattern| applies(of, pattern, value));
    match each {
        Each::Every => !values.is_empty() && values.iter().all(matches),
        Each::Some | Each::Joined | Each::Line => values.iter().any(matches),
    }
    .into()
}

/// Whether the value is there at all.
pub(crate) fn present(of: &Text, leg: &Leg<'_>, request: &Request<'_>) -> Truth {
    if let Text::Claim(path) | Text::StringClaim(path) | Text::SpacedClaim(path) = of {
        return match token(of, request) {
            Fact::Known(claims) => claim(claims, path).is_some().into(),
            Fact::Absent => Truth::False,
            Fact::Unknown => Truth::Unknown,
        };
    }
    match values(of, Each::Line, leg, request) {
        Fact::Known(_) => Truth::True,
        Fact::Absent => Truth::False,
        Fact::Unknown => Truth::Unknown,
    }
}

/// SPEC: `OPTIONS *` has the known path `*`, which no path form matches, an expression that would match any bytes
/// included.
fn applies(of: &Text, with: &Pattern, value: &[u8]) -> bool {
    let asterisk = matches!(of, Text::Path | Text::PathEitherSlash) && value.first() != Some(&b'/');
    !(asterisk && matches!(with, Pattern::Regex { .. })) && pattern::matches(with, value)
}

type Values<'a> = Fact<Vec<Cow<'a, [u8]>>>;

fn values<'a>(of: &Text, each: Each, leg: &Leg<'a>, request: &Request<'a>) -> Values<'a> {
    match of {
        Text::Method => one(request.method),
        Text::Path => one(request.path),
        Text::PathEitherSlash => map(request.path, either_slash),
        Text::PathAndQuery => path_and_query(request),
        Text::Host => one(request.host),
        Text::Authority => map(request.host, |host| match request.host_port {
            Some(port) => vec![Cow::Owned([host, format!(":{port}").as_bytes()].concat())],
            None => vec![Cow::Borrowed(host)],
        }),
        Text::Header(name) => match request.headers {
            Fact::Known(headers) => some(cut(headers.values(name.as_bytes()).collect(), each)),
            Fact::Absent => Fact::Absent,
            Fact::Unknown => Fact::Unknown,
        },
        Text::Query(name) => match request.query {
            Fact::Known(query) => some(parameters(query, name.as_bytes())),
            Fact::Absent => Fact::Absent,
            Fact::Unknown => Fact::Unknown,
        },
        Text::Upgrade => one(request.upgrade),
        Text::Sni => one(request.sni),
        Text::Alpn => one(request.alpn),
        Text::Qname => one(request.qname),
        Text::Claim(path) => claims(request, of, path, Reading::Scalars),
        Text::StringClaim(path) => claims(request, of, path, Reading::Strings),
        Text::SpacedClaim(path) => claims(request, of, path, Reading::Words),
        Text::RequestPrincipal => match request.mesh_jwt {
            Fact::Known(token) => match (token.get("iss"), token.get("sub")) {
                (Some(Value::String(issuer)), Some(Value::String(subject))) => {
                    Fact::Known(vec![Cow::Owned(format!("{issuer}/{subject}").into_bytes())])
                }
                _ => Fact::Absent,
            },
            Fact::Absent => Fact::Absent,
            Fact::Unknown => Fact::Unknown,
        },
        Text::PeerPrincipal => match leg.peer_party().end.principal {
            Some(principal) => Fact::Known(vec![Cow::Borrowed(principal.as_bytes())]),
            None => Fact::Absent,
        },
    }
}

fn one(fact: Fact<&[u8]>) -> Values<'_> {
    map(fact, |value| vec![Cow::Borrowed(value)])
}

fn map<'a>(fact: Fact<&'a [u8]>, values: impl FnOnce(&'a [u8]) -> Vec<Cow<'a, [u8]>>) -> Values<'a> {
    match fact {
        Fact::Known(value) => Fact::Known(values(value)),
        Fact::Absent => Fact::Absent,
        Fact::Unknown => Fact::Unknown,
    }
}

/// No line or parameter of the name: absent.
fn some(values: Vec<Cow<'_, [u8]>>) -> Values<'_> {
    if values.is_empty() { Fact::Absent } else { Fact::Known(values) }
}

fn either_slash(path: &[u8]) -> Vec<Cow<'_, [u8]>> {
    match path {
        b"/" => vec![Cow::Borrowed(path)],
        [without @ .., b'/'] => vec![Cow::Borrowed(path), Cow::Borrowed(without)],
        _ => vec![Cow::Borrowed(path), Cow::Owned([path, b"/"].concat())],
    }
}

fn path_and_query<'a>(request: &Request<'a>) -> Values<'a> {
    match (request.path, request.query) {
        (Fact::Known(path), Fact::Known(query)) => Fact::Known(vec![Cow::Owned([path, b"?", query].concat())]),
        (Fact::Known(path), Fact::Absent) => Fact::Known(vec![Cow::Borrowed(path)]),
        (Fact::Absent, _) => Fact::Absent,
        (Fact::Unknown, _) | (_, Fact::Unknown) => Fact::Unknown,
    }
}

/// The values of header lines of one name, cut as the rule's dialect cuts them.
fn cut(lines: Vec<&[u8]>, each: Each) -> Vec<Cow<'_, [u8]>> {
    let parts = |line| -> Vec<Cow<'_, [u8]>> {
        <[u8]>::split(line, |byte| *byte == b',').map(|part| Cow::Borrowed(trim(part))).collect()
    };
    match each {
        Each::Every => lines.into_iter().flat_map(parts).collect(),
        Each::Some => {
            lines.iter().map(|line| Cow::Borrowed(*line)).chain(lines.iter().flat_map(|l| parts(l))).collect()
        }
        Each::Joined if lines.is_empty() => Vec::new(),
        Each::Joined => vec![Cow::Owned(lines.join(&b','))],
        Each::Line => lines.into_iter().map(Cow::Borrowed).collect(),
    }
}

fn trim(mut part: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = part {
        part = rest;
    }
    part
}

/// The values of one parameter: split at `&`, percent-decoded once, `+` literal, `a` alone an empty value.
fn parameters<'a>(query: &'a [u8], name: &[u8]) -> Vec<Cow<'a, [u8]>> {
    query
        .split(|byte| *byte == b'&')
        .filter(|pair| !pair.is_empty())
        .filter_map(|pair| {
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            let key = halves.next().unwrap_or_default();
            let value = halves.next().unwrap_or_default();
            (decode(key) == name).then(|| Cow::Owned(decode(value)))
        })
        .collect()
}

/// Percent-decodes once; the escapes were validated when the query was made canonical.
fn decode(text: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let mut decoded = Vec::with_capacity(text.len());
    let mut left = text;
    while let Some((first, rest)) = left.split_first() {
        left = rest;
        if let (b'%', [high, low, after @ ..]) = (first, rest)
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            decoded.push(high * 16 + low);
            left = after;
        } else {
            decoded.push(*first);
        }
    }
    decoded
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

fn has_words(text: &str) -> bool {
    text.bytes().any(|byte| byte != b' ')
}

fn claims<'a>(request: &Request<'a>, of: &Text, path: &[Arc<str>], reading: Reading) -> Values<'a> {
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
    let mut texts: Vec<Cow<'a, [u8]>> = Vec::new();
    for element in elements {
        match element {
            Value::String(text) if reading == Reading::Words && held.is_string() && has_words(text) => {
                texts
                    .extend(text.split(' ').filter(|part| !part.is_empty()).map(|part| Cow::Borrowed(part.as_bytes())));
            }
            Value::String(text) => texts.push(Cow::Borrowed(text.as_bytes())),
            Value::Number(_) | Value::Bool(_) if reading == Reading::Scalars => {
                texts.push(Cow::Owned(element.to_string().into_bytes()));
            }
            Value::Number(_) | Value::Bool(_) | Value::Null | Value::Array(_) | Value::Object(_) => {}
        }
    }
    Fact::Known(texts)
}
