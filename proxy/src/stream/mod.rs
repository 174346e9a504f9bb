//! Bytes between two sockets: opaque TCP, and what every protocol shares of it.

mod buffer;
mod bulk;
mod byte_stream;
mod copy;
mod deadline;
#[cfg(test)]
pub(crate) mod lab;
mod pipe;
mod tunnel;

pub(crate) use buffer::Buffer;
pub(crate) use bulk::Bulk;
pub(crate) use byte_stream::{ByteStream, reset};
pub(crate) use copy::{Copied, Copy};
pub(crate) use deadline::Deadline;
#[cfg(test)]
pub(crate) use pipe::{count as pipes, exhaust as without_pipes};
pub(crate) use tunnel::Tunnel;
