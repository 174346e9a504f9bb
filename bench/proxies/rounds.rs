//! Measures the proxies of a scenario in turns, so that what the machine does beside it meets all of them alike.

use crate::backend::Backend;
use crate::peers::{Peer, Programs};
use crate::process::Failure;
use crate::rules::Rules;
use crate::running::{Running, Sample};
use crate::scenario::Scenario;
use crate::usage;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amount {
    pub(crate) rounds: usize,
    /// Of one run of the load, where the scenario does not stretch it. wrk and h2load take whole seconds, and at least one.
    pub(crate) seconds: f64,
    /// Idle connections of which the memory is measured.
    pub(crate) connections: usize,
    /// The fewest rules of each scenario alone.
    pub(crate) is_smoke: bool,
}

/// One proxy in one scenario under so many rules.
pub(crate) struct Measured {
    pub(crate) peer: Peer,
    pub(crate) rules: usize,
    /// How many the others of its rounds have.
    pub(crate) beside: usize,
    /// One a round, in the order of the rounds: those of the same round make pairs.
    pub(crate) samples: Vec<Sample>,
    /// The most bytes that were ever resident.
    pub(crate) peak: u64,
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
    for peer in scenario.peers(rules.0).filter(|peer| programs.have(*peer)) {
        let held = if let Peer::Holding(held) = peer { Rules(held) } else { rules };
        let proxy = Running::start(peer, scenario.protocol, held, scenario.workers, &backend, programs)?;
        running.push((proxy, Vec::new()));
    }
    let count = running.len();
    let seconds = if amount.is_smoke { amount.seconds } else { amount.seconds * scenario.stretch() };
    // Round 0 warms up.
    let first = if amount.is_smoke { 1 } else { 0 };
    for round in first..=amount.rounds {
        for turn in 0..count {
            // Nobody is always the first.
            let (proxy, samples) = &mut running[(turn + round) % count];
            let seconds = if round == 0 { 1.0 } else { seconds };
            let sample = proxy.sample(scenario.load, seconds).map_err(|error| {
                let (name, peer, last) = (scenario.name, proxy.peer.name(), proxy.process.last_words());
                format!("{name}, {} rules, {peer}: {error}; {last}", rules.0)
            })?;
            if round > 0 {
                samples.push(sample);
            }
        }
        eprint!("\r{}, {} rules: round {round} of {}", scenario.name, rules.0, amount.rounds);
    }
    eprintln!();
    let measured = |(proxy, samples): (Running, Vec<Sample>)| {
        let peak = usage::memory(proxy.process.pid()).1;
        Measured { peer: proxy.peer, beside: rules.0, rules: proxy.setup.rules.0, samples, peak }
    };
    Ok(running.into_iter().map(measured).collect())
}
