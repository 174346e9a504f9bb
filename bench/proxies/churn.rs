//! What changes under a load: Eastwall's documents or the addresses of workloads, once a second.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use crate::answers::http1;
use crate::peers::Setup;
use crate::peers::eastwall::{DOCUMENTS, WORKLOADS, document, workloads};
use crate::process::Failure;
use crate::rules::Rules;

/// What changes each second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing: a second proxy like the first, to see how far two of the same lie apart.
    Nothing,
    /// One document gets another path.
    Document,
    /// Every source but the load gets another address.
    Addresses,
}

const PERIOD: Duration = Duration::from_secs(1);
/// How long a change may take to be in force before the run is given up.
const PATIENCE: Duration = Duration::from_secs(20);

/// The changes of one proxy so far.
pub(crate) struct Churn {
    pub(crate) change: Change,
    pub(crate) revision: usize,
}

impl Churn {
    /// Changes the files of a running proxy while `work` runs; then waits until the last change is in force.
    pub(crate) fn during<T>(&mut self, setup: &Setup, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        if self.change == Change::Nothing {
            return work();
        }
        let (stop, stopped) = channel::<()>();
        scope(|scope| {
            let changes = scope.spawn(move || -> Result<(), String> {
                // In the middle of each period: work of one period meets one change, and what is shorter is followed by one.
                let mut wait = PERIOD / 2;
                loop {
                    let has_ended = stopped.recv_timeout(wait) == Err(RecvTimeoutError::Disconnected);
                    if !has_ended || wait < PERIOD {
                        self.next(setup).map_err(|error| error.to_string())?;
                    }
                    if has_ended {
                        break;
                    }
                    wait = PERIOD;
                }
                self.wait(setup).map_err(|error| error.to_string())
            });
            let done = work();
            drop(stop);
            changes.join().map_err(|_| "the changes broke off")??;
            done
        })
    }

    fn next(&mut self, setup: &Setup) -> Result<(), Failure> {
        self.revision += 1;
        match self.change {
            Change::Nothing => Ok(()),
            Change::Document => {
                let added = format!("/api/v1/revision-{}", self.revision);
                replace(&setup.folder.join(DOCUMENTS).join("p0.yaml"), &document(setup, 0, Some(&added)))
            }
            Change::Addresses => replace(&setup.folder.join(WORKLOADS), &workloads(setup, self.revision)),
        }
    }

    fn wait(&self, setup: &Setup) -> Result<(), Failure> {
        let (from, path) = match self.change {
            Change::Addresses => (Rules::address(1, self.revision), first_path(setup, 1)?),
            _ => (setup.client, format!("/api/v1/revision-{}", self.revision)),
        };
        until_allowed(from, setup.listen, &path)
    }
}

fn first_path(setup: &Setup, source: usize) -> Result<String, Failure> {
    let mut rules = setup.rules.all().filter(|rule| rule.source == source && rule.method == "GET");
    Ok(rules.next().ok_or("there is no other source")?.path)
}

fn until_allowed(from: IpAddr, at: SocketAddr, path: &str) -> Result<(), Failure> {
    let end = Instant::now() + PATIENCE;
    loop {
        let status = http1(from, at, path)?;
        if status == 200 {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(format!("a change is not in force: GET {path} from {from} is answered {status}").into());
        }
        sleep(Duration::from_millis(10));
    }
}

/// Atomically, as editors and controllers do.
fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let fresh = path.with_extension("new");
    fs::write(&fresh, text)?;
    Ok(fs::rename(fresh, path)?)
}
