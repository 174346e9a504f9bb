//! A proxy that answers as it was told, and what a run of the load costs it.

use std::time::Instant;

use crate::answers;
use crate::backend::Backend;
use crate::churn::{Change, Churn};
use crate::load::{Done, Load, Target};
use crate::peers::{Peer, Programs, Protocol, Setup};
use crate::process::{Failure, Process, free_port};
use crate::rules::{PROXY, Rules};
use crate::usage;

/// More seconds for a run in which nothing was answered.
const LONGER: f64 = 10.0;

pub(crate) struct Running {
    pub(crate) peer: Peer,
    pub(crate) setup: Setup,
    pub(crate) process: Process,
    churn: Churn,
    /// Removed with it.
    _folder: tempfile::TempDir,
}

/// One run of the load against one proxy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) done: Done,
    /// Microseconds of CPU for one of what the load counts.
    pub(crate) cost: f64,
    /// How much of its cores the proxy used.
    pub(crate) busy: f64,
}

impl Running {
    /// Starts it and asks it what shows whether it judges.
    pub(crate) fn start(
        peer: Peer,
        protocol: Protocol,
        rules: Rules,
        workers: usize,
        backend: &Backend,
        programs: &Programs,
    ) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let (listen, upstream) = (free_port(PROXY)?, backend.address);
        let setup = Setup { folder: folder.path().to_owned(), listen, upstream, protocol, rules, workers };
        let mut process = peer.start(&setup, programs)?;
        answers::check(peer, &setup, &mut process)?;
        let change = if let Peer::Changing(change) = peer { change } else { Change::Nothing };
        Ok(Self { peer, setup, process, churn: Churn { change, revision: 0 }, _folder: folder })
    }

    /// Runs the load once; where a busy machine lets nothing be answered in that time, once more and longer.
    pub(crate) fn sample(&mut self, load: Load, seconds: f64) -> Result<Sample, Failure> {
        match self.run(load, seconds)? {
            Some(sample) => Ok(sample),
            None => self.run(load, seconds + LONGER)?.ok_or_else(|| "nothing was answered".into()),
        }
    }

    fn run(&mut self, load: Load, seconds: f64) -> Result<Option<Sample>, Failure> {
        let Self { setup, process, .. } = self;
        let target = Target { folder: &setup.folder, at: setup.listen, rules: setup.rules, seconds };
        let (started, before) = (Instant::now(), usage::cpu(process.pid()));
        let done = self.churn.during(setup, || load.run(&target))?;
        let used = (usage::cpu(process.pid()) - before).as_secs_f64();
        let busy = used / started.elapsed().as_secs_f64() / setup.workers as f64;
        Ok((done.count > 0.0).then(|| Sample { done, cost: used * 1e6 / done.count, busy }))
    }
}
