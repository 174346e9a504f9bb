//! What the data path calls: one [`Recorder`] a worker, one [`ConnectionRecorder`] a connection.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use eastwall_policy::facts::{Direction, Protocol};
use eastwall_policy::registry::{Registry, WorkloadId};
use eastwall_policy::verdict::{Action, Reason};
use eastwall_policy::world::World;
use prometheus::IntCounter;

use super::decision::{DecisionIds, Decisions};
use super::event::{Alert, AlertKind, ConnectionEnd, Limit, RequestEvent};
use super::flood::{Flood, Kind};
use super::log::{AccessLog, Buffer, Log, LogWriter};
use super::metrics::Metrics;
use super::{DecisionId, label, line};

/// Counts, logs and alerts for one worker. Cheap to clone within it; another worker takes [`Recorder::for_worker`].
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    shared: Arc<Shared>,
    worker: Arc<Worker>,
}

/// Counts for one connection. Dropping it closes the connection in the counts.
#[derive(Debug)]
pub(crate) struct ConnectionRecorder {
    recorder: Recorder,
    pair: Arc<Pair>,
}

#[derive(Debug)]
struct Shared {
    metrics: Metrics,
    ids: DecisionIds,
    decisions: Decisions,
    log: Arc<Log>,
}

#[derive(Debug)]
struct Worker {
    pairs: Mutex<Pairs>,
    buffer: Arc<Buffer>,
    scratch: Mutex<Vec<u8>>,
}

/// The counters of everything between two workloads, shared by their connections.
#[derive(Debug)]
struct Pair {
    key: PairKey,
    registry: Arc<Registry>,
    counters: [OnceLock<Box<[OnceLock<IntCounter>; VERDICTS]>>; PROTOCOLS],
}

type PairKey = (Direction, Option<WorkloadId>, Option<WorkloadId>);

#[derive(Debug, Default)]
struct Pairs {
    /// Ids are of this registry; with another one they mean nothing.
    registry: Option<Arc<Registry>>,
    pairs: HashMap<PairKey, Arc<Pair>>,
}

// === impl Recorder ===

impl Recorder {
    /// Starts recording: the access log's thread runs until the writer is dropped.
    pub(crate) fn start(log: impl Into<AccessLog>) -> io::Result<(Self, LogWriter)> {
        let metrics = Metrics::new().map_err(io::Error::other)?;
        let (log, writer) = Log::start(log.into(), &metrics)?;
        let worker = Worker::new(&log);
        let shared = Shared { metrics, ids: DecisionIds::new()?, decisions: Decisions::default(), log };
        Ok((Self { shared: Arc::new(shared), worker }, writer))
    }

    /// The recorder of one more worker: same metrics, same log, own buffers.
    pub(crate) fn for_worker(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), worker: Worker::new(&self.shared.log) }
    }

    /// The metrics.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// A connection was accepted. `source` and `destination` are workloads of this world.
    pub(crate) fn connection(
        &self,
        world: &World,
        direction: Direction,
        source: Option<WorkloadId>,
        destination: Option<WorkloadId>,
    ) -> ConnectionRecorder {
        let metrics = &self.shared.metrics;
        metrics.connections.inc();
        metrics.connections_active.inc();
        let pair = self.worker.pair(world.registry(), (direction, source, destination));
        ConnectionRecorder { recorder: self.clone(), pair }
    }

    /// A connection was closed because it met a limit.
    pub(crate) fn refused_connection(&self, limit: Limit) {
        self.shared.metrics.rejected_connections.counter(&[limit.label()]).inc();
    }

    /// An id for a client that is refused.
    pub(crate) fn decision_id(&self) -> DecisionId {
        self.shared.ids.next()
    }

    /// Something that an analyst should see. Verdicts with a refusal raise their own.
    pub(crate) fn alert(&self, alert: &Alert<'_>) {
        self.shared.metrics.alerts.counter(&[alert.kind.label()]).inc();
        let kind =
            Kind::new(alert.source.ip(), alert.destination.ip(), alert.destination.port(), (alert.kind, alert.detail));
        self.worker.with_scratch(|text| {
            line::alert(alert, text);
            self.append_unless_flood(kind, text);
        });
    }

    /// Opens the access log again, after a rotation.
    pub(crate) fn reopen_log(&self) {
        self.shared.log.reopen();
    }

    /// Recent verdicts, one JSON line each.
    pub(crate) fn recent(&self) -> Vec<String> {
        self.shared.log.recent()
    }

    /// The line of a refused request, while it is held.
    pub(crate) fn decision(&self, id: DecisionId) -> Option<String> {
        self.shared.decisions.find(id)
    }

    fn request(&self, pair: &Pair, event: &RequestEvent<'_>, id: Option<DecisionId>) {
        let shared = &self.shared;
        let metrics = &shared.metrics;
        if event.revoked {
            metrics.revocations.inc();
        } else {
            self.count(pair, event);
            metrics.decision_seconds.observe(event.decision.as_secs_f64());
        }
        let verdict = event.verdict;
        if let Some(audit) = &verdict.audit
            && audit.action != verdict.action
        {
            let labels =
                [label::direction(event.direction), label::action(verdict.action), label::action(audit.action)];
            metrics.audit_differences.counter(&labels).inc();
        }
        let matters = line::matters(event);
        if !matters && !shared.log.wants_allows() {
            return;
        }
        self.worker.with_scratch(|text| {
            line::request(event, id, text);
            if let Some(id) = id {
                shared.decisions.keep(event.source.ip(), id, &String::from_utf8_lossy(text));
            }
            if verdict.action == Action::Allow {
                shared.log.append(&self.worker.buffer, text, matters);
            } else {
                self.append_unless_flood(refusal_kind(event), text);
            }
        });
        if let Some(refusal) = event.refusal.filter(|refusal| refusal.evasion()) {
            let label = refusal.label();
            let source = label::workload(event.world.registry(), event.source_workload);
            metrics.evasion_attempts.counter(&[&source, label]).inc();
            self.alert(&Alert {
                kind: AlertKind::EvasionAttempt,
                world: event.world,
                direction: event.direction,
                source: event.source,
                destination: event.destination,
                source_workload: event.source_workload,
                destination_workload: event.destination_workload,
                decision_id: id,
                detail: label,
                evidence: event.path.or(event.host).or(event.method).unwrap_or_default(),
            });
        }
    }

    fn append_unless_flood(&self, kind: Kind, text: &[u8]) {
        let buffer = &self.worker.buffer;
        let told = {
            let mut flood = buffer.flood();
            let told = flood.denied(kind);
            if told == Flood::Collapse
                && let Some(sample) = flood.sample(kind)
            {
                sample.extend_from_slice(text);
            }
            told
        };
        if told == Flood::Tell {
            self.shared.log.append(buffer, text, true);
        }
    }

    /// PERF: after the first of its kind, two loads and an add; label values are looked up once for each (pair,
    /// protocol, verdict).
    fn count(&self, pair: &Pair, event: &RequestEvent<'_>) {
        let key = (event.direction, event.source_workload, event.destination_workload);
        let metrics = &self.shared.metrics;
        if pair.key == key && Arc::ptr_eq(&pair.registry, event.world.registry()) {
            pair.count(metrics, event);
        } else {
            // The registry changed under a long connection: its ends have other names now.
            self.worker.pair(event.world.registry(), key).count(metrics, event);
        }
    }
}

// === impl ConnectionRecorder ===

impl ConnectionRecorder {
    /// One verdict, told when its answer has ended (or at once, where there is none). `id` is what the client was given.
    pub(crate) fn request(&self, event: &RequestEvent<'_>, id: Option<DecisionId>) {
        self.recorder.request(&self.pair, event, id);
    }

    /// An id for a client that is refused.
    pub(crate) fn decision_id(&self) -> DecisionId {
        self.recorder.decision_id()
    }

    /// See [`Recorder::alert`].
    pub(crate) fn alert(&self, alert: &Alert<'_>) {
        self.recorder.alert(alert);
    }

    /// The end of the connection and what it carried.
    pub(crate) fn closed(&self, end: &ConnectionEnd) {
        self.recorder.shared.metrics.bytes.inc_by(end.received.saturating_add(end.sent));
    }
}

impl Drop for ConnectionRecorder {
    fn drop(&mut self) {
        self.recorder.shared.metrics.connections_active.dec();
    }
}

// === impl Worker ===

impl Worker {
    fn new(log: &Log) -> Arc<Self> {
        Arc::new(Self { pairs: Mutex::default(), buffer: log.buffer(), scratch: Mutex::default() })
    }

    fn pair(&self, registry: &Arc<Registry>, key: PairKey) -> Arc<Pair> {
        let mut pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        let same = pairs.registry.as_ref().is_some_and(|held| Arc::ptr_eq(held, registry));
        if !same || pairs.pairs.len() >= PAIRS {
            pairs.pairs.clear();
            pairs.registry = Some(Arc::clone(registry));
        }
        let make = || {
            Arc::new(Pair { key, registry: Arc::clone(registry), counters: std::array::from_fn(|_| OnceLock::new()) })
        };
        Arc::clone(pairs.pairs.entry(key).or_insert_with(make))
    }

    /// Runs with an empty buffer that is used again and again. Not for nesting.
    fn with_scratch(&self, run: impl FnOnce(&mut Vec<u8>)) {
        let mut text = std::mem::take(&mut *self.scratch.lock().unwrap_or_else(PoisonError::into_inner));
        text.clear();
        run(&mut text);
        *self.scratch.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }
}

// === impl Pair ===

impl Pair {
    fn count(&self, metrics: &Metrics, event: &RequestEvent<'_>) {
        let (direction, source, destination) = self.key;
        let (action, reason) = (event.verdict.action, event.verdict.reason);
        let resolve = || {
            metrics.requests.counter(&[
                label::direction(direction),
                label::protocol(event.protocol),
                label::action(action),
                &label::serialized(reason),
                &label::workload(&self.registry, source),
                &label::workload(&self.registry, destination),
            ])
        };
        let counter = self
            .counters
            .get(event.protocol as usize)
            .map(|verdicts| verdicts.get_or_init(|| Box::new(std::array::from_fn(|_| OnceLock::new()))))
            .and_then(|verdicts| verdicts.get(reason as usize * ACTIONS + action as usize));
        match counter {
            Some(counter) => counter.get_or_init(resolve).inc(),
            // A protocol or a reason that has no place here is counted all the same.
            None => resolve().inc(),
        }
    }
}

fn refusal_kind(event: &RequestEvent<'_>) -> Kind {
    let rule = event.verdict.rule.and_then(|id| event.world.named(id)).map(|named| (named.policy, named.rule));
    let why = (event.verdict.action, event.verdict.reason, event.refusal, event.revoked, rule);
    Kind::new(event.source.ip(), event.destination.ip(), event.destination.port(), why)
}

const PROTOCOLS: usize = Protocol::Dns as usize + 1;

const ACTIONS: usize = Action::Reject as usize + 1;

const VERDICTS: usize = ACTIONS * (Reason::Rejected as usize + 1);

/// Pairs that one worker remembers before it starts anew; a pair is about 300 bytes, and connections keep theirs.
const PAIRS: usize = 8_192;
