//! Identities from a folder: `tls.crt`, `tls.key` and `ca.crt`, as Kubernetes' Secrets and cert-manager name them; for a
//! node one folder a service account, `NAMESPACE/ACCOUNT/`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;

use super::identities::Whose;
use super::peer::{self, PeerRefused};
use super::source::Material;
use super::svid::KeyPair;

/// Authorities of another trust domain, `TRUST_DOMAIN=FILE`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Bundle {
    pub(super) domain: String,
    pub(super) file: PathBuf,
}

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("`{}`: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("`{}`: {source}: PEM is expected", path.display())]
    Pem { path: PathBuf, source: pem::Error },
    #[error("`{}`: {source}", path.display())]
    Certificate { path: PathBuf, source: PeerRefused },
}

impl FromStr for Bundle {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` names no authorities: write `TRUST_DOMAIN=FILE`");
        let (domain, file) = text.split_once('=').ok_or_else(wrong)?;
        let domain = spiffe::TrustDomain::new(domain).map_err(|error| format!("`{domain}`: {error}"))?;
        if file.is_empty() {
            return Err(wrong());
        }
        Ok(Self { domain: domain.as_str().to_owned(), file: file.into() })
    }
}

impl TryFrom<String> for Bundle {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Reads everything. What is wrong with one identity is no reason to be without the others.
pub(super) fn read(folder: &Path, whose: Whose, bundles: &[Bundle]) -> (Material, Vec<Failure>) {
    let mut material = Material::default();
    let mut failures = Vec::new();
    let folders = match whose {
        Whose::Own => vec![folder.to_owned()],
        Whose::Pods => subfolders(folder).iter().flat_map(|namespace| subfolders(namespace)).collect(),
    };
    for own in folders {
        let authorities = own.join("ca.crt");
        let authorities = if authorities.exists() { authorities } else { folder.join("ca.crt") };
        if let Err(failure) = identity(&own, &authorities, &mut material) {
            failures.push(failure);
        }
    }
    for Bundle { domain, file } in bundles {
        let taken = certificates(file).and_then(|read| {
            material.trust.add(domain, &read).map_err(|source| Failure::Certificate { path: file.clone(), source })
        });
        failures.extend(taken.err());
    }
    (material, failures)
}

fn identity(folder: &Path, authorities: &Path, material: &mut Material) -> Result<(), Failure> {
    let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
    let chain = certificates(&certificate)?;
    let id = chain.first().ok_or(PeerRefused::NoCertificate).and_then(peer::spiffe_id);
    let id = id.map_err(|source| Failure::Certificate { path: certificate, source })?;
    let key = PrivateKeyDer::from_pem_slice(&bytes(&key)?).map_err(|source| Failure::Pem { path: key, source })?;
    material
        .trust
        .add(id.trust_domain_name(), &certificates(authorities)?)
        .map_err(|source| Failure::Certificate { path: authorities.to_owned(), source })?;
    material.pairs.push((folder.display().to_string(), KeyPair { chain, key }));
    Ok(())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let text = bytes(path)?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match read {
        Ok(read) if read.is_empty() => {
            Err(Failure::Certificate { path: path.to_owned(), source: PeerRefused::NoCertificate })
        }
        Ok(read) => Ok(read),
        Err(source) => Err(Failure::Pem { path: path.to_owned(), source }),
    }
}

fn bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|source| Failure::Io { path: path.to_owned(), source })
}

/// Without those that Kubernetes keeps for itself (`..data`).
fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."))
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    found.sort();
    found
}
