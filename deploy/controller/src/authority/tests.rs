use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, SanType,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::parse_x509_certificate;

use super::*;

const DAY: i64 = 24 * 3600;

async fn own(folder: &Path) -> Arc<Authority> {
    Authority::open(Settings::default(), Source::Own(Arc::new(FileVault::new(folder)))).await.unwrap()
}

fn request(names: &[&str]) -> (KeyPair, Vec<u8>) {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.subject_alt_names = names.iter().map(|name| SanType::URI((*name).try_into().unwrap())).collect();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "admin");
    let request = params.serialize_request(&key).unwrap().der().to_vec();
    (key, request)
}

/// As a peer would: does the chain lead to one of the roots?
fn leads(chain: &[CertificateDer<'static>], bundle: &[CertificateDer<'static>], now: i64) -> bool {
    let mut roots = RootCertStore::empty();
    bundle.iter().for_each(|root| roots.add(root.clone()).unwrap());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now.try_into().unwrap()));
    let name = ServerName::try_from("eastwall-controller").unwrap();
    match verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], now) {
        // It has no DNS name: the chain was believed.
        Ok(_) | Err(rustls::Error::InvalidCertificate(rustls::CertificateError::NotValidForNameContext { .. })) => true,
        Err(_) => false,
    }
}

#[tokio::test]
async fn a_certificate_has_the_pods_name_and_no_other_whatever_the_request_asks() {
    let folder = tempfile::tempdir().unwrap();
    let authority = own(&folder.path().join("vault")).await;
    let now = now();
    let (key, request) = request(&["spiffe://cluster.local/ns/kube-system/sa/admin", "https://elsewhere.example"]);
    let signed = authority.sign(&request, &authority.id("shop", "web"), now).unwrap();
    let (_, leaf) = parse_x509_certificate(&signed.chain[0]).unwrap();
    let names: Vec<_> = leaf.subject_alternative_name().unwrap().unwrap().value.general_names.clone();
    assert_eq!(names, [GeneralName::URI("spiffe://cluster.local/ns/shop/sa/web")]);
    assert_eq!(leaf.subject().iter().count(), 0);
    assert!(!leaf.is_ca());
    assert_eq!(leaf.public_key().subject_public_key.data, key.public_key_raw());
    let uses = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(uses.server_auth && uses.client_auth && !uses.any && uses.other.is_empty());
    let usage = leaf.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_cert_sign());
    let known = |one: &ParsedExtension<'_>| !matches!(one, ParsedExtension::UnsupportedExtension { .. });
    assert!(leaf.extensions().iter().all(|one| known(one.parsed_extension())));
    let lives = leaf.validity().not_after.timestamp() - now;
    assert_eq!((lives, signed.not_after - now), (DAY, DAY));
    assert!(leads(&signed.chain, &signed.bundle, now));
    assert!(!leads(&signed.chain, &signed.bundle, now + DAY + 1));
    let again = authority.sign(&request, &authority.id("shop", "web"), now).unwrap();
    let (_, second) = parse_x509_certificate(&again.chain[0]).unwrap();
    assert_ne!(leaf.serial, second.serial);
}

#[tokio::test]
async fn what_is_no_request_of_the_right_kind_is_not_signed() {
    let folder = tempfile::tempdir().unwrap();
    let authority = own(folder.path()).await;
    let id = authority.id("shop", "web");
    let (_, good) = request(&[]);
    for at in [0, good.len() / 2, good.len() - 5] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(authority.sign(&bad, &id, now()).is_err(), "byte {at}");
    }
    assert!(matches!(authority.sign(&[], &id, now()), Err(SignError::Invalid(_))));
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let other = CertificateParams::default().serialize_request(&key).unwrap();
    assert!(matches!(authority.sign(other.der(), &id, now()), Err(SignError::Key)));
}

#[tokio::test]
async fn the_root_is_kept_for_this_user_alone_and_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let vault = folder.path().join("vault");
    let bundle = own(&vault).await.bundle();
    assert_eq!(own(&vault).await.bundle(), bundle);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&vault), mode(&vault.join("authority.json"))), (0o700, 0o600));
    let vault = FileVault::new(&vault);
    let found = vault.load().await.unwrap().unwrap();
    vault.store(found.kept.clone() + "\n", Some(found.revision.clone())).await.unwrap();
    assert!(matches!(vault.store(found.kept, Some(found.revision)).await, Err(VaultError::Conflict)));
}

#[tokio::test]
async fn a_root_is_replaced_with_overlap() {
    let folder = tempfile::tempdir().unwrap();
    let authority = own(folder.path()).await;
    let start = now();
    let sign = |at: i64| authority.sign(&request(&[]).1, &authority.id("shop", "web"), at).unwrap();
    let first = sign(start);
    authority.turn(start + 100 * DAY).await.unwrap();
    assert_eq!(authority.bundle().len(), 1, "it is young");

    authority.rotate(start).await.unwrap();
    let told = sign(start + 1);
    assert_eq!(told.bundle.len(), 2, "the new one is told");
    assert!(leads(&told.chain, &first.bundle, start + 1), "before it signs");
    authority.rotate(start + 1).await.unwrap();
    assert_eq!(authority.bundle().len(), 2, "one at a time");

    authority.turn(start + DAY).await.unwrap();
    let (old, new) = (told, sign(start + DAY));
    assert!(!leads(&new.chain, &first.bundle, start + DAY) && leads(&new.chain, &old.bundle, start + DAY));
    assert!(leads(&old.chain, &new.bundle, start + DAY), "what the old one signed is still good");

    authority.turn(start + 2 * DAY + 300).await.unwrap();
    assert_eq!(authority.bundle().len(), 1, "nothing that the old one signed is left");
    let last = sign(start + 2 * DAY + 300);
    assert!(leads(&last.chain, &new.bundle, start + 2 * DAY + 300));

    authority.turn(start + 250 * DAY).await.unwrap();
    assert_eq!(authority.bundle().len(), 2, "two thirds of its life are over");
}

#[tokio::test]
async fn an_intermediate_that_somebody_else_keeps_signs_too() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let ca = |name: &str| {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params, KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap())
    };
    let ((root, root_key), (middle, middle_key)) = (ca("root"), ca("middle"));
    let root_pem = root.self_signed(&root_key).unwrap().pem();
    let middle_pem = middle.signed_by(&middle_key, &Issuer::new(root, root_key)).unwrap().pem();
    std::fs::write(at("root.pem"), &root_pem).unwrap();
    std::fs::write(at("ca.pem"), &middle_pem).unwrap();
    std::fs::write(at("key.pem"), middle_key.serialize_pem()).unwrap();
    let open = |bundle: Option<PathBuf>| {
        let source = Source::Given { certificate: at("ca.pem"), key: at("key.pem"), bundle };
        Authority::open(Settings::default(), source)
    };
    let error = open(None).await.err().unwrap().to_string();
    assert!(error.contains("--ca-bundle"), "{error}");
    let authority = open(Some(at("root.pem"))).await.unwrap();
    let signed = authority.sign(&request(&[]).1, &authority.id("shop", "web"), now()).unwrap();
    assert_eq!((signed.chain.len(), signed.bundle.len()), (2, 1));
    assert!(leads(&signed.chain, &signed.bundle, now()));
    std::fs::write(at("key.pem"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    assert!(authority.turn(now()).await.unwrap_err().to_string().contains("not that of the certificate"));
    assert!(authority.sign(&request(&[]).1, &authority.id("shop", "web"), now()).is_ok(), "what was good goes on");
}

#[tokio::test]
async fn settings_out_of_bounds_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for settings in [
        Settings { trust_domain: "Cluster Local".to_owned(), ..Settings::default() },
        Settings { lifetime: Duration::from_secs(1), ..Settings::default() },
        Settings { root_lifetime: Duration::from_secs(24 * 3600), ..Settings::default() },
    ] {
        let vault = Source::Own(Arc::new(FileVault::new(folder.path())));
        assert!(matches!(Authority::open(settings, vault).await, Err(AuthorityError::Setting(_))));
    }
}
