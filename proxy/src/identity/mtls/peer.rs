//! What a peer's certificate says, and why it proves nothing.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, UnixTime};
use spiffe::SpiffeId;
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509Certificate};

use super::verifier;

/// A peer that has proven who it is.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Its SPIFFE id.
    pub(crate) principal: Arc<str>,
    /// The certificates that it has shown.
    chain: Arc<[CertificateDer<'static>]>,
    /// When it has shown them.
    at: UnixTime,
}

/// Writes the enum, its labels and its words from one list.
macro_rules! refusals {
    ($($name:ident: $label:literal, $words:literal;)+) => {
        /// Why a certificate proves no identity.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
        pub(crate) enum PeerRefused {
            $(#[doc = $words] #[error($words)] $name,)+
        }

        impl PeerRefused {
            /// Every label.
            #[cfg(test)]
            pub(crate) const LABELS: &[&str] = &[$($label),+];

            /// As metrics name it.
            pub(crate) const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)+ }
            }
        }
    };
}

refusals! {
    NoCertificate: "no-certificate", "the peer shows no certificate";
    Malformed: "malformed", "the certificate cannot be read";
    NoUri: "no-uri", "the certificate has no URI";
    SeveralUris: "several-uris", "the certificate has several URIs";
    NotSpiffe: "not-spiffe", "the URI of the certificate is no SPIFFE id of a workload";
    UnknownTrustDomain: "unknown-trust-domain", "nobody is believed in the trust domain of the certificate";
    UnknownIssuer: "unknown-issuer", "no authority of its trust domain has issued the certificate";
    Expired: "expired", "the certificate has expired";
    NotYetValid: "not-yet-valid", "the certificate is not yet valid";
    Authority: "authority", "the certificate is one of an authority, not of a workload";
    Usage: "usage", "the certificate is not for this side of a connection";
    Signature: "signature", "a signature of the certificate, or of the handshake, is wrong";
    OtherIdentity: "other-identity", "the peer proves another identity than the one that was to be reached";
    NoIdentity: "no-identity", "there is no certificate to show to the peer";
    Protocol: "protocol", "the peer does not speak TLS 1.3 with HTTP/2 in it";
}

// === impl PeerRefused ===

impl PeerRefused {
    /// Why a handshake failed, as far as the certificate of the peer is the reason.
    pub(crate) fn of(error: &std::io::Error) -> Self {
        verifier::reason(error)
    }
}

// === impl Peer ===

impl Peer {
    /// Whose chain the handshake that has just ended has verified.
    pub(crate) fn verified(chain: &[CertificateDer<'static>]) -> Result<Self, PeerRefused> {
        let id = chain.first().ok_or(PeerRefused::NoCertificate).and_then(spiffe_id)?;
        Ok(Self { principal: id.to_string().into(), chain: chain.into(), at: UnixTime::now() })
    }

    /// What it has shown, and when.
    pub(super) fn shown(&self) -> (&[CertificateDer<'static>], UnixTime) {
        (&self.chain, self.at)
    }
}

/// The one SPIFFE id of a certificate. SPEC: X509-SVID 2, exactly one URI, and that of a workload has a path.
pub(super) fn spiffe_id(certificate: &CertificateDer<'_>) -> Result<SpiffeId, PeerRefused> {
    let (rest, parsed) = X509Certificate::from_der(certificate).map_err(|_| PeerRefused::Malformed)?;
    if !rest.is_empty() {
        return Err(PeerRefused::Malformed);
    }
    let mut uris = Vec::new();
    for extension in parsed.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => {
                for name in &names.general_names {
                    match name {
                        GeneralName::URI(uri) => uris.push(*uri),
                        GeneralName::Invalid(..) => return Err(PeerRefused::Malformed),
                        _ => {}
                    }
                }
            }
            // SPEC: X509-SVID 4.3, a leaf that may sign certificates is to be refused.
            ParsedExtension::KeyUsage(usage) if usage.key_cert_sign() || usage.crl_sign() => {
                return Err(PeerRefused::Authority);
            }
            ParsedExtension::ParseError { .. } => return Err(PeerRefused::Malformed),
            _ => {}
        }
    }
    match uris.as_slice() {
        [] => Err(PeerRefused::NoUri),
        [uri] => match SpiffeId::new(uri) {
            Ok(id) if !id.path().is_empty() => Ok(id),
            _ => Err(PeerRefused::NotSpiffe),
        },
        _ => Err(PeerRefused::SeveralUris),
    }
}
