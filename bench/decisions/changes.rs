//! How long a change takes until there is a world that judges by it: one document of a hundred, one address of ten
//! thousand.

use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use eastwall_policy::dialect::{self, LastGood};
use eastwall_policy::registry::{Registry, Workload};
use eastwall_policy::source::{self, Bounds, Reader};
use eastwall_policy::world::World;

use crate::eastwall::{accepted, compile, milliseconds};
use crate::rules::{Dialect, Rules, source_address, workload};

/// Milliseconds of several rounds.
pub(crate) struct Rounds {
    pub(crate) count: usize,
    pub(crate) median: f64,
    pub(crate) slowest: f64,
}

/// One file of the rules' documents is written anew, then all are read, compiled and joined, as the proxy does: only the
/// changed file is parsed again.
pub(crate) fn document(rules: &Rules, dialect: Dialect, rounds: usize) -> Result<Rounds, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let file = |number: usize| folder.path().join(format!("p{number}.yaml"));
    for number in 0..rules.documents() {
        fs::write(file(number), rules.document(dialect, number, 0))?;
    }
    let paths = [folder.path().to_owned()];
    let registry = Arc::new(rules.registry());
    let mut reader = Reader::new(Bounds::default());
    let mut compiled = compile(&reader.read(&paths))?;
    let mut world = World::new(Arc::clone(&compiled.model), Arc::clone(&registry), 1);
    let mut times = Vec::new();
    for round in 1..=rounds {
        let last_good = LastGood::of(&compiled);
        let number = round * 37 % rules.documents();
        fs::write(file(number), rules.document(dialect, number, round))?;
        let started = Instant::now();
        compiled = accepted(dialect::compile_onto(&reader.read(&paths), &last_good))?;
        let changed = world.with_policies(Arc::clone(&compiled.model), Arc::clone(&registry), 1 + round as u64);
        times.push(milliseconds(started));
        if changed.generation().hash == world.generation().hash {
            return Err("a changed document makes no other policies".into());
        }
        world = changed;
    }
    Ok(rounds_of(times))
}

/// Milliseconds of one changed address, in three measures: the new registry joined with the table; the registry made of
/// its workloads and joined; the workloads file read, made and joined.
pub(crate) struct Address {
    pub(crate) join: Rounds,
    pub(crate) registry: Rounds,
    pub(crate) file: Rounds,
}

/// One of `count` workloads gets another address under the rules.
pub(crate) fn address(rules: &Rules, count: usize, rounds: usize) -> Result<Address, Box<dyn Error>> {
    let text: Arc<str> = rules.text(Dialect::Native).into();
    let compiled = compile(&source::parse("bench.yaml", &text))?;
    let workloads: Vec<Workload> =
        (0..count).map(|number| workload("caller", "sa", number, source_address(number))).collect();
    let registry = Registry::new(workloads.clone(), Vec::new(), Vec::new());
    let mut world = World::new(Arc::clone(&compiled.model), Arc::new(registry), 1);
    let (mut joins, mut registries, mut files) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        let mut workloads = workloads.clone();
        let changed = source_address(count + round);
        workloads[round * 37 % count].ips = vec![changed];
        let file: Arc<str> = workloads_file(&workloads).into();

        let started = Instant::now();
        let registry = Registry::new(workloads, Vec::new(), Vec::new());
        let made = milliseconds(started);
        let registry = Arc::new(registry);
        let started = Instant::now();
        let next = world.with_registry(Arc::clone(&registry), 1 + round as u64);
        let joined = milliseconds(started);
        if !next.has_subject_at(changed) {
            return Err("nobody is at the changed address".into());
        }
        joins.push(joined);
        registries.push(made + joined);
        world = next;

        let started = Instant::now();
        let (registry, findings) = Registry::parse("workloads.yaml", &file);
        let next = black_box(world.with_registry(Arc::new(registry), 1 + round as u64));
        files.push(milliseconds(started));
        if !findings.is_empty() || !next.has_subject_at(changed) {
            return Err("the workloads file says something else".into());
        }
    }
    Ok(Address { join: rounds_of(joins), registry: rounds_of(registries), file: rounds_of(files) })
}

fn workloads_file(workloads: &[Workload]) -> String {
    let line = |workload: &Workload| {
        let ip = workload.ips.first().map(ToString::to_string).unwrap_or_default();
        format!(
            "- {{name: {name}, namespace: {}, serviceAccount: {}, labels: {{app: {name}}}, ips: [{ip}], \
             ports: [{{name: http, port: 8080, protocol: TCP}}]}}\n",
            workload.namespace,
            workload.service_account,
            name = workload.name,
        )
    };
    workloads.iter().map(line).collect()
}

fn rounds_of(mut times: Vec<f64>) -> Rounds {
    times.sort_unstable_by(f64::total_cmp);
    Rounds { count: times.len(), median: times[times.len() / 2], slowest: times[times.len() - 1] }
}
