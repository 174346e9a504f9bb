//! Has rustls ask [`Trust`] about the peer's certificate, on either side.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};

use super::peer::PeerRefused;
use super::trust::{Side, Trust};

/// See the module.
#[derive(Debug)]
pub(super) struct Verifier {
    trust: Arc<Trust>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(super) fn new(trust: &Arc<Trust>, provider: &CryptoProvider) -> Arc<Self> {
        Arc::new(Self { trust: Arc::clone(trust), algorithms: provider.signature_verification_algorithms })
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        side: Side,
        now: UnixTime,
    ) -> Result<(), Error> {
        let chain: Vec<CertificateDer<'_>> = std::iter::once(leaf).chain(intermediates).cloned().collect();
        match self.trust.verify(&chain, side, now) {
            Ok(_) => Ok(()),
            Err(refused) => Err(Error::InvalidCertificate(alert(refused))),
        }
    }
}

/// As an error of rustls, which says what the peer is told; ours is within where it has no word for it.
fn alert(refused: PeerRefused) -> CertificateError {
    match refused {
        PeerRefused::Expired => CertificateError::Expired,
        PeerRefused::NotYetValid => CertificateError::NotValidYet,
        PeerRefused::UnknownIssuer => CertificateError::UnknownIssuer,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    }
}

/// Why a handshake failed, as far as the certificate of the peer is the reason.
pub(super) fn reason(error: &std::io::Error) -> PeerRefused {
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return PeerRefused::Protocol;
    };
    match error {
        Error::NoCertificatesPresented => PeerRefused::NoCertificate,
        Error::InvalidCertificate(CertificateError::Expired) => PeerRefused::Expired,
        Error::InvalidCertificate(CertificateError::NotValidYet) => PeerRefused::NotYetValid,
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => PeerRefused::UnknownIssuer,
        Error::InvalidCertificate(CertificateError::BadSignature) => PeerRefused::Signature,
        Error::InvalidCertificate(CertificateError::Other(other)) => {
            other.0.downcast_ref().copied().unwrap_or(PeerRefused::Malformed)
        }
        Error::InvalidCertificate(_) => PeerRefused::Malformed,
        _ => PeerRefused::Protocol,
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(leaf, intermediates, Side::Client, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not offered".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The name of the server plays no part: who it has to be is asked of what it has proven.
impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(leaf, intermediates, Side::Server, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ClientCertVerifier::verify_tls12_signature(self, message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ClientCertVerifier::verify_tls13_signature(self, message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
