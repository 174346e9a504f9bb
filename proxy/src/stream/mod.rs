//! Bytes between two sockets: opaque TCP, and what every protocol shares of it.

mod buffer;
mod copy;
mod deadline;
mod pipe;

pub(crate) use buffer::Buffer;
pub(crate) use copy::{Copied, Copy, reset};
pub(crate) use deadline::Deadline;
