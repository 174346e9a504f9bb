//! A certificate of our own, and the two ways to use it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ServerConfig, client, version};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::peer::{self, PeerRefused};
use super::trust::{Side, Trust};
use super::verifier::Verifier;

/// A certificate and its key, as a source gives them.
#[derive(Debug)]
pub(super) struct KeyPair {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// An identity that this proxy can prove.
#[derive(Clone, Debug)]
pub(crate) struct Svid {
    /// Its SPIFFE id.
    pub(crate) principal: Arc<str>,
    /// When it ends, in seconds since the epoch.
    pub(crate) not_after: i64,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

/// Why a certificate and its key are of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    /// By what peers would say of it.
    #[error("{0}")]
    Refused(#[from] PeerRefused),
    /// The key does not fit, or is of a kind that is not known.
    #[error("the key: {0}")]
    Key(rustls::Error),
}

/// What HBONE is negotiated as.
const ALPN: &[u8] = b"h2";

impl Svid {
    /// Joins a certificate with who is believed. One that our own trust refuses would be refused by every peer.
    pub(super) fn new(pair: KeyPair, trust: &Arc<Trust>) -> Result<Self, Unusable> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let id = pair.chain.first().ok_or(PeerRefused::NoCertificate).and_then(peer::spiffe_id)?;
        for side in [Side::Client, Side::Server] {
            trust.verify(&pair.chain, side, UnixTime::now())?;
        }
        let not_after = pair.chain.first().map_or(Ok(0), not_after)?;
        let certified = CertifiedKey::from_der(pair.chain, pair.key, &provider).map_err(Unusable::Key)?;
        let certified = Arc::new(SingleCertAndKey::from(certified));
        let verifier = Verifier::new(trust, &provider);
        Ok(Self {
            principal: id.to_string().into(),
            not_after,
            server: Arc::new(server(&provider, &verifier, &certified).map_err(Unusable::Key)?),
            client: Arc::new(client(&provider, verifier, certified).map_err(Unusable::Key)?),
        })
    }

    /// To accept with.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// To connect with.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.client)
    }

    /// How long it is valid from now on; nothing once it has ended.
    pub(crate) fn remaining(&self) -> Duration {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Duration::from_secs(self.not_after.try_into().unwrap_or_default()).saturating_sub(now)
    }
}

/// INVARIANT: no session is ever resumed, so none outlives a change of trust.
fn server(
    provider: &Arc<CryptoProvider>,
    verifier: &Arc<Verifier>,
    certified: &Arc<SingleCertAndKey>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&version::TLS13])?
        .with_client_cert_verifier(Arc::clone(verifier) as _)
        .with_cert_resolver(Arc::clone(certified) as _);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client(
    provider: &Arc<CryptoProvider>,
    verifier: Arc<Verifier>,
    certified: Arc<SingleCertAndKey>,
) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(certified);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = client::Resumption::disabled();
    Ok(config)
}

fn not_after(certificate: &CertificateDer<'_>) -> Result<i64, PeerRefused> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| PeerRefused::Malformed)?;
    Ok(parsed.validity().not_after.timestamp())
}
