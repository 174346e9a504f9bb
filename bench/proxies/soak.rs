//! A long run at full load while documents change: every answer is what the reference interpreter says, and memory stays
//! where it was.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use eastwall_bench::machine;
use eastwall_policy::dialect;
use eastwall_policy::flow::Question;
use eastwall_policy::model::interpret;
use eastwall_policy::registry::Registry;
use eastwall_policy::source;
use eastwall_policy::verdict::Action;
use eastwall_policy::world::World;
use serde_json::{Map, Value, json};

use crate::backend::{Backend, Origin};
use crate::churn::{Change, Churn};
use crate::load::threads::each;
use crate::load::wire::Connection;
use crate::peers::{Peer, Programs, Protocol, Setup, eastwall};
use crate::process::Failure;
use crate::rules::Rules;
use crate::running::Running;
use crate::usage;

const RULES: Rules = Rules(1_000);
const CONNECTIONS: usize = 64;
/// How often the memory is looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// A request, and what the interpreter says of it.
struct Case {
    bytes: Vec<u8>,
    expected: Action,
}

/// What a soak came to.
pub(crate) struct Soak {
    seconds: f64,
    answers: BTreeMap<&'static str, u64>,
    changes: usize,
    /// Resident bytes, once a period.
    memory: Vec<u64>,
}

/// Runs it. The first answer that is not the interpreter's ends it.
pub(crate) fn run(seconds: f64, programs: &Programs) -> Result<Soak, Failure> {
    let folder = tempfile::tempdir()?;
    let backend = Backend::start(folder.path(), Protocol::Http1, Origin::Short)?;
    let proxy = Running::start(Peer::Eastwall, Protocol::Http1, RULES, 1, &backend, programs)?;
    let cases = cases(&proxy.setup)?;
    let (setup, pid) = (&proxy.setup, proxy.process.pid());
    let (ended, started) = (AtomicBool::new(false), Instant::now());
    let end = started + Duration::from_secs_f64(seconds);
    let mut churn = Churn { change: Change::Document, revision: 0 };
    let (answers, memory) = scope(|scope| {
        let watching = scope.spawn(|| {
            let mut memory = Vec::new();
            while !ended.load(Ordering::Relaxed) {
                memory.push(usage::memory(pid).0);
                let left = end.saturating_duration_since(Instant::now()).as_secs();
                eprint!("\rsoak: {left} s left ");
                sleep(PERIOD);
            }
            eprintln!();
            memory
        });
        let answers = churn.during(setup, || each(CONNECTIONS, |number| ask(setup, number, &cases, end)));
        ended.store(true, Ordering::Relaxed);
        let memory = watching.join().map_err(|_| "nobody watches the memory")?;
        Ok::<_, Failure>((answers?, memory))
    })
    .map_err(|error| format!("soak: {error}; {}", proxy.process.last_words()))?;
    let mut counted = BTreeMap::new();
    for (action, count) in answers.into_iter().flatten() {
        *counted.entry(action).or_insert(0) += count;
    }
    Ok(Soak { seconds: started.elapsed().as_secs_f64(), answers: counted, changes: churn.revision, memory })
}

/// Asks one source's questions in turns until the end.
fn ask(
    setup: &Setup,
    number: usize,
    cases: &[Vec<Case>],
    end: Instant,
) -> Result<BTreeMap<&'static str, u64>, Failure> {
    let source = number % cases.len();
    let open = || Connection::open_from(Rules::address(source, 0), setup.listen);
    let mut connection = open()?;
    let mut counted = BTreeMap::new();
    for case in cases[source].iter().cycle().skip(number * 7) {
        if Instant::now() > end {
            break;
        }
        let status = connection.ask(&case.bytes)?;
        let action = match status {
            200 => Action::Allow,
            403 => Action::Deny,
            _ => Action::Reject,
        };
        if action != case.expected {
            let request = case.bytes.escape_ascii();
            return Err(format!("{status} where the interpreter says {:?}: {request}", case.expected).into());
        }
        if action == Action::Reject {
            // It may be closed behind a request that has two readings.
            connection = open()?;
        }
        *counted.entry(action_name(action)).or_insert(0) += 1;
    }
    Ok(counted)
}

fn action_name(action: Action) -> &'static str {
    match action {
        Action::Allow => "allow",
        Action::Deny => "deny",
        Action::Reject => "reject",
    }
}

/// For some sources: their own rules' requests and those of others, each in several spellings.
fn cases(setup: &Setup) -> Result<Vec<Vec<Case>>, Failure> {
    let documents: Vec<String> =
        (0..RULES.0.div_ceil(eastwall::A_DOCUMENT)).map(|number| eastwall::document(setup, number, None)).collect();
    let compiled = dialect::compile(&source::parse("soak.yaml", &documents.join("---\n").into()));
    if compiled.has_errors() {
        return Err("the documents of the soak have errors".into());
    }
    let (registry, _) = Registry::parse("workloads.yaml", &eastwall::workloads(setup, 0).into());
    let world = World::new(compiled.model, Arc::new(registry), 1);
    let spellings: [fn(&str) -> String; 6] = [
        str::to_owned,
        |path| format!("{path}?page=2"),
        |path| format!("{path}/"),
        |path| path.replace("/items", "/./%69tems"),
        |path| path.replace("/v1/", "/v1/x/../"),
        |path| path.replace("items-", "items%2F"),
    ];
    let of_source = |source: usize| {
        let rules = RULES.all().filter(|rule| rule.source == source || rule.number % 100 == source);
        let mut cases = Vec::new();
        for rule in rules {
            for (method, spelling) in [rule.method, "GET", "PATCH"].into_iter().zip(spellings.iter().cycle()) {
                for spelling in [&spellings[0], spelling, &spellings[(rule.number + method.len()) % spellings.len()]] {
                    cases.push(case(&world, setup, source, method, &spelling(&rule.path))?);
                }
            }
        }
        Ok(cases)
    };
    (0..16).map(of_source).collect()
}

fn case(world: &World, setup: &Setup, source: usize, method: &str, target: &str) -> Result<Case, Failure> {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let mut line = json!({
        "src": {"ip": Rules::address(source, 0)},
        "dst": {"ip": setup.upstream.ip(), "port": setup.upstream.port()},
        "direction": "inbound", "protocol": "http", "method": method, "path": path, "host": "app",
    });
    if let Some(query) = query {
        line["query"] = query.into();
    }
    let question = Question::from_json(&line)?;
    let asked = question.ask(world, 0)?;
    let expected = match asked.request() {
        Ok(request) => {
            interpret::request_verdict(world.model(), world.registry(), &asked.connection(), &request).action
        }
        Err(_) => Action::Reject,
    };
    let bytes = format!("{method} {target} HTTP/1.1\r\nhost: app\r\n\r\n").into_bytes();
    Ok(Case { bytes, expected })
}

impl Soak {
    pub(crate) fn json(&self) -> Value {
        json!({
            "seconds": self.seconds,
            "answers": self.answers,
            "answers other than the interpreter's": 0,
            "changes of a document": self.changes,
            "resident bytes each second": self.memory,
        })
    }

    /// The middle of the first and of the last tenth, and the most.
    pub(crate) fn text(&self) -> String {
        let middle = |part: &[u64]| {
            let mut part = part.to_vec();
            part.sort_unstable();
            part.get(part.len() / 2).copied().unwrap_or(0) as f64 / 1e6
        };
        let tenth = self.memory.len().div_ceil(10);
        let (first, last) = (self.memory.get(..tenth), self.memory.get(self.memory.len() - tenth..));
        let most = self.memory.iter().max().copied().unwrap_or(0) as f64 / 1e6;
        let total: u64 = self.answers.values().sum();
        let each: Vec<String> = self.answers.iter().map(|(action, count)| format!("{action} {count}")).collect();
        format!(
            "\nsoak: {:.0} s, {} rules, {CONNECTIONS} connections at full load, a document changed {} times\n\
             answers: {total} ({}), each as the interpreter says; {:.0} a second\n\
             resident: {:.1} MB in the first tenth, {:.1} MB in the last, {most:.1} MB at most\n",
            self.seconds,
            RULES.0,
            self.changes,
            each.join(", "),
            total as f64 / self.seconds,
            middle(first.unwrap_or_default()),
            middle(last.unwrap_or_default()),
        )
    }

    /// Writes both, with the machine.
    pub(crate) fn write(&self, mut told: Map<String, Value>, out: &Path) -> Result<(), Failure> {
        told.insert("load after".into(), machine::load().into());
        fs::write(out.join("soak.txt"), machine::text(&told) + &self.text())?;
        let value = json!({"machine": told, "soak": self.json()});
        Ok(fs::write(out.join("soak.json"), serde_json::to_string(&value)? + "\n")?)
    }
}
