//! The token of a request (RFC 6750, RFC 7515 7.1): found, not understood, and never verified here.
//!
//! A server behind the proxy may be laxer than the specifications: it takes the first of two tokens, or the last, or one
//! with padding. What could be a token to such a server is not taken for "no token".

use std::borrow::Cow;

use super::octet;
use crate::facts::{Fact, Headers, Request};
use crate::model::{TokenPlace, token};

/// What a request carries where tokens may stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token<'a> {
    /// Nothing.
    Absent,
    /// Three parts of base64url with a dot between them.
    One(Cow<'a, [u8]>),
    /// Something that may pass for a token and is none, several, or what cannot be seen.
    Unreadable,
}

impl<'a> Token<'a> {
    /// Both of two places.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Absent, one) | (one, Self::Absent) => one,
            (Self::One(one), Self::One(other)) if one == other => Self::One(one),
            _ => Self::Unreadable,
        }
    }

    fn of(written: Cow<'a, [u8]>) -> Self {
        if is_compact(&written) { Self::One(written) } else { Self::Unreadable }
    }
}

/// The one token that a request carries at these places. The same token at two of them is one.
#[must_use]
pub fn token<'a>(request: &Request<'a>, places: &[TokenPlace]) -> Token<'a> {
    places.iter().fold(Token::Absent, |found, place| found.and(at(request, place)))
}

fn at<'a>(request: &Request<'a>, place: &TokenPlace) -> Token<'a> {
    if let TokenPlace::Parameter(name) = place {
        return match request.query {
            Fact::Known(query) => only(parameters(query, name.as_bytes())),
            Fact::Absent => Token::Absent,
            Fact::Unknown => Token::Unreadable,
        };
    }
    let headers = match request.headers {
        Fact::Known(headers) => headers,
        Fact::Absent => return Token::Absent,
        Fact::Unknown => return Token::Unreadable,
    };
    match place {
        TokenPlace::Bearer => in_header(&headers, token::AUTHORIZATION, "bearer", after_scheme),
        TokenPlace::Header { name, prefix } => {
            in_header(&headers, name, prefix.trim_end(), |line| line.strip_prefix(prefix.as_bytes()))
        }
        TokenPlace::Cookie(name) => only(cookies(&headers, name.as_bytes())),
        TokenPlace::Parameter(_) => Token::Absent,
    }
}

/// SPEC: RFC 9110 11.6.2, a field is one line. A line that has the scheme anywhere in it is not passed over: Envoy finds a
/// prefix wherever it stands.
fn in_header<'a>(
    headers: &Headers<'a>,
    name: &str,
    scheme: &str,
    token_of: impl Fn(&'a [u8]) -> Option<&'a [u8]>,
) -> Token<'a> {
    let mut lines = headers.values(name.as_bytes()).filter(|line| !line.is_empty());
    let (Some(first), rest) = (lines.next(), lines.next()) else { return Token::Absent };
    let holds = |line: &[u8]| scheme.is_empty() || holds_word(line, scheme.as_bytes());
    match rest {
        None if !holds(first) => Token::Absent,
        None => token_of(first).map_or(Token::Unreadable, |written| Token::of(Cow::Borrowed(written))),
        Some(second) if !holds(first) && !holds(second) && !lines.any(holds) => Token::Absent,
        Some(_) => Token::Unreadable,
    }
}

/// SPEC: RFC 6750 2.1, `"Bearer" 1*SP b64token`; RFC 9110 11.1, the case of a scheme means nothing.
fn after_scheme(line: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = line.split_at_checked("bearer".len())?;
    let token = rest.trim_ascii_start();
    let spaces = rest.get(..rest.len() - token.len())?;
    let is_apart = !spaces.is_empty() && spaces.iter().all(|byte| *byte == b' ');
    (scheme.eq_ignore_ascii_case(b"bearer") && is_apart).then_some(token)
}

fn holds_word(line: &[u8], word: &[u8]) -> bool {
    line.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word))
}

/// Several values are several tokens, even where they are the same: which one a server takes is not known.
fn only<'a>(mut values: impl Iterator<Item = Cow<'a, [u8]>>) -> Token<'a> {
    match (values.next(), values.next()) {
        (None, _) => Token::Absent,
        (Some(one), None) => Token::of(one),
        (Some(_), Some(_)) => Token::Unreadable,
    }
}

/// SPEC: RFC 6265 5.4, pairs between `;`. HTTP/2 may split them over lines (RFC 9113 8.2.3).
fn cookies<'a>(headers: &Headers<'a>, name: &[u8]) -> impl Iterator<Item = Cow<'a, [u8]>> {
    let pairs = headers.values(b"cookie").flat_map(|line| line.split(|byte| *byte == b';')).map(octet::trim);
    pairs.filter_map(move |pair| {
        let (held, value) = halves(pair);
        (octet::trim(held) == name).then_some(Cow::Borrowed(octet::trim(value)))
    })
}

fn parameters<'a>(query: &'a [u8], name: &[u8]) -> impl Iterator<Item = Cow<'a, [u8]>> {
    query.split(|byte| *byte == b'&').filter_map(move |pair| {
        let (held, value) = halves(pair);
        (*decoded(held) == *name).then(|| decoded(value))
    })
}

fn halves(pair: &[u8]) -> (&[u8], &[u8]) {
    let cut = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
    let (name, value) = pair.split_at_checked(cut).unwrap_or_default();
    (name, value.strip_prefix(b"=").unwrap_or_default())
}

/// Percent-decodes once. The escapes were validated with the query.
fn decoded(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'%') {
        return Cow::Borrowed(text);
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let mut whole = Vec::with_capacity(text.len());
    let mut left = text;
    while let [first, rest @ ..] = left {
        left = rest;
        match (first, rest) {
            (b'%', [high, low, after @ ..]) if let (Some(high), Some(low)) = (digit(*high), digit(*low)) => {
                whole.push(high * 16 + low);
                left = after;
            }
            _ => whole.push(*first),
        }
    }
    Cow::Owned(whole)
}

fn is_compact(written: &[u8]) -> bool {
    let mut parts = 0;
    let well_formed = written.split(|byte| *byte == b'.').all(|part| {
        parts += 1;
        !part.is_empty() && part.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    });
    well_formed && parts == 3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Field, Protocol};

    fn found(lines: &[(&str, &str)], query: &str, places: &[TokenPlace]) -> Token<'static> {
        let (mut bytes, mut fields) = (Vec::new(), Vec::new());
        let mut put = |part: &str| {
            let from = u32::try_from(bytes.len()).unwrap();
            bytes.extend_from_slice(part.as_bytes());
            (from, u32::try_from(bytes.len()).unwrap())
        };
        for (name, value) in lines {
            fields.push(Field { name: put(name), value: put(value) });
        }
        let headers = Fact::Known(Headers { bytes: &bytes, fields: &fields });
        let query = if query.is_empty() { Fact::Absent } else { Fact::Known(query.as_bytes()) };
        let request = Request { headers, query, ..Request::opaque(Fact::Known(Protocol::Http), 0) };
        match token(&request, places) {
            Token::Absent => Token::Absent,
            Token::One(token) => Token::One(Cow::Owned(token.into_owned())),
            Token::Unreadable => Token::Unreadable,
        }
    }

    fn one() -> Token<'static> {
        Token::One(Cow::Borrowed(b"a.b-_.C9"))
    }

    #[test]
    fn a_bearer_token_is_one_or_none_or_unreadable() {
        for (lines, expected) in [
            (&["Bearer a.b-_.C9"][..], one()),
            (&["bEARER   a.b-_.C9"], one()),
            (&[], Token::Absent),
            (&[""], Token::Absent),
            (&["Basic dXNlcjpwYXNz"], Token::Absent),
            (&["Basic dXNlcjpwYXNz", "Negotiate x"], Token::Absent),
            (&["Bearer"], Token::Unreadable),
            (&["Bearer "], Token::Unreadable),
            (&["Bearer\ta.b.c"], Token::Unreadable),
            (&["Bearera.b.c"], Token::Unreadable),
            (&["Bearer opaque"], Token::Unreadable),
            (&["Bearer a.b"], Token::Unreadable),
            (&["Bearer a.b.c.d"], Token::Unreadable),
            (&["Bearer a..c"], Token::Unreadable),
            (&["Bearer a.b."], Token::Unreadable),
            (&["Bearer a.b.c="], Token::Unreadable),
            (&["Bearer a.b.c+/"], Token::Unreadable),
            (&["Bearer a.b.c x"], Token::Unreadable),
            (&["Bearer a.b.c, Bearer a.b.c"], Token::Unreadable),
            (&["Basic x, Bearer a.b.c"], Token::Unreadable),
            (&["xBearer a.b.c"], Token::Unreadable),
            (&["Bearer a.b.c", "Bearer a.b.c"], Token::Unreadable),
            (&["Basic x", "Bearer a.b.c"], Token::Unreadable),
            (&["Bearer a.b.c", "Basic x"], Token::Unreadable),
            (&["x", "y", "Bearer a.b.c"], Token::Unreadable),
        ] {
            let lines: Vec<(&str, &str)> = lines.iter().map(|line| ("authorization", *line)).collect();
            assert_eq!(found(&lines, "", &[TokenPlace::Bearer]), expected, "{lines:?}");
        }
    }

    #[test]
    fn places_of_a_request_authentication() {
        let header = |name: &str, prefix: &str| TokenPlace::Header { name: name.into(), prefix: prefix.into() };
        let places = [
            header("authorization", "Bearer "),
            header("x-jwt", ""),
            TokenPlace::Parameter("token".into()),
            TokenPlace::Cookie("jwt".into()),
        ];
        for (lines, query, expected) in [
            (&[("authorization", "Bearer a.b-_.C9")][..], "", one()),
            // SPEC: Envoy compares a prefix as it is written; what it does not find it does not take.
            (&[("authorization", "bearer a.b-_.C9")], "", Token::Unreadable),
            (&[("x-jwt", "a.b-_.C9")], "", one()),
            (&[("x-jwt", "Bearer a.b-_.C9")], "", Token::Unreadable),
            (&[], "x=1&token=a.b-_.C9", one()),
            (&[], "tok%65n=a%2Eb-_.C9", one()),
            (&[], "Token=a.b-_.C9&token2=x", Token::Absent),
            (&[], "token", Token::Unreadable),
            (&[], "token=a.b.c&token=a.b.c", Token::Unreadable),
            (&[("cookie", "x=1; jwt=a.b-_.C9")], "", one()),
            (&[("cookie", "x=1"), ("cookie", "jwt=a.b-_.C9")], "", one()),
            (&[("cookie", "jwt=a.b.c; jwt=d.e.f")], "", Token::Unreadable),
            (&[("cookie", "jwt =a.b-_.C9")], "", one()),
            (&[("x-jwt", "a.b-_.C9")], "token=a.b-_.C9", one()),
            (&[("x-jwt", "a.b-_.C9")], "token=d.e.f", Token::Unreadable),
            (&[("x-other", "a.b.c")], "", Token::Absent),
        ] {
            assert_eq!(found(lines, query, &places), expected, "{lines:?} {query}");
        }
    }

    #[test]
    fn what_cannot_be_seen_is_unreadable() {
        let unseen = Request::opaque(Fact::Known(Protocol::Http), 0);
        assert_eq!(token(&unseen, &[TokenPlace::Bearer]), Token::Unreadable);
        assert_eq!(token(&unseen, &[TokenPlace::Parameter("t".into())]), Token::Unreadable);
        assert_eq!(token(&unseen, &[]), Token::Absent);
    }
}
