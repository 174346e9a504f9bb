//! A key that signs, what leads from its certificate to a root, and the roots that are told.

use std::path::Path;

use rcgen::{Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::parse_x509_certificate;
use x509_parser::prelude::X509Certificate;

use super::AuthorityError;

/// Immutable; a change of the root makes another one.
pub(super) struct Signer {
    pub(super) issuer: Issuer<'static, KeyPair>,
    /// Between a leaf and a root.
    pub(super) intermediates: Vec<CertificateDer<'static>>,
    pub(super) bundle: Vec<CertificateDer<'static>>,
    /// When its certificate ends, seconds since the epoch: nothing that it signs lives longer.
    pub(super) not_after: i64,
}

impl Signer {
    /// The error says what is wrong with the certificate or the key (PEM).
    pub(super) fn new(
        certificate: &CertificateDer<'static>,
        key: &str,
        intermediates: Vec<CertificateDer<'static>>,
        bundle: Vec<CertificateDer<'static>>,
    ) -> Result<Self, String> {
        let key = KeyPair::from_pem(key).map_err(|error| format!("the key: {error}"))?;
        let (not_after, public) = described(certificate, |parsed| {
            if !parsed.is_ca() {
                return Err("the certificate is not one of an authority".to_owned());
            }
            let public = parsed.public_key().subject_public_key.data.to_vec();
            Ok((parsed.validity().not_after.timestamp(), public))
        })??;
        if public != key.public_key_raw() {
            return Err("the key is not that of the certificate".to_owned());
        }
        let issuer = Issuer::from_ca_cert_der(certificate, key).map_err(|error| error.to_string())?;
        Ok(Self { issuer, intermediates, bundle, not_after })
    }

    /// One that somebody else keeps in files.
    pub(super) fn given(certificate: &Path, key: &Path, bundle: Option<&Path>) -> Result<Self, AuthorityError> {
        let chain = certificates(certificate)?;
        let roots = match bundle {
            Some(bundle) => certificates(bundle)?,
            None => chain.iter().filter(|one| is_root(one)).cloned().collect(),
        };
        if roots.is_empty() {
            let why = "no root is among these certificates: name one with `--ca-bundle`".to_owned();
            return Err(AuthorityError::Unusable { what: named(certificate), why });
        }
        let text = std::fs::read_to_string(key);
        let text = text.map_err(|error| AuthorityError::Unusable { what: named(key), why: error.to_string() })?;
        let unusable = |why| AuthorityError::Unusable { what: named(certificate), why };
        let first = chain.first().ok_or_else(|| unusable("no certificate".to_owned()))?;
        let between = chain.iter().filter(|one| !is_root(one)).cloned().collect();
        Self::new(first, &text, between, roots).map_err(unusable)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    let unusable = |why: String| AuthorityError::Unusable { what: named(path), why };
    let read = CertificateDer::pem_file_iter(path).map_err(|error| unusable(error.to_string()))?;
    read.collect::<Result<_, _>>().map_err(|error| unusable(error.to_string()))
}

fn is_root(certificate: &CertificateDer<'_>) -> bool {
    described(certificate, |parsed| parsed.subject().as_raw() == parsed.issuer().as_raw()).unwrap_or(false)
}

fn described<T>(certificate: &CertificateDer<'_>, tell: impl FnOnce(&X509Certificate<'_>) -> T) -> Result<T, String> {
    match parse_x509_certificate(certificate) {
        Ok((_, parsed)) => Ok(tell(&parsed)),
        Err(error) => Err(format!("no certificate: {error}")),
    }
}

fn named(path: &Path) -> String {
    format!("`{}`", path.display())
}
