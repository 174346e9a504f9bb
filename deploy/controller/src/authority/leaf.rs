//! Certificates that the authority signs: of workloads, and of its own server.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::CertificateDer;

use super::root::SLACK;
use super::signer::Signer;

/// `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpiffeId(String);

/// A certificate, and what a peer needs to believe it.
#[derive(Clone, Debug)]
pub struct Signed {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The roots.
    pub bundle: Vec<CertificateDer<'static>>,
    /// Seconds since the epoch.
    pub not_before: i64,
    /// Seconds since the epoch.
    pub not_after: i64,
}

/// Why a request is not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// It is no PKCS #10 request that is signed with its own key.
    #[error("no valid request for a certificate: {0}")]
    Invalid(String),
    /// The key is of another kind.
    #[error("the key of the request is not ECDSA on P-256")]
    Key,
    /// The authority cannot.
    #[error("the authority cannot sign: {0}")]
    Unable(String),
}

impl SpiffeId {
    pub(super) fn new(trust_domain: &str, namespace: &str, account: &str) -> Self {
        Self(format!("spiffe://{trust_domain}/ns/{namespace}/sa/{account}"))
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a trust domain is one. SPEC: SPIFFE-ID 2.1.
pub(super) fn check_domain(domain: &str) -> Result<(), String> {
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    if domain.is_empty() || domain.len() > 255 || !domain.bytes().all(known) {
        return Err(format!("`{domain}` is no trust domain: write lower-case letters, digits, `.`, `-` and `_`"));
    }
    Ok(())
}

/// For the key of a request, and nothing else of it.
pub(super) fn workload(
    signer: &Signer,
    request: &[u8],
    id: &SpiffeId,
    (now, lifetime): (i64, Duration),
) -> Result<Signed, SignError> {
    let request = CertificateSigningRequestParams::from_der(&request.into());
    let key = request.map_err(|error| SignError::Invalid(error.to_string()))?.public_key;
    // An uncompressed point: what the signature is called says nothing about the curve.
    let is_p256 = matches!(key.der_bytes(), [4, point @ ..] if point.len() == 64);
    if *key.algorithm() != PKCS_ECDSA_P256_SHA256 || !is_p256 {
        return Err(SignError::Key);
    }
    let name = id.0.clone().try_into().map_err(unable)?;
    let uses = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    sign(signer, &key, vec![SanType::URI(name)], uses, (now, lifetime))
}

/// For the authority's own server; with the key.
pub(super) fn server(
    signer: &Signer,
    names: &[String],
    now: i64,
    lifetime: Duration,
) -> Result<(Signed, KeyPair), SignError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(unable)?;
    let names: Result<Vec<SanType>, SignError> =
        names.iter().map(|name| Ok(SanType::DnsName(name.as_str().try_into().map_err(unable)?))).collect();
    let signed = sign(signer, &key, names?, vec![ExtendedKeyUsagePurpose::ServerAuth], (now, lifetime))?;
    Ok((signed, key))
}

fn sign(
    signer: &Signer,
    key: &impl PublicKeyData,
    names: Vec<SanType>,
    uses: Vec<ExtendedKeyUsagePurpose>,
    (now, lifetime): (i64, Duration),
) -> Result<Signed, SignError> {
    let lifetime = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX / 8);
    let (not_before, not_after) = (now - SLACK, (now + lifetime).min(signer.not_after));
    if not_after <= now {
        return Err(SignError::Unable("its own certificate has ended".to_owned()));
    }
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = (at(not_before), at(not_after));
    params.serial_number = Some(random().map_err(unable)?);
    // The name is in the URI alone.
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = names;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = uses;
    params.use_authority_key_identifier_extension = true;
    let leaf = params.signed_by(key, &signer.issuer).map_err(unable)?;
    let mut chain = vec![leaf.der().clone()];
    chain.extend(signer.intermediates.iter().cloned());
    Ok(Signed { chain, bundle: signer.bundle.clone(), not_before, not_after })
}

/// A serial number that nobody guesses and that does not come twice.
pub(super) fn random() -> Result<SerialNumber, &'static str> {
    let mut bytes = [0; 16];
    let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    random.fill(&mut bytes).map_err(|_| "there is no randomness")?;
    // Positive, and of full length.
    bytes[0] = bytes[0] & 0x3f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// As the library wants a time.
pub(super) fn at<T: From<SystemTime>>(seconds: i64) -> T {
    let seconds = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    T::from(UNIX_EPOCH.checked_add(seconds).unwrap_or(UNIX_EPOCH))
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn unable(error: impl ToString) -> SignError {
    SignError::Unable(error.to_string())
}
