//! Workers: each one thread with a current-thread runtime, that accepts from every listener and keeps what it accepts,
//! unless another has clearly less to do.

use std::io;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use eastwall_policy::facts::Direction;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, mpsc, watch};

use super::balance::{Balance, Kept};
use super::slots::{Full, Slot, Slots};
use crate::config::Limits;
use crate::identity::{Accepts, Agreement, Keys, MutualTls, Verifier};
use crate::intercept::{Accepted, Acceptor, Listeners, Refused, TurnedAway};
use crate::observe::{Alert, AlertKind, Limit, Recorder};
use crate::policy::{Live, News};
use crate::stream::ByteStream;
use crate::{connection, hbone, http1, http2};

/// What the connections of one worker share. Nothing in it is shared with another worker but the world in force and
/// the counts of connections.
#[derive(Debug)]
pub(crate) struct Worker {
    /// The world in force.
    pub(crate) live: Arc<Live>,
    /// Tells its connections of the next one.
    pub(crate) news: Rc<News>,
    /// Every bound.
    pub(crate) limits: Arc<Limits>,
    /// Where verdicts are told.
    pub(crate) recorder: Recorder,
    /// Becomes true when the process is to end.
    pub(crate) drain: watch::Receiver<bool>,
    /// Idle HTTP/1 connections to upstreams.
    pub(crate) http1: http1::Pool,
    /// HTTP/2 connections to upstreams.
    pub(crate) http2: http2::Pool,
    /// Connections of HBONE to other proxies.
    pub(crate) hbone: hbone::Pool,
    /// Verifies the tokens of requests.
    pub(crate) tokens: Verifier,
    /// What HBONE needs; `None`: there is none.
    pub(crate) mutual_tls: Option<Arc<MutualTls>>,
    /// Whether proof and place agree.
    pub(crate) agreement: Arc<Agreement>,
    slots: Arc<Slots>,
    balance: Arc<Balance>,
    /// All workers, in order.
    others: Arc<[mpsc::UnboundedSender<Handed>]>,
    /// Which of them it is.
    number: usize,
}

/// What identities are proven with.
#[derive(Clone, Debug)]
pub(crate) struct Proofs {
    /// Keys of tokens.
    pub(crate) keys: Arc<Keys>,
    /// Whose tokens native rules believe.
    pub(crate) accepts: Arc<[Accepts]>,
    /// What HBONE needs.
    pub(crate) mutual_tls: Option<Arc<MutualTls>>,
    /// Whether proof and place agree.
    pub(crate) agreement: Arc<Agreement>,
}

/// One connection's places: of the process, and of the worker that keeps it.
#[derive(Debug)]
struct Places {
    _slot: Slot,
    kept: Kept,
}

/// A connection on its way to the worker that is to keep it. Its slot bounds how many there are.
type Handed = (Accepted<std::net::TcpStream>, Places);

/// All workers of the process.
#[derive(Debug)]
pub(crate) struct Workers {
    drain: watch::Sender<bool>,
    slots: Arc<Slots>,
    died: Arc<Notify>,
    #[cfg(test)]
    balance: Arc<Balance>,
}

/// Tells when a worker's thread ends, by an error or a panic: none does while the process lives.
#[derive(Debug)]
struct Alive(Arc<Notify>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

// === impl Worker ===

impl Worker {
    /// A place for one more connection of a source, or the limit that is met.
    pub(crate) fn slot(&self, source: IpAddr) -> Result<Slot, Limit> {
        self.slots.take(source).map_err(|full| match full {
            Full::Total => Limit::Connections,
            Full::Source => Limit::ConnectionsPerSource,
        })
    }

    fn trust_number(&self) -> u64 {
        self.mutual_tls.as_ref().map_or(0, |mutual_tls| mutual_tls.identities.trust_number())
    }
}

// === impl Workers ===

impl Workers {
    /// Starts this many threads, which all accept from all listeners.
    pub(crate) fn start(
        count: NonZeroUsize,
        live: &Arc<Live>,
        limits: Limits,
        proofs: &Proofs,
        recorder: &Recorder,
        listeners: &Listeners,
    ) -> io::Result<Self> {
        let slots = Slots::new(limits.connections, limits.connections_per_source);
        let drain = watch::Sender::new(false);
        let limits = Arc::new(limits);
        let died = Arc::new(Notify::new());
        let balance = Balance::new(count.get());
        let (others, handed): (Vec<_>, Vec<_>) = (0..count.get()).map(|_| mpsc::unbounded_channel()).unzip();
        let others: Arc<[_]> = others.into();
        for (number, handed) in handed.into_iter().enumerate() {
            let (balance, others) = (Arc::clone(&balance), Arc::clone(&others));
            let (live, limits, slots) = (Arc::clone(live), Arc::clone(&limits), Arc::clone(&slots));
            let (recorder, drain, listeners) = (recorder.for_worker(), drain.subscribe(), listeners.clone());
            let proofs = proofs.clone();
            let alive = Alive(Arc::clone(&died));
            std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                let _alive = alive;
                let (http1, http2) = (http1::Pool::default(), http2::Pool::default());
                let (follower, swaps) = live.follow();
                let news = Rc::new(News::new(follower));
                let tokens = Verifier::new(&proofs.keys, &proofs.accepts, &recorder);
                let worker = Worker {
                    live,
                    news,
                    limits,
                    recorder,
                    drain,
                    http1,
                    http2,
                    hbone: hbone::Pool::default(),
                    tokens,
                    mutual_tls: proofs.mutual_tls,
                    agreement: proofs.agreement,
                    slots,
                    balance,
                    others,
                    number,
                };
                if let Err(error) = run(worker, swaps, handed, &listeners) {
                    tracing::error!(%error, "worker cannot run");
                }
            })?;
        }
        Ok(Self {
            drain,
            slots,
            died,
            #[cfg(test)]
            balance,
        })
    }

    /// Accepts no more, ends what is idle, lets what is in flight end within the bound. True when nothing was cut.
    pub(crate) async fn drain(&self, bound: Duration) -> bool {
        self.drain.send_replace(true);
        let empty = async {
            while self.slots.taken() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(bound, empty).await.is_ok()
    }

    /// Returns when a worker has ended by itself: what it accepts from is served by nobody.
    pub(crate) async fn one_died(&self) {
        self.died.notified().await;
    }

    /// Connections that are open.
    pub(crate) fn connections(&self) -> usize {
        self.slots.taken()
    }
}

fn run(
    worker: Worker,
    swaps: watch::Receiver<u64>,
    handed: mpsc::UnboundedReceiver<Handed>,
    listeners: &Listeners,
) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(async {
        let worker = Rc::new(worker);
        tokio::task::spawn_local(sweep(Rc::clone(&worker)));
        tokio::task::spawn_local(tick(Rc::clone(&worker)));
        let news = Rc::clone(&worker.news);
        tokio::task::spawn_local(async move { news.follow(swaps).await });
        tokio::task::spawn_local(take_over(Rc::clone(&worker), handed));
        accept(&worker, listeners.acceptor()?).await;
        // What was accepted goes on until the process ends.
        std::future::pending::<io::Result<()>>().await
    })
}

/// Closes upstream connections that nobody used for a while, or that the upstream closed; has live connections judged
/// again when a token has ended, or keys or authorities have changed.
async fn sweep(worker: Rc<Worker>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let mut believed = worker.trust_number();
    loop {
        ticks.tick().await;
        worker.http1.sweep(worker.limits.pool_idle_timeout);
        worker.http2.sweep(worker.limits.pool_idle_timeout);
        worker.hbone.sweep(worker.limits.pool_idle_timeout);
        let now_believed = worker.trust_number();
        let trust_changed = now_believed != std::mem::replace(&mut believed, now_believed);
        if worker.tokens.have_changed(connection::now()) || trust_changed {
            worker.news.changed_elsewhere();
        }
    }
}

/// Tells streams that time has passed, as often as it takes to see that one is idle.
async fn tick(worker: Rc<Worker>) {
    let period = worker.limits.idle_timeout / http2::IDLE_TICKS;
    let mut ticks = tokio::time::interval(period.max(Duration::from_millis(1)));
    loop {
        ticks.tick().await;
        worker.news.tick();
    }
}

/// Accepts until the process drains; the listeners close with the acceptor.
async fn accept(worker: &Rc<Worker>, mut acceptor: Acceptor) {
    let mut drain = worker.drain.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = drain.wait_for(|draining| *draining) => return,
            accepted = acceptor.next() => accepted,
        };
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(away) => {
                turned_away(worker, &away);
                continue;
            }
        };
        match worker.slot(accepted.remote.0.ip()) {
            Ok(slot) => {
                let kept = worker.balance.keep(worker.balance.choose(worker.number));
                keep(worker, accepted, Places { _slot: slot, kept });
            }
            Err(limit) => {
                worker.recorder.refused_connection(limit);
                crate::stream::reset(accepted.stream.into());
            }
        }
    }
}

/// Serves a connection here, or hands it to the worker that was chosen for it.
fn keep(worker: &Rc<Worker>, accepted: Accepted, places: Places) {
    let chosen = places.kept.worker();
    if chosen == worker.number {
        let worker = Rc::clone(worker);
        tokio::task::spawn_local(async move {
            match worker.mutual_tls.clone().filter(|mutual_tls| is_hbone(&accepted, mutual_tls)) {
                Some(mutual_tls) => Box::pin(hbone::serve(accepted, worker, mutual_tls)).await,
                None => {
                    let (socket, arrived) = accepted.split();
                    connection::serve(arrived.with(ByteStream::from(socket)), None, worker).await;
                }
            }
            drop(places);
        });
        return;
    }
    match accepted.detach() {
        Ok(accepted) => {
            if let Some(other) = worker.others.get(chosen) {
                // A worker that is gone ends the process.
                let _ = other.send((accepted, places));
            }
        }
        Err(error) => tracing::warn!(%error, "cannot hand a connection to another worker"),
    }
}

/// Whether connections are to be looked for inside: it came to the port of HBONE, or to a gateway's listener for it.
fn is_hbone(accepted: &Accepted, mutual_tls: &MutualTls) -> bool {
    let is_port = || accepted.direction == Direction::Inbound && accepted.destination.0.port() == mutual_tls.port;
    accepted.hbone || (!accepted.is_gateway() && is_port())
}

/// Serves what others have accepted, while draining too: it was accepted before.
async fn take_over(worker: Rc<Worker>, mut handed: mpsc::UnboundedReceiver<Handed>) {
    while let Some((accepted, places)) = handed.recv().await {
        match accepted.attach() {
            Ok(accepted) => keep(&worker, accepted, places),
            Err(error) => tracing::warn!(%error, "cannot take over a connection"),
        }
    }
}

/// Counts a connection that nobody will judge; a forged source address is for whoever is on call.
fn turned_away(worker: &Worker, away: &TurnedAway) {
    let limit = match away.why {
        Refused::DirectHit => Limit::Loop,
        Refused::ForeignDestination => Limit::ForeignDestination,
        Refused::SpoofedSource => Limit::SpoofedSource,
        Refused::Gone => return,
    };
    worker.recorder.refused_connection(limit);
    if away.why == Refused::SpoofedSource {
        worker.recorder.alert(&Alert {
            kind: AlertKind::SpoofedSource,
            world: &worker.live.load(),
            direction: away.direction,
            source: away.remote,
            destination: away.destination,
            // Who it pretends to be is not who it is.
            source_workload: None,
            destination_workload: None,
            decision_id: None,
            detail: "a pod sent from an address that it does not own; the evidence is the pod",
            evidence: away.pod.as_deref().unwrap_or_default().as_bytes(),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;
    use crate::identity::TokenLimits;
    use crate::intercept::Inherited;
    use crate::observe::Destination;
    use crate::policy::Origin;

    #[test]
    fn a_worker_that_ends_is_told_of_even_by_a_panic() {
        for panics in [false, true] {
            let workers = Workers {
                drain: watch::Sender::new(false),
                slots: Slots::new(1, 1),
                died: Arc::new(Notify::new()),
                balance: Balance::new(1),
            };
            let alive = Alive(Arc::clone(&workers.died));
            let thread = std::thread::spawn(move || {
                let _alive = alive;
                assert!(!panics, "on purpose");
            });
            assert_eq!(thread.join().is_err(), panics);
            let runtime = Builder::new_current_thread().build().unwrap();
            runtime.block_on(workers.one_died());
        }
    }

    /// Waits for what other threads do.
    fn eventually(what: &str, is: impl Fn() -> bool) {
        for _ in 0..500 {
            if is() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{what}");
    }

    /// The world of one workload that stands on this machine and may do `rule` to itself.
    fn world(port: u16, rule: &str, recorder: &Recorder) -> (Arc<Live>, impl Sized) {
        let folder = tempfile::tempdir().unwrap();
        let (policy, workloads) = (folder.path().join("policy.yaml"), folder.path().join("workloads.yaml"));
        std::fs::write(
            &workloads,
            format!(
                "- {{name: app, namespace: shop, serviceAccount: app, ips: [127.0.0.1], ports: [{{name: http, port: {port}}}]}}\n"
            ),
        )
        .unwrap();
        std::fs::write(
            &policy,
            format!(
                "apiVersion: eastwall.dev/v1alpha1\nkind: FirewallPolicy\nmetadata: {{name: app, namespace: shop}}\n\
                 spec: {{subject: [{{serviceAccount: app}}], ingress: [{{name: own, from: [{{serviceAccount: app}}], {rule}}}]}}\n"
            ),
        )
        .unwrap();
        let origin = Origin {
            policies: vec![policy],
            workloads: Some(workloads),
            upstream: Some(([127, 0, 0, 1], port).into()),
            start_closed: true,
            bounds: eastwall_policy::source::Bounds::default(),
            controller: None,
        };
        let (live, reloader) = crate::policy::start(origin, recorder).unwrap();
        (live, (folder, reloader))
    }

    const REQUEST: &[u8] = b"GET /orders/7 HTTP/1.1\r\nhost: orders\r\nuser-agent: test\r\naccept: */*\r\n\r\n";
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok";
    const WARM: usize = 200;
    const MANY: usize = 2_000;

    #[test]
    fn a_request_on_a_connection_that_is_kept_allocates_nothing() {
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let upstream = server.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            let mut head = vec![0; 4096];
            while stream.read(&mut head).is_ok_and(|read| read > 0) && stream.write_all(ANSWER).is_ok() {}
        });
        let (recorder, _log) = Recorder::start(Destination::Off).unwrap();
        let (live, _kept) = world(upstream.port(), "http: [{methods: [GET], paths: [/orders/**]}]", &recorder);
        let listeners =
            Listeners::gateway("127.0.0.1:0".parse().unwrap(), upstream, None, &Inherited::default()).unwrap();
        let (drain, (follower, _swaps)) = (watch::Sender::new(false), live.follow());
        let worker = Rc::new(Worker {
            news: Rc::new(News::new(follower)),
            live,
            limits: Arc::new(Limits::default()),
            recorder: recorder.for_worker(),
            drain: drain.subscribe(),
            http1: http1::Pool::default(),
            http2: http2::Pool::default(),
            hbone: hbone::Pool::default(),
            tokens: Verifier::new(&Keys::new(TokenLimits::default()), &Arc::from([]), &recorder),
            mutual_tls: None,
            agreement: Arc::default(),
            slots: Slots::new(10, 10),
            balance: Balance::new(1),
            others: Arc::new([]),
            number: 0,
        });
        let address = listeners.addresses()[0];
        let (warm, is_warm) = tokio::sync::oneshot::channel();
        let (done, is_done) = tokio::sync::oneshot::channel();
        let client = std::thread::spawn(move || {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            let mut ask = |times: usize| {
                let mut answer = [0; 4096];
                for _ in 0..times {
                    stream.write_all(REQUEST).unwrap();
                    let mut read = 0;
                    while !answer[..read].ends_with(b"ok") {
                        let more = stream.read(&mut answer[read..]).unwrap();
                        assert!(more > 0, "{}", String::from_utf8_lossy(&answer[..read]));
                        read += more;
                    }
                    assert!(answer.starts_with(b"HTTP/1.1 200"));
                }
            };
            ask(WARM);
            warm.send(()).unwrap();
            ask(MANY);
            done.send(()).unwrap();
        });
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
        runtime.block_on(async {
            let (worker, acceptor) = (Rc::clone(&worker), listeners.acceptor().unwrap());
            tokio::task::spawn_local(async move { accept(&worker, acceptor).await });
            is_warm.await.unwrap();
        });
        let counted = allocation_counter::measure(|| runtime.block_on(is_done).unwrap());
        client.join().unwrap();
        // Waiting allocates, and so does the record of a decision that is kept for a while, one of many.
        assert!(counted.count_total < MANY as u64 / 20, "{counted:?}");
    }

    #[test]
    fn four_connections_are_shared_by_two_workers() {
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let upstream = server.local_addr().unwrap();
        let (recorder, _log) = Recorder::start(Destination::Off).unwrap();
        let (live, _kept) = world(upstream.port(), "tcp: {}", &recorder);
        let listeners =
            Listeners::gateway("127.0.0.1:0".parse().unwrap(), upstream, None, &Inherited::default()).unwrap();
        let two = NonZeroUsize::new(2).unwrap();
        let proofs = Proofs {
            keys: Keys::new(TokenLimits::default()),
            accepts: Arc::from([]),
            mutual_tls: None,
            agreement: Arc::default(),
        };
        let workers = Workers::start(two, &live, Limits::default(), &proofs, &recorder, &listeners).unwrap();
        let mut pairs: Vec<_> = (0..4)
            .map(|_| {
                let client = std::net::TcpStream::connect(listeners.addresses()[0]).unwrap();
                (client, server.accept().unwrap().0)
            })
            .collect();
        assert_eq!(workers.balance.open(), [2, 2]);
        for (client, server) in &mut pairs {
            let mut got = [0; 4];
            client.write_all(b"ping").unwrap();
            server.read_exact(&mut got).unwrap();
            assert_eq!(&got, b"ping");
        }
        assert_eq!(workers.connections(), 4);
        drop(pairs);
        eventually("a place was not given back", || workers.connections() == 0 && workers.balance.open() == [0, 0]);
    }
}
