//! Wires everything: configuration, the live table, listeners, workers, admin, signals, drain.

mod balance;
mod bypass;
mod pods;
mod slots;
mod worker;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_local;

use crate::admin::{self, Admin, Lifecycle, SocketPath};
use crate::allocator;
use crate::config::{Config, Mode};
use crate::controller::{self, State};
use crate::identity::{Agreement, Identities, Keeper, Keys, MutualTls, Whose, follow_identities};
use crate::intercept::{Captured, Inherited, Listeners, Node, Predecessor, Successor, Successors};
use crate::observe::Recorder;
use crate::policy::{self, Followed, Origin, Reloader};

pub(crate) use worker::{Proofs, Worker, Workers};

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
    let captured = (config.mode == Mode::Node).then(Captured::default);
    if let Some((following, state)) = config.controller.clone().zip(state) {
        let captured = captured.as_ref().map(Captured::subscribe);
        controller::start(following, state, &live, reloader.clone(), &recorder, captured)?;
    }
    let identities = config
        .mutual_tls
        .as_ref()
        .map(|_| Identities::new(if config.mode == Mode::Node { Whose::Pods } else { Whose::Own }));
    let inherited = Inherited::default();
    let node = captured.map(|captured| node(config, &inherited, captured)).transpose()?;
    let lifecycle = Arc::new(Lifecycle::new(identities.clone(), node.clone().map(|node| (node, Arc::clone(&live)))));
    let socket = config.admin_socket.clone().map_or(SocketPath::Default, SocketPath::At);
    let seen = Admin {
        live: Arc::clone(&live),
        recorder: recorder.clone(),
        reloader,
        lifecycle: Arc::clone(&lifecycle),
        probes: Arc::new(config.probes.probes()),
    };
    let predecessor = config.handover.as_deref().map(|path| Predecessor::find(path, &inherited)).transpose()?.flatten();
    let ready = Readiness { reloader: seen.reloader.clone(), lifecycle: Arc::clone(&lifecycle) };
    let admin = admin::start(config.admin, &socket, seen, predecessor.is_some().then_some(&inherited))?;
    let keys = Keys::new(config.token_limits.clone());
    let own = config.tokens.iter().map(|accepts| accepts.rule.keys.clone()).collect();
    let keeper = Keeper::start(&keys, own, &live, &recorder);
    let proofs = proofs(config, keys, identities.clone());
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let mut signals = runtime.block_on(async {
        spawn_local(policy::break_glass::tell(Arc::clone(&live), recorder.clone()));
        spawn_local(keeper.follow(Arc::clone(&live)));
        if let Some((config, identities)) = config.mutual_tls.clone().zip(identities) {
            let pods = node.clone().map(|node| pods::served(node, Arc::clone(&live)));
            spawn_local(follow_identities(config.source, identities, pods, recorder.clone()));
        }
        Signals::follow()
    })?;
    let predecessor = match predecessor {
        None => None,
        Some(predecessor) => {
            tracing::info!("the process before serves until this one can judge");
            let ends = async {
                tokio::select! { () = ready.wait() => false, () = signals.end() => true }
            };
            if runtime.block_on(ends) {
                return Ok(());
            }
            take_over(predecessor, &inherited, config, node.as_deref())?
        }
    };
    let listeners = match &node {
        Some(node) => pods::serve(Arc::clone(node), Arc::clone(&live), recorder.for_worker(), Arc::clone(&lifecycle))?,
        None => listeners(config, &inherited, &recorder)?,
    };
    runtime.block_on(async {
        let workers = Workers::start(config.workers, &live, config.limits.clone(), &proofs, &recorder, &listeners)?;
        // Who is ready takes pods, but two processes never do at once.
        let door = || pods::door(config, node.as_ref(), &live);
        let cni = if predecessor.is_none() { door()? } else { None };
        lifecycle.listens();
        if let Some(predecessor) = predecessor
            && let Err(error) = predecessor.retire()
        {
            tracing::warn!(%error, "the process before has not said that it retires");
        }
        let cni = cni.map_or_else(door, |door| Ok(Some(door)))?;
        if let Some(path) = &config.handover {
            let shared = listeners.clone();
            let (lifecycle, node, cni) = (Arc::clone(&lifecycle), node.clone(), cni.clone());
            let retire = move |successor| {
                // Whoever is being handed over is in the file when the next process reads it again.
                cni.iter().for_each(|door| door.close());
                node.iter().for_each(|node| node.retire());
                lifecycle.hand_over(successor);
            };
            Successors::expect(path)?.serve(admin.listener(), move || shared.to_hand_over(), retire)?;
        }
        // What the start needed; this thread hardly works from here on.
        allocator::give_back();
        tracing::info!(mode = ?config.mode, admin = ?admin.tcp(), socket = %admin.socket().display(), "running");
        for address in listeners.addresses() {
            tracing::info!(%address, "accepting");
        }
        tokio::select! {
            () = signals.end() => lifecycle.drain(),
            () = lifecycle.drain_asked() => {}
            () = workers.one_died() => {
                // Whoever it had accepted is cut already; the others would serve half of what comes.
                return Err(io::Error::other("a worker cannot run"));
            }
        }
        tracing::info!(connections = workers.connections(), "draining");
        cni.iter().for_each(|door| door.close());
        let successor = lifecycle.successor();
        match successor {
            None => listeners.close(),
            Some(_) => listeners.release(),
        }
        if successor == Some(Successor::Here) {
            drop(admin);
        }
        if !workers.drain(config.drain).await {
            tracing::warn!(connections = workers.connections(), "cut what did not end in time");
        }
        if successor == Some(Successor::Elsewhere) {
            tracing::info!(
                "waits to be ended: started again, this process would take over from the one that serves now"
            );
            tokio::select! {
                () = signals.end() => {}
                () = tokio::time::sleep(LINGER) => tracing::warn!("nobody has ended this process, so it ends"),
            }
        }
        Ok(())
    })
}

/// How long a process whose successor lives elsewhere waits for its end. Whoever started it would start it again, and so
/// take the traffic back: what a `DaemonSet` needs once its next pod has failed for good, and nobody before.
const LINGER: Duration = Duration::from_secs(600);

/// The signals that end the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn follow() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// One of them has come.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Takes over what the process before has now; `None`: it has ended meanwhile, and so this one starts as ever.
fn take_over(
    predecessor: Predecessor,
    inherited: &Inherited,
    config: &Config,
    node: Option<&Node>,
) -> io::Result<Option<Predecessor>> {
    if let Some((node, cni)) = node.zip(config.cni.as_ref()) {
        // The process before was handed pods meanwhile.
        node.remember(&cni.state)?;
    }
    match predecessor.hand_over(inherited) {
        Ok(listeners) => {
            tracing::info!(listeners, "took over from the process before");
            Ok(Some(predecessor))
        }
        Err(error) => {
            tracing::warn!(%error, "the process before is gone");
            Ok(None)
        }
    }
}

/// What identities are proven with.
fn proofs(config: &Config, keys: Arc<Keys>, identities: Option<Arc<Identities>>) -> Proofs {
    let mutual_tls = config.mutual_tls.as_ref().zip(identities);
    let agreement = config.mutual_tls.as_ref().map(|held| Agreement::new(held.anywhere.clone(), held.takes_downgrades));
    Proofs {
        keys,
        accepts: Arc::clone(&config.tokens),
        mutual_tls: mutual_tls
            .map(|(held, identities)| Arc::new(MutualTls::new(identities, held.port, config.redirected.ports))),
        agreement: Arc::new(agreement.unwrap_or_default()),
    }
}

/// Whether this process could serve.
struct Readiness {
    reloader: Reloader,
    lifecycle: Arc<Lifecycle>,
}

impl Readiness {
    async fn wait(&self) {
        while !self.reloader.status().is_ready() || !self.lifecycle.has_identity() {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// How often a process that is to take over looks whether it can.
const LOOK: Duration = Duration::from_millis(20);

/// The pods of the node. Nothing is done in their namespaces yet.
fn node(config: &Config, inherited: &Inherited, captured: Captured) -> io::Result<Arc<Node>> {
    let node = Node::new(config.redirected.clone(), inherited.clone(), captured);
    if let Some(cni) = &config.cni {
        node.remember(&cni.state)?;
    }
    Ok(Arc::new(node))
}

/// Those of a gateway or a sidecar.
fn listeners(config: &Config, inherited: &Inherited, recorder: &Recorder) -> io::Result<Listeners> {
    match config.gateway {
        Some(gateway) => {
            let hbone = config.mutual_tls.as_ref().and_then(|held| held.listen);
            Listeners::gateway(gateway.listen, gateway.upstream, hbone, inherited)
        }
        None => {
            bypass::of_sidecar(recorder)?;
            Listeners::sidecar(config.redirected.ports, config.redirected.family, inherited)
        }
    }
}
