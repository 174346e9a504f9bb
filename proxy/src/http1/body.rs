//! Bodies: bytes in, data and the end out. Nothing is buffered but trailers.

use eastwall_policy::canonical::{self, Refusal};
use eastwall_policy::facts::Headers;
use eastwall_policy::world::CanonicalScope;

use super::chunked::{Chunks, Step};
use super::lines::{Lines, diagnose};
use super::scan::{HeadLimits, MAX_FIELDS, Scan, Section};

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// There is none.
    None,
    /// Content-Length, at least 1.
    Length(u64),
    /// Chunks, then trailers.
    Chunked,
    /// The connection ends with it: responses alone.
    UntilClose,
}

/// What [`BodyReader::read`] found at the front of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Bytes of the input that were looked at; what follows comes with the next call.
    pub consumed: usize,
    /// Data of the body among them; may be empty.
    pub data: &'a [u8],
    /// The body has ended, trailers included; input behind `consumed` is not its own.
    pub end: bool,
}

/// Reads one body after another. Reused: trailers keep their buffers.
///
/// [`Self::begin`], then [`Self::read`] until a piece says `end`; [`Self::finish`] where the connection ended before.
#[derive(Debug)]
pub struct BodyReader {
    state: State,
    limits: HeadLimits,
    scan: Scan,
    /// The trailer section so far, as it came.
    section: Vec<u8>,
    trailers: Lines,
}

#[derive(Debug)]
enum State {
    Ended,
    Length(u64),
    Chunks(Chunks),
    Trailers,
    UntilClose,
}

impl BodyReader {
    /// Nothing to read yet. `limits` bound the trailers.
    #[must_use]
    pub fn new(limits: HeadLimits) -> Self {
        let (section, trailers) = (Vec::new(), Lines::default());
        Self { state: State::Ended, limits, scan: Scan::new(Section::Trailers), section, trailers }
    }

    /// Bytes that it holds on to.
    pub(super) fn capacity(&self) -> usize {
        self.section.capacity() + self.trailers.capacity()
    }

    /// A message begins whose head says this.
    pub fn begin(&mut self, length: BodyLength) {
        self.scan.reset();
        self.section.clear();
        self.trailers.clear();
        self.state = match length {
            BodyLength::None | BodyLength::Length(0) => State::Ended,
            BodyLength::Length(length) => State::Length(length),
            BodyLength::Chunked => State::Chunks(Chunks::new()),
            BodyLength::UntilClose => State::UntilClose,
        };
    }

    /// Whether the body has ended (or none was begun).
    #[must_use]
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Reads up to the next border: at most one run of data a call. An empty `input` is never an error.
    ///
    /// # Errors
    /// Framing that is not exactly right; the connection cannot be used any more.
    pub fn read<'i>(&mut self, input: &'i [u8]) -> Result<Piece<'i>, Refusal> {
        let mut consumed = 0;
        while let Some(rest) = input.get(consumed..)
            && !rest.is_empty()
        {
            match &mut self.state {
                State::Ended => break,
                State::UntilClose => return Ok(Piece { consumed: input.len(), data: rest, end: false }),
                State::Length(left) => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    self.passed(here);
                    let data = rest.get(..here).unwrap_or_default();
                    return Ok(Piece { consumed: consumed + here, data, end: self.is_ended() });
                }
                State::Chunks(chunks) => match chunks.step(rest)? {
                    Step::Framing(length) => consumed += length,
                    Step::Data(length) => {
                        let data = rest.get(..length).unwrap_or_default();
                        return Ok(Piece { consumed: consumed + length, data, end: false });
                    }
                    Step::Last(length) => {
                        consumed += length;
                        self.state = State::Trailers;
                    }
                },
                State::Trailers => consumed += self.read_trailers(rest)?,
            }
        }
        Ok(Piece { consumed, data: &[], end: self.is_ended() })
    }

    /// Bytes that are left of a body with a length: data to the last, which nobody needs to look at. 0 where the end is to
    /// be looked for.
    pub(super) fn left(&self) -> u64 {
        if let State::Length(left) = self.state { left } else { 0 }
    }

    /// So many of the bytes that are [`Self::left`] have passed unread.
    pub(super) fn passed(&mut self, count: usize) {
        if let State::Length(left) = &mut self.state {
            *left = left.saturating_sub(count as u64);
            if *left == 0 {
                self.state = State::Ended;
            }
        }
    }

    /// The connection has ended.
    ///
    /// # Errors
    /// [`Refusal::Truncated`] where the body had not.
    pub fn finish(&mut self) -> Result<(), Refusal> {
        match self.state {
            State::Ended => Ok(()),
            State::UntilClose => {
                self.state = State::Ended;
                Ok(())
            }
            _ => Err(Refusal::Truncated),
        }
    }

    /// Trailers of a request, once the body has ended, judged as nothing else may be forwarded.
    ///
    /// # Errors
    /// See [`canonical::trailers`].
    pub fn request_trailers(&self, scope: &CanonicalScope) -> Result<Headers<'_>, Refusal> {
        canonical::trailers(self.trailers.headers().iter(), scope)?;
        Ok(self.trailers.headers())
    }

    /// Trailers of a response, once the body has ended.
    ///
    /// # Errors
    /// See [`canonical::response_trailers`].
    pub fn response_trailers(&self) -> Result<Headers<'_>, Refusal> {
        canonical::response_trailers(self.trailers.headers().iter())?;
        Ok(self.trailers.headers())
    }

    fn read_trailers(&mut self, input: &[u8]) -> Result<usize, Refusal> {
        let before = self.section.len();
        let room = (self.limits.bytes + 1).saturating_sub(before);
        self.section.extend_from_slice(input.get(..room).unwrap_or(input));
        let Some(end) = self.scan.run(&self.section, self.limits)? else { return Ok(self.section.len() - before) };
        let section = self.section.get(..end).unwrap_or_default();
        let mut headers = [httparse::EMPTY_HEADER; MAX_FIELDS];
        match httparse::parse_headers(section, &mut headers) {
            Ok(httparse::Status::Complete((length, headers))) if length == end => {
                self.trailers.fill(section, headers)?;
            }
            Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooManyFields),
            _ => return Err(diagnose(section)),
        }
        self.state = State::Ended;
        Ok(end - before)
    }
}
