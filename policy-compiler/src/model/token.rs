//! Which tokens a workload accepts: what a proxy that verifies tokens needs to know.

use std::path::Path;
use std::sync::Arc;

/// The tokens of one issuer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JwtRule {
    /// The claim `iss`, exactly; `None`: whatever it is.
    pub issuer: Option<Arc<str>>,
    /// The claim `aud` must have one of these; none: whatever it has.
    pub audiences: Vec<Arc<str>>,
    /// What signatures are verified with.
    pub keys: KeysFrom,
    /// Where in a request a token is looked for.
    pub places: Vec<TokenPlace>,
    /// Headers, lower case, in which Istio's proxy tells the application of the token, whatever the client wrote there.
    pub told_in: Vec<Arc<str>>,
}

/// Where a set of keys comes from (RFC 7517).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeysFrom {
    /// It is this text.
    Text(Arc<str>),
    /// It stands in this file, which the settings of a proxy name.
    File(Arc<Path>),
    /// It is fetched from this URL.
    Address(Arc<str>),
    /// It is fetched from where the configuration of this issuer says (OpenID Connect Discovery 1.0).
    Issuer(Arc<str>),
}

/// Where a token may stand.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TokenPlace {
    /// In `Authorization`, behind the scheme `Bearer` in any case (RFC 6750 2.1, RFC 9110 11.1).
    Bearer,
    /// In a header, behind exactly this prefix.
    Header {
        /// Lower case.
        name: Arc<str>,
        /// May be empty.
        prefix: Arc<str>,
    },
    /// In a parameter of the query.
    Parameter(Arc<str>),
    /// In a cookie.
    Cookie(Arc<str>),
}

impl TokenPlace {
    /// The header that it looks at, lower case.
    #[must_use]
    pub fn header(&self) -> Option<&str> {
        match self {
            Self::Bearer => Some(AUTHORIZATION),
            Self::Header { name, .. } => Some(name),
            Self::Parameter(_) => None,
            Self::Cookie(_) => Some("cookie"),
        }
    }
}

/// The header of [`TokenPlace::Bearer`].
pub const AUTHORIZATION: &str = "authorization";
