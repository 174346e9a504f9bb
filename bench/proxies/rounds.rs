//! Measures the proxies of a scenario in turns, so that what the machine does beside it meets all of them alike.

use std::time::Instant;

use crate::answers;
use crate::backend::Backend;
use crate::load::{Done, Target};
use crate::peers::{Peer, Programs, Setup};
use crate::process::{Failure, Process, free_port};
use crate::rules::{PROXY, Rules};
use crate::scenario::Scenario;
use crate::usage;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amount {
    pub(crate) rounds: usize,
    /// Of one run of the load.
    pub(crate) seconds: u64,
}

/// One run of the load against one proxy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) done: Done,
    /// Microseconds of CPU for one request.
    pub(crate) cost: f64,
    /// How much of its cores the proxy used.
    pub(crate) busy: f64,
}

/// One proxy in one scenario under so many rules.
pub(crate) struct Measured {
    pub(crate) peer: Peer,
    pub(crate) rules: usize,
    /// One a round, in the order of the rounds: those of the same round make pairs.
    pub(crate) samples: Vec<Sample>,
    /// The most bytes that were ever resident.
    pub(crate) peak: u64,
}

struct Running {
    peer: Peer,
    process: Process,
    target_folder: tempfile::TempDir,
    at: std::net::SocketAddr,
    samples: Vec<Sample>,
}

/// Every proxy of the scenario with this many rules.
pub(crate) fn measure(
    scenario: &Scenario,
    rules: Rules,
    amount: Amount,
    programs: &Programs,
) -> Result<Vec<Measured>, Failure> {
    let folder = tempfile::tempdir()?;
    let backend = Backend::start(folder.path(), scenario.protocol, scenario.load.origin())?;
    let mut running = Vec::new();
    for &peer in scenario.peers.iter().filter(|peer| **peer != Peer::Envoy || programs.envoy.is_some()) {
        running.push(start(peer, scenario, rules, &backend, programs)?);
    }
    for round in 0..=amount.rounds {
        let count = running.len();
        for turn in 0..count {
            // Nobody is always the first.
            let proxy = &mut running[(turn + round) % count];
            let seconds = if round == 0 { 1 } else { amount.seconds };
            let target = Target { folder: proxy.target_folder.path(), at: proxy.at, rules, seconds };
            let sample = sample(scenario, &target, &proxy.process).map_err(|error| {
                format!(
                    "{}, {} rules, {}: {error}; {}",
                    scenario.name,
                    rules.0,
                    proxy.peer.name(),
                    proxy.process.last_words()
                )
            })?;
            // The first round warms up.
            if round > 0 {
                proxy.samples.push(sample);
            }
        }
        eprint!("\r{}, {} rules: round {round} of {}", scenario.name, rules.0, amount.rounds);
    }
    eprintln!();
    Ok(running
        .into_iter()
        .map(|proxy| Measured {
            peer: proxy.peer,
            rules: rules.0,
            samples: proxy.samples,
            peak: usage::memory(proxy.process.pid()).1,
        })
        .collect())
}

fn start(
    peer: Peer,
    scenario: &Scenario,
    rules: Rules,
    backend: &Backend,
    programs: &Programs,
) -> Result<Running, Failure> {
    let folder = tempfile::tempdir()?;
    let at = free_port(PROXY)?;
    let setup = Setup {
        folder: folder.path(),
        listen: at,
        upstream: backend.address,
        protocol: scenario.protocol,
        rules,
        workers: scenario.workers,
    };
    let mut process = peer.start(&setup, programs)?;
    answers::check(peer, scenario.protocol, at, rules, &mut process)?;
    Ok(Running { peer, process, target_folder: folder, at, samples: Vec::new() })
}

fn sample(scenario: &Scenario, target: &Target<'_>, proxy: &Process) -> Result<Sample, Failure> {
    let (started, before) = (Instant::now(), usage::cpu(proxy.pid()));
    let done = scenario.load.run(target)?;
    let used = (usage::cpu(proxy.pid()) - before).as_secs_f64();
    let busy = used / started.elapsed().as_secs_f64() / scenario.workers as f64;
    Ok(Sample { done, cost: used * 1e6 / done.count, busy })
}
