//! Wires everything: the source, the compiler, statuses, webhooks, admin, signals.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admin::Admin;
use crate::cluster::Store;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::policies::Policies;
use crate::status::{self, Inputs, Programmed};
use crate::uncovered::{self, Uncovered};
use crate::webhook::{Identity, Sidecars, Webhooks, certificate};
use crate::{kubernetes, lease, replicas, serve, slices};

/// Runs the controller until a signal ends it.
///
/// # Errors
/// What it cannot go on without.
pub async fn run(config: &Config) -> Result<(), String> {
    let cluster = kube::Config::infer().await.map_err(|error| {
        format!("the API server is not known: {error}\nrun it in a pod with a service account, or set KUBECONFIG")
    })?;
    let namespace = config.namespace.clone().unwrap_or_else(|| cluster.default_namespace.clone());
    let client = Client::try_from(cluster).map_err(|error| format!("the API server cannot be called: {error}"))?;
    let metrics = Arc::new(Metrics::new().map_err(|error| error.to_string())?);
    let (store, identity) = (Arc::new(Store::default()), Arc::new(Identity::default()));
    let policies = Arc::new(Policies::new(Arc::clone(&metrics)));
    let (leader, leads) = watch::channel(false);
    let (ending, ends) = watch::channel(false);
    let (proxies, own) = watch::channel(Programmed::default());
    let (all, programmed) = watch::channel(Programmed::default());

    let admin = bind("--admin", config.admin).await?;
    let webhook = bind("--webhook", config.webhook).await?;
    let follow = bind("--proxies", config.proxies.address).await?;
    let acceptor = certificate::acceptor(Arc::clone(&identity)).map_err(|error| error.to_string())?;
    let mut tasks = JoinSet::new();
    tasks.spawn(kubernetes::follow(client.clone(), Arc::clone(&store), Arc::clone(&metrics)));
    let told = Admin {
        store: Arc::clone(&store),
        metrics: Arc::clone(&metrics),
        webhook: Arc::clone(&identity),
        ends: ends.clone(),
    };
    tasks.spawn(endless("the admin server", serve::serve(admin, None, told)));
    let sidecars = Sidecars::new(config.injector_settings.clone())?;
    let webhooks = Webhooks::new(Arc::clone(&store), Arc::clone(&policies), sidecars, Arc::clone(&metrics));
    tasks.spawn(endless("the webhooks", serve::serve(webhook, Some(acceptor), webhooks)));
    match config.files() {
        Some(files) => tasks.spawn(endless("the certificate", certificate::follow(files, identity))),
        None => {
            let keeper = config.keeper(&namespace);
            tasks.spawn(endless("the certificate", certificate::keep(client.clone(), keeper, identity, leads.clone())))
        }
    };
    tasks.spawn({
        let (client, store) = (client.clone(), Arc::clone(&store));
        let (flags, namespace) = (config.proxies.clone(), namespace.clone());
        let told = (proxies, Arc::clone(&metrics));
        async move {
            let served = slices::serve(client, store, (&flags, &namespace), follow, told).await;
            served.map(|never| match never {})
        }
    });
    let told = replicas::Ends { own, all, leads: leads.clone(), metrics: Arc::clone(&metrics), ending: ends.clone() };
    let mut exchange = tokio::spawn(replicas::exchange(client.clone(), config.telling(&namespace), told));
    let (told, uncovered) = watch::channel(Uncovered::new());
    let looks = config.looks(&namespace);
    tasks.spawn(endless("the look for pods without a proxy", {
        uncovered::look(Arc::clone(&store), programmed.clone(), looks, told)
    }));
    let inputs = Inputs { store, policies, programmed, uncovered, leads, metrics: Arc::clone(&metrics) };
    tasks.spawn(endless("the statuses", status::write(client.clone(), inputs)));
    let campaign = lease::campaign(client, config.candidate(&namespace), leader, metrics, ends);
    let mut campaign = tokio::spawn(campaign);

    let failed = |error: std::io::Error| format!("signals cannot be heard: {error}");
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    tracing::info!(namespace, admin = %config.admin, webhook = %config.webhook, "running");
    let outcome = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        _ = &mut campaign => return Err("the campaign for the lease has ended".to_owned()),
        _ = &mut exchange => return Err("the exchange with the other replicas has ended".to_owned()),
        ended = tasks.join_next() => match ended {
            Some(Ok(Err(problem))) => Err(problem),
            Some(Err(error)) => Err(error.to_string()),
            Some(Ok(Ok(()))) | None => Err("a part has ended".to_owned()),
        },
    };
    tracing::info!("ending");
    // Whoever wrote stops before another may.
    ending.send_replace(true);
    if let Err(error) = campaign.await {
        tracing::warn!(%error, "the lease was not given back");
    }
    if let Err(error) = exchange.await {
        tracing::warn!(%error, "the entry of this replica was not taken out");
    }
    if outcome.is_ok() {
        // The API server may call until it knows that this replica is gone.
        tokio::time::sleep(LINGER).await;
    }
    outcome
}

async fn bind(flag: &str, address: std::net::SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| format!("{flag} {address}: {error}"))
}

/// A part that never ends by itself.
async fn endless(part: &str, work: impl Future<Output = ()>) -> Result<(), String> {
    work.await;
    Err(format!("{part}: it has ended"))
}

/// How long webhooks are answered after the signal to end.
const LINGER: Duration = Duration::from_secs(3);
