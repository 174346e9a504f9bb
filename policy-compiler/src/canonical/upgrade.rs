//! The protocol that a request asks to switch to.

use super::{Refusal, connection_options, octet};
use crate::facts::Headers;

/// The one protocol that the lines of an HTTP/1.1 request ask for, as it came; lines as they were received, with lower-case
/// names. `None` where Connection does not ask for it: RFC 9110 7.8, such a line asks for nothing.
///
/// # Errors
/// [`Refusal::Http2Upgrade`] wherever HTTP itself is asked for, in whatever way: the same bytes would have a second
/// interpretation behind the switch, and servers differ in what they take for such a wish. Prior knowledge works.
/// [`Refusal::MalformedUpgrade`] for several protocols, or none that has a name.
pub fn upgrade<'a>(lines: &Headers<'a>) -> Result<Option<&'a [u8]>, Refusal> {
    let mut values = lines.values(b"upgrade");
    let Some(first) = values.next() else { return Ok(None) };
    let several = values.next().is_some();
    if lines.values(b"upgrade").flat_map(connection_options).any(is_http) {
        return Err(Refusal::Http2Upgrade);
    }
    let mut options = lines.values(b"connection").flat_map(connection_options);
    if !options.any(|option| option.eq_ignore_ascii_case(b"upgrade")) {
        return Ok(None);
    }
    let well_formed = first.split(|&byte| byte == b'/').all(octet::is_whole_token);
    if several || !well_formed { Err(Refusal::MalformedUpgrade) } else { Ok(Some(first)) }
}

/// `h2c`, `h2`, `HTTP/2.0` and their like.
fn is_http(protocol: &[u8]) -> bool {
    let name = protocol.split(|&byte| byte == b'/').next().unwrap_or_default();
    [&b"h2c"[..], b"h2", b"http"].iter().any(|http| octet::trim(name).eq_ignore_ascii_case(http))
}
