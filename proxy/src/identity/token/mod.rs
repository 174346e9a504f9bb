//! Identity by token (RFC 7519): which keys there are, whether a token is what it says, and what rules may know of it.
//!
//! Keys are fetched and read beside the data path ([`Keeper`]); the data path asks a [`Verifier`], one a worker, which
//! waits for nothing. A token is never logged.

mod cache;
mod fetch;
mod issuer;
mod jwks;
mod keeper;
mod keys;
mod limits;
mod verifier;
mod verify;

pub(crate) use issuer::Accepts;
pub(crate) use keeper::Keeper;
pub(crate) use keys::Keys;
pub(crate) use limits::{TokenLimitSettings, TokenLimits};
pub(crate) use verifier::Verifier;
use verify::Algorithms;

/// What is said of a token, as a label of metrics and of the debug log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// It is what it says it is.
    Accepted,
    /// Several tokens, or what only looks like one.
    Unreadable,
    /// More bytes than a token may have.
    TooLong,
    /// Its parts are not what RFC 7519 says, or it has a header that must be understood and is not.
    Malformed,
    /// An algorithm that is not to be used: none at all, a symmetric one, one that is not listed.
    Algorithm,
    /// Nobody accepts tokens of this issuer here.
    Issuer,
    /// It is for somebody else.
    Audience,
    /// The time is past `exp`, or `exp` is missing.
    Expired,
    /// The time is before `nbf`.
    NotYetValid,
    /// The keys of its issuer have not been read.
    NoKeys,
    /// No key of the issuer has its `kid` and its algorithm.
    UnknownKey,
    /// No key of the issuer made its signature.
    Signature,
    /// The request has a header by which Istio's proxy tells the application of a token.
    Forged,
}

impl Finding {
    /// Every finding; the position of each is its number.
    pub(crate) const ALL: [Self; 13] = [
        Self::Accepted,
        Self::Unreadable,
        Self::TooLong,
        Self::Malformed,
        Self::Algorithm,
        Self::Issuer,
        Self::Audience,
        Self::Expired,
        Self::NotYetValid,
        Self::NoKeys,
        Self::UnknownKey,
        Self::Signature,
        Self::Forged,
    ];

    /// As metrics name it.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Unreadable => "unreadable",
            Self::TooLong => "too-long",
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::NotYetValid => "not-yet-valid",
            Self::NoKeys => "no-keys",
            Self::UnknownKey => "unknown-key",
            Self::Signature => "signature",
            Self::Forged => "forged-header",
        }
    }
}
