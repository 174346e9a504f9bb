//! The certificate authority: whoever can prove to be a pod gets that pod's X.509-SVID, and no other name.
//!
//! [`Authority`] holds the roots and signs; [`Vault`] is where its own roots are kept; a root is replaced with overlap:
//! first it is only told, then it signs, and the old one is forgotten when nothing that it signed is left.

mod leaf;
mod publish;
mod root;
mod secret;
mod server;
mod service;
mod signer;
mod vault;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use rustls::pki_types::CertificateDer;

pub use leaf::{SignError, Signed, SpiffeId};
pub(crate) use publish::publish;
pub(crate) use secret::SecretVault;
pub use server::ServerCertificate;
pub(crate) use service::Certificates;
pub use vault::{Answer, FileVault, Found, Kept, Vault, VaultError};

use crate::metrics::Metrics;

use root::Roots;
use signer::Signer;

/// Settings of the authority.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The SPIFFE trust domain.
    pub trust_domain: String,
    /// How long a certificate of a workload is good.
    pub lifetime: Duration,
    /// How long a root of its own is good; it is replaced after two thirds of that.
    pub root_lifetime: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            trust_domain: "cluster.local".to_owned(),
            lifetime: Duration::from_secs(24 * 3600),
            root_lifetime: Duration::from_secs(365 * 24 * 3600),
        }
    }
}

/// Where the key that signs comes from.
#[derive(Clone)]
pub enum Source {
    /// Roots of its own, made here.
    Own(Arc<dyn Vault>),
    /// Files that somebody else keeps, read again each time: a mounted Secret.
    Given {
        /// The certificate that signs and what leads from it to a root, PEM.
        certificate: PathBuf,
        /// Its key, PEM.
        key: PathBuf,
        /// The roots, PEM; those in `certificate` where it is left out.
        bundle: Option<PathBuf>,
    },
}

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Its roots cannot be kept.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A certificate or key cannot be used.
    #[error("{what}: {why}")]
    Unusable {
        /// Which.
        what: String,
        /// Why.
        why: String,
    },
    /// A setting is out of its bounds.
    #[error("{0}")]
    Setting(String),
}

/// Signs, with what is in force now.
pub struct Authority {
    settings: Settings,
    source: Source,
    signer: ArcSwap<Signer>,
}

impl Authority {
    /// Reads what is there, or makes the first root.
    ///
    /// # Errors
    /// There is nothing to sign with.
    pub async fn open(settings: Settings, source: Source) -> Result<Arc<Self>, AuthorityError> {
        leaf::check_domain(&settings.trust_domain).map_err(AuthorityError::Setting)?;
        if settings.lifetime < Duration::from_secs(60) || settings.root_lifetime < settings.lifetime * 6 {
            let text = "certificates live a minute at least, and a root six times as long as what it signs";
            return Err(AuthorityError::Setting(text.to_owned()));
        }
        let signer = load(&settings, &source, now(), false).await?;
        Ok(Arc::new(Self { settings, source, signer: ArcSwap::from_pointee(signer) }))
    }

    /// Reads again, and replaces a root whose time has come. What is in force stays if that fails.
    ///
    /// # Errors
    /// Why it failed.
    pub async fn turn(&self, now: i64) -> Result<(), AuthorityError> {
        let signer = load(&self.settings, &self.source, now, false).await?;
        self.signer.store(Arc::new(signer));
        Ok(())
    }

    /// Begins to replace the root now, whatever its age.
    ///
    /// # Errors
    /// Why it failed.
    pub async fn rotate(&self, now: i64) -> Result<(), AuthorityError> {
        let signer = load(&self.settings, &self.source, now, true).await?;
        self.signer.store(Arc::new(signer));
        Ok(())
    }

    /// Turns every so often, as long as the process runs.
    pub async fn keep(self: Arc<Self>, metrics: Arc<Metrics>) {
        let often = (self.settings.lifetime / 24).min(Duration::from_secs(600));
        loop {
            metrics.root_ends(self.signer.load().not_after);
            tokio::time::sleep(often).await;
            if let Err(error) = self.turn(now()).await {
                tracing::error!(%error, "the authority goes on with the root that it has");
            }
        }
    }

    /// What a peer's certificate may lead to.
    #[must_use]
    pub fn bundle(&self) -> Vec<CertificateDer<'static>> {
        self.signer.load().bundle.clone()
    }

    /// The same as PEM.
    #[must_use]
    pub fn bundle_pem(&self) -> String {
        let pem = |one: &CertificateDer<'_>| pem::encode(&pem::Pem::new("CERTIFICATE", one.to_vec()));
        self.signer.load().bundle.iter().map(pem).collect()
    }

    /// The SPIFFE id of an account.
    #[must_use]
    pub fn id(&self, namespace: &str, account: &str) -> SpiffeId {
        SpiffeId::new(&self.settings.trust_domain, namespace, account)
    }

    /// A certificate for the key of a request (PKCS #10), whatever else the request asks for.
    ///
    /// # Errors
    /// The request is none, or its key is of the wrong kind.
    pub fn sign(&self, request: &[u8], id: &SpiffeId, now: i64) -> Result<Signed, SignError> {
        leaf::workload(&self.signer.load(), request, id, (now, self.settings.lifetime))
    }
}

async fn load(settings: &Settings, source: &Source, now: i64, force: bool) -> Result<Signer, AuthorityError> {
    match source {
        Source::Own(vault) => own(settings, &**vault, now, force).await,
        Source::Given { certificate, key, bundle } => Signer::given(certificate, key, bundle.as_deref()),
    }
}

async fn own(settings: &Settings, vault: &dyn Vault, now: i64, force: bool) -> Result<Signer, AuthorityError> {
    for _ in 0..ATTEMPTS {
        let found = vault.load().await?;
        let (roots, revision) = match found {
            Some(Found { kept, revision }) => (Roots::read(&kept)?, Some(revision)),
            None => (Roots::default(), None),
        };
        let Some(next) = roots.next(settings, now, force)? else { return roots.signer(now) };
        match vault.store(next.written()?, revision).await {
            Ok(()) => {
                tracing::info!(roots = next.count(), "the authority has a new root");
                return next.signer(now);
            }
            // Another replica was first: what it made counts.
            Err(VaultError::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(VaultError::Conflict.into())
}

/// Seconds since the epoch.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Replicas that start together.
const ATTEMPTS: usize = 5;

#[cfg(test)]
mod tests;
