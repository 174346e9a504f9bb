//! Certificates of one trust domain, made anew for each proxy: an authority, and who it says that everybody is.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig, client, version};

use crate::process::Failure;
use crate::rules::{BACKEND, CLIENT, PROXY};

/// The workload that is protected, the first source, and whom no rule names.
pub(crate) const APP: &str = "app";
pub(crate) const SOURCE: &str = "sa-0";
pub(crate) const STRANGER: &str = "stranger";

/// What clients see of a proxy, and what a proxy of its clients.
pub(crate) const AUTHORITY: &str = "ca.crt";
const AUTHORITY_KEY: &str = "ca.key";

/// The folder of an identity in that of a proxy: `tls.crt`, `tls.key`, `ca.crt`.
pub(crate) fn folder(account: &str) -> String {
    format!("identity-{account}")
}

pub(crate) fn spiffe(account: &str) -> String {
    format!("spiffe://cluster.local/ns/shop/sa/{account}")
}

/// Writes an authority and its certificates into the folder of a proxy.
pub(crate) fn write(within: &Path) -> Result<(), Failure> {
    let key = KeyPair::generate()?;
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // What bears the same name as its issuer is taken for self-signed.
    authority.distinguished_name.push(DnType::CommonName, "authority");
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = authority.self_signed(&key)?.pem();
    fs::write(within.join(AUTHORITY), &certificate)?;
    fs::write(within.join(AUTHORITY_KEY), key.serialize_pem())?;
    let issuer = Issuer::new(authority, key);
    for account in [APP, SOURCE, STRANGER] {
        let own = within.join(folder(account));
        fs::create_dir_all(&own)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(spiffe(account).as_str().try_into()?)];
        complete(&mut params);
        fs::write(own.join(AUTHORITY), &certificate)?;
        fs::write(own.join("tls.crt"), params.signed_by(&key, &issuer)?.pem())?;
        fs::write(own.join("tls.key"), key.serialize_pem())?;
    }
    Ok(())
}

/// The certificate that somebody asks the authority for, and the authority's own.
pub(crate) fn sign(within: &Path, request: &str) -> Result<[String; 2], Failure> {
    let own = fs::read_to_string(within.join(AUTHORITY))?;
    let key = KeyPair::from_pem(&fs::read_to_string(within.join(AUTHORITY_KEY))?)?;
    let mut request = CertificateSigningRequestParams::from_pem(request)?;
    complete(&mut request.params);
    Ok([request.signed_by(&Issuer::from_ca_cert_pem(&own, key)?)?.pem(), own])
}

/// What all have beside their names. The load asks proxies for the address that it calls.
fn complete(params: &mut CertificateParams) {
    params.subject_alt_names.extend([CLIENT, BACKEND, PROXY].map(SanType::IpAddress));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
}

/// To connect with: TLS 1.3 with this identity, and no session is resumed.
pub(crate) fn client(within: &Path, account: &str) -> Result<Arc<ClientConfig>, Failure> {
    let (chain, key) = pair(within, account)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&version::TLS13])?
        .with_root_certificates(roots(within)?)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// To accept with, as [`APP`]; `asks` clients for their certificate.
pub(crate) fn server(within: &Path, asks: bool) -> Result<Arc<ServerConfig>, Failure> {
    let (chain, key) = pair(within, APP)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&[&version::TLS13])?;
    let builder = if asks {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(within)?), provider).build()?;
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn pair(within: &Path, account: &str) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Failure> {
    let own = within.join(folder(account));
    let chain = CertificateDer::pem_file_iter(own.join("tls.crt"))?.collect::<Result<_, _>>()?;
    Ok((chain, PrivateKeyDer::from_pem_file(own.join("tls.key"))?))
}

fn roots(within: &Path) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(within.join(AUTHORITY))?)?;
    Ok(roots)
}

/// An address of this machine, as an authority speaks of it.
pub(crate) fn name(ip: IpAddr) -> rustls::pki_types::ServerName<'static> {
    rustls::pki_types::ServerName::IpAddress(ip.into())
}
