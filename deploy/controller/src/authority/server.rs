//! The certificate of the controller's own server, from the same authority, renewed while it serves.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{Authority, AuthorityError, leaf, now};

/// Answers handshakes with the certificate in force.
pub struct ServerCertificate {
    authority: Arc<Authority>,
    names: Vec<String>,
    held: ArcSwapOption<CertifiedKey>,
}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCertificate").field("names", &self.names).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.held.load_full()
    }
}

impl ServerCertificate {
    /// One for these DNS names, renewed at half of its life as long as the process runs.
    ///
    /// # Errors
    /// The authority cannot sign it.
    pub fn start(authority: &Arc<Authority>, names: Vec<String>) -> Result<Arc<ServerConfig>, AuthorityError> {
        let server = Arc::new(Self { authority: Arc::clone(authority), names, held: ArcSwapOption::empty() });
        server.renew().map_err(|why| unusable(&why))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| unusable(&error))?;
        let mut config = config.with_no_client_auth().with_cert_resolver(Arc::<Self>::clone(&server));
        config.alpn_protocols = vec![b"h2".to_vec()];
        let half = authority.settings.lifetime / 2;
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(half.min(Duration::from_secs(3600))).await;
                if let Err(error) = server.renew() {
                    tracing::error!(error, "the server's certificate is not renewed");
                }
            }
        });
        Ok(Arc::new(config))
    }

    fn renew(&self) -> Result<(), String> {
        let signer = self.authority.signer.load();
        let lifetime = self.authority.settings.lifetime;
        let signed = leaf::server(&signer, &self.names, now(), lifetime).map_err(|error| error.to_string())?;
        let (signed, key) = signed;
        let key = PrivateKeyDer::try_from(key.serialize_der())?;
        let key = aws_lc_rs::sign::any_supported_type(&key).map_err(|error| error.to_string())?;
        self.held.store(Some(Arc::new(CertifiedKey::new(signed.chain, key))));
        Ok(())
    }
}

fn unusable(why: &impl ToString) -> AuthorityError {
    AuthorityError::Unusable { what: "the certificate of the server".to_owned(), why: why.to_string() }
}
