//! Issues a certificate for the webhooks.
//!
//! Its authority signs this one certificate and its key is thrown away: nobody can sign another with it.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// A certificate and all that belongs to it, PEM.
pub(super) struct Issued {
    pub(super) authority: String,
    pub(super) chain: String,
    pub(super) key: String,
    pub(super) renew_after: Timestamp,
}

/// Issues one for these names.
///
/// # Errors
/// A name that no certificate can have.
pub(super) fn issue(names: &[String], now: Timestamp) -> Result<Issued, rcgen::Error> {
    let day = |days: i64| now.to_zoned(TimeZone::UTC).date().saturating_add(days.days());
    let dated = |mut params: CertificateParams| {
        // From yesterday: clocks differ.
        let (from, until) = (day(-1), day(DAYS));
        let date = |date: jiff::civil::Date| {
            rcgen::date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
        };
        (params.not_before, params.not_after) = (date(from), date(until));
        params
    };
    let mut authority = dated(CertificateParams::new(Vec::new())?);
    authority.distinguished_name.push(DnType::CommonName, "eastwall webhook authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let mut params = dated(CertificateParams::new(names.to_vec())?);
    params.distinguished_name.push(DnType::CommonName, "eastwall webhook");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &authority)?;
    Ok(Issued {
        authority: authority.pem(),
        chain: certificate.pem(),
        key: key.serialize_pem(),
        renew_after: now.saturating_add((DAYS * 24 * 2 / 3).hours()).unwrap_or(now),
    })
}

/// How long it holds. It is renewed when a third of it is left: a month for somebody to notice that this fails.
const DAYS: i64 = 90;
