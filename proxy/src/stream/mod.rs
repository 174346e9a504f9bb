//! Opaque TCP: bytes both ways, half-close kept.

mod copy;

pub(crate) use copy::{Copied, Copy, reset};
