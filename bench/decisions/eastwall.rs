//! Eastwall itself: policies read and compiled, then one decision after another.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eastwall_policy::dialect::{self, Compiled};
use eastwall_policy::facts::{Connection, Direction, End, Fact, Protocol, Request, Transport};
use eastwall_policy::registry::Registry;
use eastwall_policy::source::{self, Sources};
use eastwall_policy::table::Size;
use eastwall_policy::verdict::Action;
use eastwall_policy::world::{Flow, World};

use crate::clock::{Percentiles, nanoseconds};
use crate::questions::Question;
use crate::rules::{Dialect, Rules, destination_address, source_address};

/// How often the same policies are compiled.
const ROUNDS: usize = 3;

/// What was measured of one dialect at one size.
pub(crate) struct Figures {
    pub(crate) bytes: usize,
    pub(crate) read_ms: f64,
    pub(crate) table_ms: f64,
    pub(crate) size: Size,
    /// One connection resolved: who both ends are, which scopes judge it.
    pub(crate) flow: Percentiles,
    /// One request of a resolved connection judged.
    pub(crate) decision: Percentiles,
    /// Both, of the same question.
    pub(crate) both: Percentiles,
}

pub(crate) fn compile(sources: &Sources) -> Result<Compiled, Box<dyn Error>> {
    accepted(dialect::compile(sources))
}

pub(crate) fn accepted(compiled: Compiled) -> Result<Compiled, Box<dyn Error>> {
    match compiled.diagnostics.iter().find(|found| found.is_error()) {
        Some(error) => Err(format!("a policy of the benchmark is refused: {}", error.message).into()),
        None => Ok(compiled),
    }
}

/// Asks the questions in order, all of them unless `budget` ends before.
pub(crate) fn measure(
    rules: &Rules,
    dialect: Dialect,
    questions: &[Question],
    budget: Duration,
    overhead: u64,
) -> Result<Figures, Box<dyn Error>> {
    let text: Arc<str> = rules.text(dialect).into();
    let registry = Arc::new(rules.registry());
    let (read_ms, table_ms, world) = build(&text, &registry)?;
    let size = world.table().size();
    if size.rules < rules.count {
        return Err(format!("{} rules became {}", rules.count, size.rules).into());
    }

    // Istio knows identities that mTLS proved; the native kinds know registered workloads as well.
    let principals: Vec<String> =
        (0..rules.sources()).map(|source| format!("spiffe://cluster.local/ns/shop/sa/sa-{source}")).collect();
    let mut flows = Vec::with_capacity(questions.len());
    let mut decisions = Vec::with_capacity(questions.len());
    let mut path = Vec::new();
    let began = Instant::now();
    for question in questions {
        question.path(&mut path);
        let principal = match dialect {
            Dialect::Native => None,
            Dialect::Istio => Some(principals[question.source as usize].as_str()),
        };
        let destination = rules.destination(question.rule as usize);
        let request = request(question, &path);
        let started = Instant::now();
        let flow = flow(&world, question.source as usize, principal, destination);
        flows.push(nanoseconds(started));
        let started = Instant::now();
        let verdict = world.request_verdict(&flow, &request);
        decisions.push(nanoseconds(started));
        if began.elapsed() > budget {
            break;
        }
        if (verdict.action == Action::Allow) != question.allowed {
            return Err(format!("eastwall ({}) answers {question:?} with {}", dialect.name(), verdict.action).into());
        }
    }
    let both = flows.iter().zip(&decisions).map(|(flow, decision)| flow + decision).collect();
    Ok(Figures {
        bytes: text.len(),
        read_ms,
        table_ms,
        size,
        flow: Percentiles::of(flows, overhead),
        decision: Percentiles::of(decisions, overhead),
        both: Percentiles::of(both, 2 * overhead),
    })
}

/// Reads and compiles several times, since once says little; the time of each part in the median round, and a world.
fn build(text: &Arc<str>, registry: &Arc<Registry>) -> Result<(f64, f64, World), Box<dyn Error>> {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let compiled = compile(&source::parse("bench.yaml", text))?;
        let read = milliseconds(started);
        let started = Instant::now();
        let world = World::new(compiled.model, Arc::clone(registry), 1);
        rounds.push((read, milliseconds(started), world));
    }
    rounds.sort_by(|left, right| (left.0 + left.1).total_cmp(&(right.0 + right.1)));
    Ok(rounds.swap_remove(ROUNDS / 2))
}

pub(crate) fn milliseconds(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1e3
}

fn flow(world: &World, source: usize, principal: Option<&str>, destination: usize) -> Flow {
    world.flow(&Connection {
        source: End { principal, ..world.source(source_address(source)) },
        destination: world.destination(destination_address(destination)),
        port: 8080,
        transport: Transport::Tcp,
        service: None,
        fqdn: None,
        direction: Some(Direction::Inbound),
    })
}

fn request<'a>(question: &Question, path: &'a [u8]) -> Request<'a> {
    Request {
        method: Fact::Known(question.method().as_bytes()),
        path: Fact::Known(path),
        query: Fact::Absent,
        host: Fact::Known(b"orders.shop"),
        headers: Fact::Absent,
        upgrade: Fact::Absent,
        jwt: Fact::Absent,
        mesh_jwt: Fact::Absent,
        ..Request::opaque(Fact::Known(Protocol::Http), 0)
    }
}
