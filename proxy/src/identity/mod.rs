//! Who the two ends of a connection are, and what a token says of a request.

mod ends;
mod token;

pub(crate) use ends::{Ends, Judged, PoolKey};
#[cfg(test)]
pub(crate) use token::Finding;
pub(crate) use token::{Accepts, Keeper, Keys, TokenLimitSettings, TokenLimits, Verifier};
