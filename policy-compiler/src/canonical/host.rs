//! The canonical host: of Host, of `:authority`, of an absolute request target, of a server name indication.

use std::io::Write;
use std::net::Ipv6Addr;

use super::Refusal;

/// Appends the host of an authority (`host[:port]`) to `out`, lower case and without trailing dot, and returns its port.
/// An IPv6 literal keeps its brackets and gets its one text form; an IPv4-mapped one is the IPv4 address.
/// After a refusal `out` is as it was.
///
/// # Errors
/// [`Refusal::MalformedHost`]: empty, userinfo, escapes, spaces, lists, a port that is no port.
pub fn authority(raw: &[u8], out: &mut Vec<u8>) -> Result<Option<u16>, Refusal> {
    let (host_end, bracketed) = match raw {
        [b'[', ..] => (memchr::memchr(b']', raw).ok_or(Refusal::MalformedHost)? + 1, true),
        _ => (memchr::memchr(b':', raw).unwrap_or(raw.len()), false),
    };
    let (host, rest) = raw.split_at_checked(host_end).ok_or(Refusal::MalformedHost)?;
    let port = match rest {
        [] => None,
        [b':', digits @ ..] => Some(port(digits).ok_or(Refusal::MalformedHost)?),
        _ => return Err(Refusal::MalformedHost),
    };
    if bracketed { address(host, out) } else { name(host, out) }.ok_or(Refusal::MalformedHost)?;
    Ok(port)
}

/// Appends a server name indication to `out`, normalised like a host.
///
/// # Errors
/// [`Refusal::MalformedServerName`]: not a name; a port and an IPv6 literal are none either.
pub fn server_name(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    name(raw, out).ok_or(Refusal::MalformedServerName)
}

/// Whether two raw authorities have the same canonical host and the same port (none is not 80).
///
/// # Errors
/// [`Refusal::HostMismatch`] where they do not agree, or the refusal of the one that is malformed.
pub fn authorities_agree(one: &[u8], other: &[u8]) -> Result<(), Refusal> {
    if one == other {
        return Ok(());
    }
    let (mut a, mut b) = (Vec::new(), Vec::new());
    let ports = (authority(one, &mut a)?, authority(other, &mut b)?);
    if a == b && ports.0 == ports.1 { Ok(()) } else { Err(Refusal::HostMismatch) }
}

fn port(digits: &[u8]) -> Option<u16> {
    if !matches!(digits, [b'1'..=b'9', ..]) || digits.len() > 5 {
        return None;
    }
    digits.iter().try_fold(0_u16, |value, digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u16::from(digit - b'0')),
        _ => None,
    })
}

/// Letters, digits, `-`, `_` and single dots. Sub-delimiters are legal in a URI's host and in no cluster's names: a
/// comma alone makes one Host look like two.
fn name(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let name = raw.strip_suffix(b".").unwrap_or(raw);
    if name.is_empty() || name.len() > LONGEST_NAME {
        return None;
    }
    let mut previous = b'.';
    for &byte in name {
        let fits = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || (byte == b'.' && previous != b'.');
        if !fits {
            return None;
        }
        previous = byte;
    }
    if previous == b'.' {
        return None;
    }
    out.extend(name.iter().map(u8::to_ascii_lowercase));
    Some(())
}

fn address(bracketed: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let text = bracketed.strip_prefix(b"[")?.strip_suffix(b"]")?;
    let address: Ipv6Addr = std::str::from_utf8(text).ok()?.parse().ok()?;
    match address.to_ipv4_mapped() {
        Some(mapped) => write!(out, "{mapped}"),
        None => write!(out, "[{address}]"),
    }
    .ok()
}

/// RFC 1035: a domain name has at most 253 characters in text.
const LONGEST_NAME: usize = 253;
