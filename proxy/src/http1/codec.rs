//! What one request needs to be read, and its answer: kept by the worker, not by connections that wait.

use super::{BodyReader, HeadLimits, RequestHead, ResponseHead};

/// The readers of one exchange.
#[derive(Debug)]
pub(super) struct Codec {
    pub(super) request: RequestHead,
    pub(super) response: ResponseHead,
    /// The request's body.
    pub(super) up: BodyReader,
    /// The response's body.
    pub(super) down: BodyReader,
    /// What is to be written upstream.
    pub(super) scratch: Vec<u8>,
}

impl Codec {
    /// Bytes that its buffers hold on to.
    pub(super) fn footprint(&self) -> usize {
        self.scratch.capacity()
            + self.request.lines.capacity()
            + self.response.lines.capacity()
            + self.up.capacity()
            + self.down.capacity()
    }

    pub(super) fn new(limits: HeadLimits) -> Box<Self> {
        Box::new(Self {
            request: RequestHead::default(),
            response: ResponseHead::default(),
            up: BodyReader::new(limits),
            down: BodyReader::new(limits),
            scratch: Vec::new(),
        })
    }
}
