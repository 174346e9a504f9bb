//! The token of a request: what is found has three parts and stands in the request; another line beside it, or another
//! place, never makes another token of it.
#![no_main]

use eastwall_policy::canonical::{Token, token};
use eastwall_policy::facts::{Fact, Field, Headers, Protocol, Request};
use eastwall_policy::model::TokenPlace;
use libfuzzer_sys::fuzz_target;

/// The first line is the query, the others are header lines.
fn with<R>(data: &[u8], more: &[u8], see: impl FnOnce(&Request<'_>) -> R) -> R {
    let mut lines = data.split(|byte| *byte == b'\n');
    let query = lines.next().unwrap_or_default();
    let (mut bytes, mut fields) = (Vec::new(), Vec::new());
    for line in lines.chain(more.split(|byte| *byte == b'\n')) {
        let Some(cut) = line.iter().position(|byte| *byte == b':') else { continue };
        let mut put = |part: &[u8]| {
            let from = bytes.len() as u32;
            bytes.extend_from_slice(part.trim_ascii());
            (from, bytes.len() as u32)
        };
        let name = put(&line[..cut].to_ascii_lowercase());
        fields.push(Field { name, value: put(&line[cut + 1..]) });
    }
    let headers = Fact::Known(Headers { bytes: &bytes, fields: &fields });
    see(&Request { headers, query: Fact::Known(query), ..Request::opaque(Fact::Known(Protocol::Http), 0) })
}

fuzz_target!(|data: &[u8]| {
    let places = [
        TokenPlace::Bearer,
        TokenPlace::Header { name: "x-token".into(), prefix: "Token ".into() },
        TokenPlace::Header { name: "x-bare".into(), prefix: "".into() },
        TokenPlace::Parameter("access_token".into()),
        TokenPlace::Cookie("session".into()),
    ];
    let owned = |found: Token<'_>| match found {
        Token::One(token) => Some(token.into_owned()),
        Token::Absent | Token::Unreadable => None,
    };
    let all = with(data, b"", |request| owned(token(request, &places)));
    if let Some(found) = &all {
        let parts: Vec<&[u8]> = found.split(|byte| *byte == b'.').collect();
        assert!(parts.len() == 3 && parts.iter().all(|part| !part.is_empty()), "{found:?}");
        assert!(found.iter().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(byte)), "{found:?}");
    }
    for place in &places {
        let one = with(data, b"", |request| owned(token(request, std::slice::from_ref(place))));
        if let (Some(one), Some(all)) = (&one, &all) {
            assert_eq!(one, all, "{place:?}");
        }
    }
    // A second credential hides the first, it never replaces it.
    for line in
        [&b"authorization: Bearer d.e.f"[..], b"x-token: Token d.e.f", b"x-bare: d.e.f", b"cookie: session=d.e.f"]
    {
        let both = with(data, line, |request| owned(token(request, &places)));
        assert!(both.is_none() || both.as_deref() == Some(b"d.e.f"), "{both:?}");
        assert!(all.is_none() || both.is_none() || both == all, "{both:?}");
    }
});
