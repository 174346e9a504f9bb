//! Programs that run for a measurement and end with it.

use std::error::Error;
use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, kill_process_group, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

pub(crate) type Failure = Box<dyn Error>;

/// Cores that a program is held to, as `taskset` reads them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores(pub(crate) &'static str);

/// Where load and backend run; a proxy with one worker has the other core.
pub(crate) const LOAD: Cores = Cores("1");

/// Where a program runs.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) cores: Cores,
    /// Path of a network namespace, or that of the harness.
    pub(crate) namespace: Option<String>,
    /// As this user and without any capability, or as the harness.
    pub(crate) uid: Option<u32>,
}

impl From<Cores> for Place {
    fn from(cores: Cores) -> Self {
        Self { cores, namespace: None, uid: None }
    }
}

/// A program that goes on until it is dropped. It ends with the harness however that ends.
pub(crate) struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts it in `folder`, where what it says is kept.
    pub(crate) fn start(
        name: &str,
        place: &Place,
        program: &Path,
        arguments: &[String],
        folder: &Path,
    ) -> Result<Self, Failure> {
        let log = folder.join(format!("{name}.log"));
        let said = File::create(&log)?;
        let child = held(place, program, arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said)
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        Ok(Self { child, name: name.to_owned(), log })
    }

    /// Waits for its end; an error where it failed.
    pub(crate) fn wait(mut self) -> Result<(), Failure> {
        if self.child.wait()?.success() { Ok(()) } else { Err(self.last_words().into()) }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it said at last, for an error.
    pub(crate) fn last_words(&self) -> String {
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        format!("{}: {}", self.name, lines[lines.len().saturating_sub(5)..].join("\n"))
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    fn id(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let Some(id) = self.id() else { return };
        // Nothing can be done where this fails: it has ended by itself.
        let _ = kill_process(id, Signal::TERM);
        let end = Instant::now() + Duration::from_secs(3);
        while !self.has_ended() && Instant::now() < end {
            sleep(Duration::from_millis(5));
        }
        if !self.has_ended() {
            let _ = kill_process_group(id, Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// Runs a program to its end and gives what it printed; an error where it failed.
pub(crate) fn run(cores: Cores, program: &str, arguments: &[String]) -> Result<String, Failure> {
    let output = held(&cores.into(), Path::new(program), arguments).stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("{program} failed: {said}{errors}").into());
    }
    Ok(said)
}

/// There, in a group of its own, ended when the thread that starts it ends.
fn held(place: &Place, program: &Path, arguments: &[String]) -> Command {
    let mut words = Vec::new();
    if let Some(path) = &place.namespace {
        words.extend(["nsenter".to_owned(), format!("--net={path}"), "--".to_owned()]);
    }
    words.push("setpriv".to_owned());
    if let Some(uid) = place.uid {
        words.extend([format!("--reuid={uid}"), format!("--regid={uid}")]);
        words.extend(["--clear-groups", "--inh-caps=-all", "--bounding-set=-all"].map(str::to_owned));
    }
    words.extend(["--pdeathsig", "TERM", "taskset", "-c", place.cores.0].map(str::to_owned));
    let mut command = Command::new(words.remove(0));
    command.args(words).arg(program).args(arguments).process_group(0);
    command
}

/// Lets this and what it starts open as many files as the machine allows.
pub(crate) fn open_many_files() -> Result<(), Failure> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

/// Holds the harness itself, which sends some of the load, to one core.
pub(crate) fn stay_on(cores: Cores) -> Result<(), Failure> {
    let mut set = CpuSet::new();
    for core in cores.0.split(',') {
        set.set(core.parse()?);
    }
    Ok(sched_setaffinity(None, &set).map_err(|error| format!("two cores are needed: {error}"))?)
}

/// A port that nobody has at this address.
pub(crate) fn free_port(ip: IpAddr) -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind(SocketAddr::new(ip, 0))?.local_addr()?)
}
