//! Which authorities are believed, by trust domain.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, Error, KeyUsage, anchor_from_trusted_cert};

use super::peer::{self, Peer, PeerRefused};

/// The authorities of every trust domain: an authority speaks for its own domain alone.
#[derive(Debug, Default)]
pub(crate) struct Trust {
    domains: BTreeMap<String, Vec<TrustAnchor<'static>>>,
}

/// Which side of a connection a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

impl Trust {
    /// Believes these certificates for a domain, beside those that it believes already.
    pub(super) fn add(&mut self, domain: &str, certificates: &[CertificateDer<'_>]) -> Result<(), PeerRefused> {
        let anchors = self.domains.entry(domain.to_owned()).or_default();
        for certificate in certificates {
            let anchor = anchor_from_trusted_cert(certificate).map_err(|_| PeerRefused::Malformed)?.to_owned();
            if !anchors.contains(&anchor) {
                anchors.push(anchor);
            }
        }
        Ok(())
    }

    /// Nobody is believed.
    pub(super) fn is_empty(&self) -> bool {
        self.domains.values().all(Vec::is_empty)
    }

    /// Whether both believe the same.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.domains == other.domains
    }

    /// The trust domains.
    pub(super) fn domains(&self) -> impl Iterator<Item = &str> {
        self.domains.keys().map(String::as_str)
    }

    /// Who shows this chain, the leaf first.
    pub(super) fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        side: Side,
        now: UnixTime,
    ) -> Result<Arc<str>, PeerRefused> {
        let (leaf, intermediates) = chain.split_first().ok_or(PeerRefused::NoCertificate)?;
        let id = peer::spiffe_id(leaf)?;
        let anchors = self.domains.get(id.trust_domain_name()).filter(|anchors| !anchors.is_empty());
        let anchors = anchors.ok_or(PeerRefused::UnknownTrustDomain)?;
        let usage = match side {
            Side::Client => KeyUsage::client_auth(),
            Side::Server => KeyUsage::server_auth(),
        };
        let end_entity = EndEntityCert::try_from(leaf).map_err(|error| refused(&error))?;
        end_entity
            .verify_for_usage(webpki::ALL_VERIFICATION_ALGS, anchors, intermediates, now, usage, None, None)
            .map_err(|error| refused(&error))?;
        Ok(id.to_string().into())
    }

    /// Whether a peer of before would be believed now. Its certificate may have ended since: that ends no connection.
    pub(super) fn still_believes(&self, peer: &Peer, side: Side) -> bool {
        let (chain, at) = peer.shown();
        self.verify(chain, side, at).is_ok()
    }
}

fn refused(error: &Error) -> PeerRefused {
    match error {
        Error::CertExpired { .. } => PeerRefused::Expired,
        Error::CertNotValidYet { .. } => PeerRefused::NotYetValid,
        Error::CaUsedAsEndEntity => PeerRefused::Authority,
        Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => PeerRefused::Usage,
        Error::InvalidSignatureForPublicKey => PeerRefused::Signature,
        Error::UnknownIssuer => PeerRefused::UnknownIssuer,
        Error::BadDer | Error::BadDerTime | Error::TrailingData(_) | Error::UnsupportedCertVersion => {
            PeerRefused::Malformed
        }
        _ => PeerRefused::UnknownIssuer,
    }
}
