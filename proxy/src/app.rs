//! Wires everything: configuration, the live table, workers, admin, signals, drain.

mod slots;
mod worker;

use std::io;
use std::sync::Arc;

use eastwall_policy::dialect;
use eastwall_policy::registry::Registry;
use eastwall_policy::source;
use eastwall_policy::world::World;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{AccessLog, Config, Mode};
use crate::intercept::Listeners;
use crate::observe::{Destination, Recorder};
use crate::policy::Live;

pub(crate) use worker::{Worker, Workers};

/// Runs the data plane until a signal ends it.
pub(crate) fn run(config: Config) -> io::Result<()> {
    let destination = match &config.access_log {
        AccessLog::Off => Destination::Off,
        AccessLog::Stdout => Destination::Stdout,
        AccessLog::File(path) => Destination::File(path.clone()),
    };
    // The writer's thread ends, and with it the last line is written, when this is dropped.
    let (recorder, _log) = Recorder::start(destination)?;
    let live = first_world(&config, &recorder)?;
    let listeners = listeners(&config)?;
    let workers = Workers::start(config.workers, &live, config.limits.clone(), &recorder, &listeners)?;
    for address in listeners.addresses() {
        tracing::info!(%address, mode = ?config.mode, "accepting");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => recorder.reopen_log(),
            }
        }
        tracing::info!(connections = workers.connections(), "draining");
        if !workers.drain(config.drain).await {
            tracing::warn!(connections = workers.connections(), "cut what did not end in time");
        }
        Ok(())
    })
}

fn first_world(config: &Config, recorder: &Recorder) -> io::Result<Arc<Live>> {
    let compiled = dialect::compile(&source::read(&config.policy));
    for diagnostic in &compiled.diagnostics {
        tracing::warn!("{}: {}", diagnostic.location, diagnostic.message);
    }
    let registry = match &config.workloads {
        Some(path) => Registry::read(path).0,
        None => Registry::default(),
    };
    let world = World::new(compiled.model, Arc::new(registry), 1);
    Ok(Arc::new(Live::new(Arc::new(world), recorder.metrics().revocation_seconds())))
}

fn listeners(config: &Config) -> io::Result<Listeners> {
    match (config.mode, config.gateway) {
        (Mode::Gateway, Some(gateway)) => Listeners::gateway(gateway.listen, gateway.upstream),
        (mode, _) => Err(io::Error::other(format!("mode {mode:?} is not there yet"))),
    }
}
