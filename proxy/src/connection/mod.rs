//! The way of one connection: who, the connection verdict, which protocol, and then the protocol's own room.

mod opaque;
mod serve;
mod session;
mod told;

pub(crate) use serve::serve;
pub(crate) use session::{CHALLENGE, Session, now, revoked};
pub(crate) use told::Told;
