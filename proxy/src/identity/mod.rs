//! Who the two ends of a connection are.

mod ends;

pub(crate) use ends::{Ends, Judged, PoolKey};
