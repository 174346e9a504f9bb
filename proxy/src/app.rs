//! Wires everything: configuration, the live table, listeners, workers, admin, signals, drain.

mod balance;
mod bypass;
mod pods;
mod slots;
mod worker;

use std::io;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use crate::admin::{self, Admin, Lifecycle, SocketPath};
use crate::config::{Config, Mode};
use crate::controller::{self, State};
use crate::identity::{Keeper, Keys};
use crate::intercept::{Listeners, Node};
use crate::observe::Recorder;
use crate::policy::{self, Followed, Live, Origin};

pub(crate) use worker::{Worker, Workers};

/// Runs the data plane until a signal, or `POST /drain`, ends it.
pub(crate) fn run(config: &Config) -> io::Result<()> {
    // The writer's thread ends, and with it the last line is written, when this is dropped.
    let (recorder, _log) = Recorder::start(config.access_log.clone())?;
    let state = config.controller.as_ref().map(|following| State::open(&following.state)).transpose()?;
    let followed = config.controller.as_ref().zip(state.as_ref()).map(|(following, state)| Followed {
        node: following.node.clone(),
        is_silent: state.silence().is_none_or(|silence| silence > following.max_staleness),
    });
    let origin = Origin {
        policies: config.policy.clone(),
        workloads: config.workloads.clone(),
        upstream: config.gateway.map(|gateway| gateway.upstream),
        start_closed: config.start_closed,
        bounds: config.reading,
        controller: followed,
    };
    if !config.start_closed {
        tracing::warn!("--start-closed=false: until a good table was read, EVERYTHING PASSES; nothing else fails open");
    }
    let (live, reloader) = policy::start(origin, &recorder)?;
    if let Some((following, state)) = config.controller.clone().zip(state) {
        controller::start(following, state, &live, reloader.clone(), &recorder)?;
    }
    let lifecycle = Arc::new(Lifecycle::default());
    let socket = config.admin_socket.clone().map_or(SocketPath::Default, SocketPath::At);
    let seen =
        Admin { live: Arc::clone(&live), recorder: recorder.clone(), reloader, lifecycle: Arc::clone(&lifecycle) };
    let admin = admin::start(config.admin, &socket, seen)?;
    let listeners = listeners(config, &live, &recorder, &lifecycle)?;
    let keys = Keys::new(config.token_limits.clone());
    let own = config.tokens.iter().map(|accepts| accepts.rule.keys.clone()).collect();
    Keeper::start(&keys, own, &live, &recorder)?;
    let (tokens, limits) = ((&keys, &config.tokens), config.limits.clone());
    let workers = Workers::start(config.workers, &live, limits, tokens, &recorder, &listeners)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        lifecycle.listens();
        tracing::info!(mode = ?config.mode, admin = ?admin.tcp(), socket = %admin.socket().display(), "running");
        for address in listeners.addresses() {
            tracing::info!(%address, "accepting");
        }
        tokio::select! {
            _ = terminate.recv() => lifecycle.drain(),
            _ = interrupt.recv() => lifecycle.drain(),
            () = lifecycle.drain_asked() => {}
            () = workers.one_died() => {
                // Whoever it had accepted is cut already; the others would serve half of what comes.
                return Err(io::Error::other("a worker cannot run"));
            }
        }
        tracing::info!(connections = workers.connections(), "draining");
        listeners.close();
        if !workers.drain(config.drain).await {
            tracing::warn!(connections = workers.connections(), "cut what did not end in time");
        }
        Ok(())
    })
}

fn listeners(
    config: &Config,
    live: &Arc<Live>,
    recorder: &Recorder,
    lifecycle: &Arc<Lifecycle>,
) -> io::Result<Listeners> {
    match (config.mode, config.gateway) {
        (Mode::Gateway, Some(gateway)) => Listeners::gateway(gateway.listen, gateway.upstream),
        (Mode::Gateway, None) => Err(io::Error::other("gateway mode needs a listener and an upstream")),
        (Mode::Sidecar, _) => {
            bypass::of_sidecar(recorder)?;
            Listeners::sidecar(config.redirected.ports, config.redirected.family)
        }
        (Mode::Node, _) => pods::serve(
            Node::new(config.redirected.clone()),
            Arc::clone(live),
            recorder.for_worker(),
            Arc::clone(lifecycle),
        ),
    }
}
