//! Wires everything: configuration, the live table, workers, admin, signals, drain.

mod slots;
mod worker;

use std::io;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use crate::admin::{self, Admin, Lifecycle, SocketPath};
use crate::config::{AccessLog, Config, Mode};
use crate::intercept::Listeners;
use crate::observe::{Destination, Recorder};
use crate::policy::{self, Origin};

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
    let origin = Origin {
        policies: config.policy.clone(),
        workloads: config.workloads.clone(),
        start_closed: config.start_closed,
    };
    let (live, reloader) = policy::start(origin, recorder.clone())?;
    let lifecycle = Arc::new(Lifecycle::default());
    let socket = config.admin_socket.clone().map_or(SocketPath::Default, SocketPath::At);
    let seen = Admin {
        live: Arc::clone(&live),
        recorder: recorder.clone(),
        reloader: reloader.clone(),
        lifecycle: Arc::clone(&lifecycle),
    };
    let admin = admin::start(config.admin, &socket, seen)?;
    tracing::info!(socket = %admin.socket().display(), tcp = ?admin.tcp(), "admin");
    let listeners = listeners(&config)?;
    let workers = Workers::start(config.workers, &live, config.limits.clone(), &recorder, &listeners)?;
    for address in listeners.addresses() {
        tracing::info!(%address, mode = ?config.mode, "accepting");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        lifecycle.listens();
        // SIGHUP is the admin server's: it reloads, and opens the access log again.
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = lifecycle.drain_asked() => {}
        }
        // Readiness says so while the last requests end.
        lifecycle.drain();
        tracing::info!(connections = workers.connections(), "draining");
        if !workers.drain(config.drain).await {
            tracing::warn!(connections = workers.connections(), "cut what did not end in time");
        }
        Ok(())
    })
}

fn listeners(config: &Config) -> io::Result<Listeners> {
    match (config.mode, config.gateway) {
        (Mode::Gateway, Some(gateway)) => Listeners::gateway(gateway.listen, gateway.upstream),
        (mode, _) => Err(io::Error::other(format!("mode {mode:?} is not there yet"))),
    }
}
