//! The certificate that the webhooks show: issued by the controller itself and kept in a Secret that all replicas share,
//! or read from files that somebody else renews.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

mod files;
mod issue;
mod secret;

pub(crate) use files::{Files, follow};
pub(crate) use secret::{Keeper, keep};

/// What handshakes are answered with, the newest that is good.
#[derive(Debug, Default)]
pub(crate) struct Identity {
    held: ArcSwapOption<CertifiedKey>,
}

impl Identity {
    /// Whether there is one.
    pub(crate) fn is_there(&self) -> bool {
        self.held.load().is_some()
    }

    /// Takes a chain and its key, both PEM.
    ///
    /// # Errors
    /// What is wrong with them; the one before stays.
    fn put(&self, chain: &[u8], key: &[u8]) -> Result<(), String> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
        let chain = chain.map_err(|error| format!("the certificate is not PEM: {error}"))?;
        if chain.is_empty() {
            return Err("there is no certificate".to_owned());
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("the key is not PEM: {error}"))?;
        let certified = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider());
        let certified = certified.map_err(|error| format!("certificate and key do not fit: {error}"))?;
        self.held.store(Some(Arc::new(certified)));
        Ok(())
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.held.load_full()
    }
}

/// Accepts TLS with this identity.
///
/// # Errors
/// The TLS library lacks what it needs.
pub(crate) fn acceptor(identity: Arc<Identity>) -> Result<TlsAcceptor, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(identity);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::issue::issue;
    use super::*;

    #[test]
    fn what_does_not_fit_leaves_the_one_before() {
        let now = jiff::Timestamp::now();
        let (one, other) = (issue(&["a".to_owned()], now).unwrap(), issue(&["a".to_owned()], now).unwrap());
        let identity = Identity::default();
        assert!(identity.put(b"", one.key.as_bytes()).is_err() && !identity.is_there());
        identity.put(one.chain.as_bytes(), one.key.as_bytes()).unwrap();
        let held = identity.held.load_full().unwrap();
        for (chain, key) in [(&one.chain, &other.key), (&String::new(), &one.key), (&one.chain, &String::new())] {
            assert!(identity.put(chain.as_bytes(), key.as_bytes()).is_err());
        }
        assert!(Arc::ptr_eq(&held, &identity.held.load_full().unwrap()));
        identity.put(other.chain.as_bytes(), other.key.as_bytes()).unwrap();
        assert!(!Arc::ptr_eq(&held, &identity.held.load_full().unwrap()));
    }
}
