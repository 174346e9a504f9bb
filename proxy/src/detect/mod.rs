//! Which protocol is this connection? From its first bytes alone; no sockets, no clock.

pub use sniff::{Sniffed, sniff};

mod sniff;
