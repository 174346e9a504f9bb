//! What serves the proxies, as the command line says.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;

use super::endpoint::Endpoint;
use super::fleet::Fleet;
use super::settings::Settings;
use crate::authority::{self, Authority, SecretVault, ServerCertificate, Source, publish};
use crate::cluster::Store;
use crate::metrics::Metrics;
use crate::status::Programmed;

/// How proxies are served.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Proxies")]
pub(crate) struct Flags {
    /// Address at which proxies follow
    #[arg(long = "proxies", value_name = "ADDRESS", default_value = "[::]:15012")]
    pub(crate) address: SocketAddr,
    /// Name that the certificate shown to proxies is for; may be given several times
    /// [default: eastwall-controller.NAMESPACE.svc]
    #[arg(long = "proxies-name", value_name = "NAME")]
    names: Vec<String>,
    /// Service account whose pods may serve all pods of their node; may be given several times
    /// [default: NAMESPACE/eastwall-node]
    #[arg(long, value_name = "NAMESPACE/NAME")]
    node_account: Vec<String>,
    /// SPIFFE trust domain of the certificates
    #[arg(long, value_name = "NAME", default_value = "cluster.local")]
    trust_domain: String,
    /// Seconds that a certificate of a workload is good
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400, value_parser = clap::value_parser!(u32).range(60..=7_776_000))]
    certificate_lifetime: u32,
    /// Seconds that a root is good which the controller makes
    #[arg(long, value_name = "SECONDS", default_value_t = 31_536_000, value_parser = clap::value_parser!(u32).range(360..))]
    root_lifetime: u32,
    /// Secret that keeps the roots which the controller makes
    #[arg(long, value_name = "NAME", default_value = "eastwall-authority")]
    ca_secret: String,
    /// ConfigMap that tells the roots, as `ca.crt`: in the controller's namespace, in those of node proxies, and wherever
    /// pods get a sidecar
    #[arg(long, value_name = "NAME", default_value = "eastwall-controller-ca")]
    ca_configmap: String,
    /// Certificate that signs, PEM, and what leads from it to a root, instead of a root that the controller makes; read
    /// anew when it changes
    #[arg(long, value_name = "FILE", requires = "ca_key")]
    ca_cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "ca_cert")]
    ca_key: Option<PathBuf>,
    /// The roots, PEM [default: those in --ca-cert]
    #[arg(long, value_name = "FILE", requires = "ca_cert")]
    ca_bundle: Option<PathBuf>,
    /// Connections of proxies at once
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    max_connections: u32,
    /// Calls that one address may make at once
    #[arg(long, value_name = "N", default_value = "512")]
    calls: NonZeroU32,
    /// Calls that one address gets back each second
    #[arg(long, value_name = "N", default_value = "16")]
    calls_per_second: NonZeroU32,
    /// Seconds between heartbeats to a proxy
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=15))]
    heartbeat: u32,
}

impl Flags {
    fn settings(&self, namespace: &str) -> Settings {
        Settings {
            node_accounts: self.accounts(namespace),
            connections: usize::try_from(self.max_connections).unwrap_or(usize::MAX),
            calls: self.calls,
            calls_per_second: self.calls_per_second,
            heartbeat: seconds(self.heartbeat),
            ..Settings::default()
        }
    }

    /// Whose pods may serve a node.
    pub(crate) fn accounts(&self, namespace: &str) -> Vec<String> {
        let own = || vec![format!("{namespace}/eastwall-node")];
        if self.node_account.is_empty() { own() } else { self.node_account.clone() }
    }

    fn authority(&self) -> authority::Settings {
        authority::Settings {
            trust_domain: self.trust_domain.clone(),
            lifetime: seconds(self.certificate_lifetime),
            root_lifetime: seconds(self.root_lifetime),
        }
    }

    fn source(&self, client: &kube::Client, namespace: &str) -> Source {
        match (self.ca_cert.clone(), self.ca_key.clone()) {
            (Some(certificate), Some(key)) => Source::Given { certificate, key, bundle: self.ca_bundle.clone() },
            _ => Source::Own(Arc::new(SecretVault::new(client.clone(), namespace, &self.ca_secret))),
        }
    }

    fn names(&self, namespace: &str) -> Vec<String> {
        let own = || vec![format!("eastwall-controller.{namespace}.svc")];
        if self.names.is_empty() { own() } else { self.names.clone() }
    }
}

/// Serves until it cannot go on, which the error says.
pub(crate) async fn serve(
    client: kube::Client,
    store: Arc<Store>,
    (flags, namespace): (&Flags, &str),
    listener: TcpListener,
    (proxies, metrics): (watch::Sender<Programmed>, Arc<Metrics>),
) -> Result<Infallible, String> {
    let authority = authority(flags, &client, namespace).await?;
    tokio::spawn(Arc::clone(&authority).keep(Arc::clone(&metrics)));
    let accounts = flags.accounts(namespace);
    let homes = accounts.iter().filter_map(|account| account.split_once('/')).map(|(home, _)| home).chain([namespace]);
    let told = (homes.map(Arc::from).collect(), flags.ca_configmap.clone());
    tokio::spawn(publish(Arc::clone(&authority), client.clone(), Arc::clone(&store), told));
    let tls = ServerCertificate::start(&authority, flags.names(namespace)).map_err(|error| error.to_string())?;
    let settings = flags.settings(namespace);
    let endpoint = Endpoint::new(&store, Arc::new(client), authority, settings, Arc::clone(&metrics));
    tokio::spawn(tell(Arc::clone(endpoint.fleet()), proxies, metrics));
    tracing::info!(address = %flags.address, "proxies may follow");
    let served = endpoint.serve(listener, tls, std::future::pending()).await;
    Err(format!("--proxies {}: {}", flags.address, served.err().map_or_else(String::new, |error| error.to_string())))
}

/// The API server may be away for a while; what is wrong with the command line stays wrong.
async fn authority(flags: &Flags, client: &kube::Client, namespace: &str) -> Result<Arc<Authority>, String> {
    loop {
        match Authority::open(flags.authority(), flags.source(client, namespace)).await {
            Ok(authority) => return Ok(authority),
            Err(error @ authority::AuthorityError::Setting(_)) => return Err(error.to_string()),
            Err(error) => tracing::error!(%error, "no proxy is served: there is no authority yet"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Tells how far the proxies that follow here have come.
async fn tell(fleet: Arc<Fleet>, proxies: watch::Sender<Programmed>, metrics: Arc<Metrics>) {
    let (mut changes, mut directory) = (fleet.follow(), fleet.directory());
    loop {
        metrics.proxies(fleet.counts());
        let programmed = fleet.programmed();
        proxies.send_if_modified(|held| {
            let differs = *held != programmed;
            *held = programmed;
            differs
        });
        // Acknowledgements come in by the hundred.
        tokio::time::sleep(QUIET).await;
        let changed = tokio::select! {
            changed = changes.changed() => changed,
            changed = directory.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

fn seconds(number: u32) -> Duration {
    Duration::from_secs(number.into())
}

const AGAIN: Duration = Duration::from_secs(2);
const QUIET: Duration = Duration::from_millis(500);
