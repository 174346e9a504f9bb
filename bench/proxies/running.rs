//! A proxy that answers as it was told, and what a run of the load costs it.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Instant;

use crate::answers;
use crate::backend::{Backend, Origin};
use crate::churn::{Change, Churn};
use crate::identities;
use crate::load::{Done, Load, Target};
use crate::peers::{Mode, Peer, Programs, Protocol, Setup};
use crate::pods::{ASKS, PROTECTED, Pods};
use crate::process::{Failure, LOAD, Place, Process, free_port};
use crate::rules::{CLIENT, PROXY, Rules};
use crate::usage;

/// More seconds for a run in which nothing was answered.
const LONGER: f64 = 10.0;

pub(crate) struct Running {
    pub(crate) peer: Peer,
    pub(crate) setup: Setup,
    pub(crate) process: Process,
    churn: Churn,
    /// What issues its certificate, where it asks for one.
    _authority: Option<Process>,
    /// The pods that it stands between, with a backend of their own.
    between: Option<(Backend, Pods)>,
    /// Removed with it.
    _folder: tempfile::TempDir,
}

/// One run of the load against one proxy.
#[derive(Clone, Debug)]
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
        if let Peer::Between(mode) = peer {
            return Self::start_between(mode, protocol, rules, workers, programs);
        }
        let folder = tempfile::tempdir()?;
        let setup = Setup {
            folder: folder.path().to_owned(),
            listen: peer.listens().map_or_else(|| free_port(PROXY), Ok)?,
            upstream: backend.address,
            protocol,
            rules,
            workers,
            client: CLIENT,
            authority: free_port(CLIENT)?,
            namespace: None,
        };
        if protocol == Protocol::Hbone {
            identities::write(&setup.folder)?;
        }
        let authority = peer.start_authority(&setup)?;
        let mut process = peer.start(&setup, programs)?;
        answers::check(peer, &setup, &mut process)?;
        let change = if let Peer::Changing(change) = peer { change } else { Change::Nothing };
        let churn = Churn { change, revision: 0 };
        Ok(Self { peer, setup, process, churn, _authority: authority, between: None, _folder: folder })
    }

    /// The same between two pods.
    fn start_between(
        mode: Mode,
        protocol: Protocol,
        rules: Rules,
        workers: usize,
        programs: &Programs,
    ) -> Result<Self, Failure> {
        let (peer, pods) = (Peer::Between(mode), Pods::make()?);
        let folder = tempfile::tempdir()?;
        // A sidecar is another user.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
        let upstream = SocketAddr::new(PROTECTED, 80);
        // What is redirected is sent to where the pod itself listens.
        let listen = if mode == Mode::Gateway { SocketAddr::new(PROTECTED, 8080) } else { upstream };
        let namespace = Some(pods.protected());
        let place = Place { cores: LOAD, namespace: namespace.clone(), uid: None };
        let backend = Backend::start_at(upstream, place, folder.path(), protocol, Origin::Short)?;
        let folder_path = folder.path().to_owned();
        let setup = Setup {
            folder: folder_path,
            listen,
            upstream,
            protocol,
            rules,
            workers,
            client: ASKS,
            authority: free_port(CLIENT)?,
            namespace,
        };
        let mut process = peer.start(&setup, programs)?;
        pods.ask(|| answers::check(peer, &setup, &mut process))?;
        let churn = Churn { change: Change::Nothing, revision: 0 };
        let between = Some((backend, pods));
        Ok(Self { peer, setup, process, churn, _authority: None, between, _folder: folder })
    }

    /// Runs the load once; where a busy machine lets nothing be answered in that time, once more and longer.
    pub(crate) fn sample(&mut self, load: Load, seconds: f64) -> Result<Sample, Failure> {
        match self.run(load, seconds)? {
            Some(sample) => Ok(sample),
            None => self.run(load, seconds + LONGER)?.ok_or_else(|| "nothing was answered".into()),
        }
    }

    fn run(&mut self, load: Load, seconds: f64) -> Result<Option<Sample>, Failure> {
        let Self { setup, process, churn, between, .. } = self;
        let Setup { listen: at, upstream: to, client, rules, .. } = *setup;
        let target = Target { folder: &setup.folder, at, to, client, rules, seconds };
        let (started, before) = (Instant::now(), usage::cpu(process.pid()));
        let mut work = || churn.during(setup, || load.run(&target));
        let done = match between {
            Some((_, pods)) => pods.ask(work)?,
            None => work()?,
        };
        let used = (usage::cpu(process.pid()) - before).as_secs_f64();
        let busy = used / started.elapsed().as_secs_f64() / setup.workers as f64;
        Ok((done.count > 0.0).then(|| Sample { cost: used * 1e6 / done.count, busy, done }))
    }
}
