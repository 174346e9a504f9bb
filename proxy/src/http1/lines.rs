//! Header lines of one message, in reused buffers: original bytes, lower-case names beside them.

use eastwall_policy::canonical::{self, Refusal, octet};
use eastwall_policy::facts::{Field, Headers};

/// A range of [`Lines::bytes`].
pub(super) type Part = (u32, u32);

/// The header lines of a head or trailer section.
///
/// INVARIANT: `bytes` begins with the section as received, then has the same section in lower case; a field's name
/// lies in the second, its value in the first. Behind them stands what canonicalisation appends.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) bytes: Vec<u8>,
    pub(super) fields: Vec<Field>,
    section: usize,
    nominated: Vec<Part>,
    pub(super) options: ConnectionOptions,
}

/// What Connection says about the connection itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ConnectionOptions {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
}

impl Lines {
    /// Takes over a section and the lines that were parsed out of it.
    pub(super) fn fill(&mut self, section: &[u8], headers: &[httparse::Header<'_>]) -> Result<(), Refusal> {
        let length = u32::try_from(section.len()).map_err(|_| Refusal::HeadTooLarge)?;
        self.section = section.len();
        self.bytes.clear();
        self.bytes.extend_from_slice(section);
        self.bytes.extend(section.iter().map(u8::to_ascii_lowercase));
        self.fields.clear();
        self.nominated.clear();
        self.options = ConnectionOptions::default();
        let base = section.as_ptr().addr();
        let place = |part: &[u8]| {
            let from = u32::try_from(part.as_ptr().addr().checked_sub(base)?).ok()?;
            let to = from.checked_add(u32::try_from(part.len()).ok()?)?;
            (to <= length).then_some((from, to))
        };
        for header in headers {
            let (Some(name), Some(value)) = (place(header.name.as_bytes()), place(octet::trim(header.value))) else {
                return Err(Refusal::MalformedName);
            };
            self.fields.push(Field { name: (name.0 + length, name.1 + length), value });
        }
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.fields.clear();
        self.nominated.clear();
        self.section = 0;
        self.options = ConnectionOptions::default();
    }

    /// Bytes that it holds on to.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity() + self.fields.capacity() * size_of::<Field>()
    }

    pub(super) fn part(&self, part: Part) -> &[u8] {
        self.bytes.get(part.0 as usize..part.1 as usize).unwrap_or_default()
    }

    pub(super) fn headers(&self) -> Headers<'_> {
        Headers { bytes: &self.bytes, fields: &self.fields }
    }

    /// A field's name as it came.
    pub(super) fn spelling(&self, field: &Field) -> &[u8] {
        let length = u32::try_from(self.section).unwrap_or(u32::MAX);
        self.part((field.name.0.saturating_sub(length), field.name.1.saturating_sub(length)))
    }

    /// A part of the received section, in lower case.
    pub(super) fn lower(&self, part: Part) -> Part {
        let length = u32::try_from(self.section).unwrap_or(u32::MAX);
        (part.0.saturating_add(length), part.1.saturating_add(length))
    }

    /// Appends to the buffer and says where.
    pub(super) fn append(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), Refusal>) -> Result<Part, Refusal> {
        let from = self.bytes.len();
        write(&mut self.bytes)?;
        let part = (u32::try_from(from), u32::try_from(self.bytes.len()));
        let (Ok(from), Ok(to)) = part else { return Err(Refusal::HeadTooLarge) };
        Ok((from, to))
    }

    /// Reads every Connection line.
    pub(super) fn read_connection(&mut self) {
        for field in &self.fields {
            let bytes = &self.bytes;
            let part = |(from, to): Part| bytes.get(from as usize..to as usize).unwrap_or_default();
            if part(field.name) != b"connection" {
                continue;
            }
            let value = part(field.value);
            for option in canonical::connection_options(value) {
                let known = &mut self.options;
                if option.eq_ignore_ascii_case(b"close") {
                    known.close = true;
                } else if option.eq_ignore_ascii_case(b"keep-alive") {
                    known.keep_alive = true;
                } else if option.eq_ignore_ascii_case(b"upgrade") {
                    known.upgrade = true;
                } else {
                    let offset = option.as_ptr().addr().saturating_sub(bytes.as_ptr().addr());
                    let range = (u32::try_from(offset), u32::try_from(offset + option.len()));
                    if let (Ok(from), Ok(to)) = range {
                        self.nominated.push((from, to));
                    }
                }
            }
        }
    }

    /// Removes what ends at this hop, what Connection nominates, what only the proxy may say, and what `also` names.
    pub(super) fn remove_hop_by_hop(&mut self, also: impl Fn(&[u8]) -> bool) {
        let (bytes, nominated) = (&self.bytes, &self.nominated);
        let part = |(from, to): Part| bytes.get(from as usize..to as usize).unwrap_or_default();
        self.fields.retain(|field| {
            let name = part(field.name);
            !(HOP_BY_HOP.contains(&name)
                || canonical::is_reserved(name)
                || also(name)
                || nominated.iter().any(|option| part(*option).eq_ignore_ascii_case(name)))
        });
    }
}

/// RFC 9110 7.6.1, whether or not Connection nominates them. (Trailer stays: trailers are forwarded.)
const HOP_BY_HOP: &[&[u8]] = &[b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade", b"http2-settings"];

/// Names a line that httparse did not take: the first fault of the first faulty line.
#[cold]
pub(super) fn diagnose(lines: &[u8]) -> Refusal {
    for line in lines.split(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        let Some(colon) = memchr::memchr(b':', line) else { return Refusal::MalformedName };
        let (name, value) = line.split_at_checked(colon).unwrap_or((line, &[]));
        if matches!(name, [octet, .., b' ' | b'\t'] if octet::is_token(*octet)) {
            return Refusal::SpaceBeforeColon;
        }
        if !octet::is_whole_token(name) {
            return Refusal::MalformedName;
        }
        if !value.iter().copied().all(octet::is_field_value) {
            return Refusal::ControlInValue;
        }
    }
    Refusal::MalformedName
}
