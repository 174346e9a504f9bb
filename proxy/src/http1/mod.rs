//! HTTP/1: one strict codec, sans-I/O, and its forwarding.
//!
//! Order of calls on one side: [`RequestHead::read`] until a head is there, [`BodyReader::begin`] with its length,
//! [`BodyReader::read`] until the end, and again; bytes that were not consumed stay where they are (pipelining). On the
//! other side [`ResponseHead::read`] (interim heads may come first) and a second [`BodyReader`]. Everything that goes
//! out is written by [`write`].

mod body;
mod chunked;
mod codec;
mod exchange;
mod forward;
mod lines;
mod pool;
mod request;
mod response;
mod scan;
#[cfg(test)]
mod tests;
mod wire;
pub mod write;

pub use body::{BodyLength, BodyReader, Piece};
pub(crate) use forward::serve;
pub(crate) use pool::Pool;
pub use request::{RequestHead, Version};
pub use response::{Asked, ResponseHead};
pub use scan::{HeadLimits, MAX_FIELDS};
