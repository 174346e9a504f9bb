//! Roots of the authority's own, and their life: told, signing, told still, forgotten.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};

use super::leaf::{at, random};
use super::signer::Signer;
use super::{AuthorityError, Kept, Settings};

/// All of them, oldest first.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Roots {
    roots: Vec<Root>,
}

/// One root. Times are seconds since the epoch.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Root {
    /// PEM.
    certificate: String,
    /// PEM.
    key: String,
    made: i64,
    /// Before that it is only told, so that everybody knows it when it signs.
    signs_from: i64,
    /// From then on nothing that it signed is good any more.
    until: i64,
}

impl Roots {
    pub(super) fn read(kept: &Kept) -> Result<Self, AuthorityError> {
        serde_json::from_str(kept).map_err(|error| unusable(&error))
    }

    pub(super) fn written(&self) -> Result<Kept, AuthorityError> {
        serde_json::to_string_pretty(self).map_err(|error| unusable(&error))
    }

    pub(super) fn count(&self) -> usize {
        self.roots.len()
    }

    /// What they are from now on; `None` where they stay as they are. `force`: another root, whatever the age of the
    /// last.
    pub(super) fn next(&self, settings: &Settings, now: i64, force: bool) -> Result<Option<Self>, AuthorityError> {
        let mut next = self.clone();
        next.roots.retain(|root| root.until > now);
        let is_due = match next.roots.last() {
            None => true,
            // One that is only told is the next one already.
            Some(last) => {
                last.signs_from <= now && (force || now - last.made >= seconds(settings.root_lifetime) / 3 * 2)
            }
        };
        if is_due {
            // Everybody has a new certificate, and with it the new bundle, after two thirds of a lifetime.
            let signs_from = if next.roots.is_empty() { now } else { now + seconds(settings.lifetime) };
            let last_leaf = signs_from + seconds(settings.lifetime) + SLACK;
            next.roots.iter_mut().for_each(|root| root.until = root.until.min(last_leaf));
            next.roots.push(Root::make(settings, now, signs_from)?);
        }
        let is_same = !is_due && next.roots.len() == self.roots.len();
        Ok((!is_same).then_some(next))
    }

    /// What signs now, and all that is told.
    pub(super) fn signer(&self, now: i64) -> Result<Signer, AuthorityError> {
        let signing = self.roots.iter().rev().find(|root| root.signs_from <= now);
        let Some(root) = signing.or_else(|| self.roots.first()) else { return Err(unusable(&"there is none")) };
        let bundle: Result<Vec<_>, _> =
            self.roots.iter().map(|root| CertificateDer::from_pem_slice(root.certificate.as_bytes())).collect();
        let bundle = bundle.map_err(|error| unusable(&error))?;
        let certificate =
            CertificateDer::from_pem_slice(root.certificate.as_bytes()).map_err(|error| unusable(&error))?;
        Signer::new(&certificate, &root.key, Vec::new(), bundle).map_err(|error| unusable(&error))
    }
}

impl Root {
    fn make(settings: &Settings, now: i64, signs_from: i64) -> Result<Self, AuthorityError> {
        let until = now + seconds(settings.root_lifetime);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| unusable(&error))?;
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = (at(now - SLACK), at(until));
        let serial = random().map_err(|error| unusable(&error))?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, settings.trust_domain.as_str());
        // Two roots of one name would be mistaken for each other.
        let name: String = serial.to_bytes().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        params.distinguished_name.push(DnType::CommonName, format!("Eastwall {name}"));
        params.serial_number = Some(serial);
        let domain = format!("spiffe://{}", settings.trust_domain);
        params.subject_alt_names = vec![SanType::URI(domain.try_into().map_err(|error| unusable(&error))?)];
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(|error| unusable(&error))?;
        Ok(Self { certificate: certificate.pem(), key: key.serialize_pem(), made: now, signs_from, until })
    }
}

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX / 8)
}

fn unusable(why: &impl ToString) -> AuthorityError {
    AuthorityError::Unusable { what: "the root of the authority".to_owned(), why: why.to_string() }
}

/// How far clocks may be apart.
pub(super) const SLACK: i64 = 300;
