//! Who the two ends of a connection are, and what a token says of a request.

mod agreement;
mod ends;
mod mtls;
mod token;

pub(crate) use agreement::Agreement;
pub(crate) use ends::{Ends, Judged, PoolKey};
pub(crate) use mtls::follow as follow_identities;
pub(crate) use mtls::{
    Account, Identities, MutualTls, MutualTlsConfig, MutualTlsSettings, Peer, PeerRefused, Pods, Served, Svid, Whose,
};
#[cfg(test)]
pub(crate) use token::Finding;
pub(crate) use token::{Accepts, Keeper, Keys, TokenLimitSettings, TokenLimits, Verifier};
