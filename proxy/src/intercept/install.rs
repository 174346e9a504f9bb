//! Puts rules into network namespaces and takes them out: idempotent, and all or nothing over several.
//!
//! Runs `nft` and `ip` on the thread that lives inside the namespace. One transaction of nft makes both tables of a
//! namespace; if anything fails anywhere, every namespace gets back what it had.

use std::io::{self, Write as _};
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::Namespace;
use super::rules::{self, Count, Counts, MARK_RETURN, ROUTE_PRIORITY, ROUTE_TABLE, Ruleset, TABLE};

/// Rules for one namespace.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Where.
    pub(crate) namespace: Arc<Namespace>,
    /// What.
    pub(crate) ruleset: Ruleset,
}

/// Why rules could not be changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    /// A tool is not there.
    #[error("cannot run `{tool}`: {source} (is the package that provides it installed?)")]
    Missing {
        /// Its name.
        tool: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A tool refused.
    #[error("`{tool}` failed: {message} (changing rules needs CAP_NET_ADMIN in the namespace)")]
    Refused {
        /// Its name.
        tool: &'static str,
        /// The first lines of what it said.
        message: String,
    },
    /// The thread inside the namespace is gone.
    #[error("the network namespace cannot be used: {0}")]
    Namespace(#[from] io::Error),
    /// Two workloads name one namespace.
    #[error("another workload has this network namespace already")]
    Taken,
    /// One namespace of several, and what became of the others.
    #[error("{namespace}: {source}{rollback}")]
    In {
        /// Which.
        namespace: String,
        /// Why.
        source: Box<Self>,
        /// Empty if every other namespace has what it had before.
        rollback: String,
    },
}

/// Applies every plan or none.
pub(crate) fn apply(plans: &[Plan]) -> Result<(), InstallError> {
    let mut done: Vec<(&Plan, Snapshot)> = Vec::new();
    for plan in plans {
        let ruleset = plan.ruleset.clone();
        let outcome = inside(&plan.namespace, move || {
            let before = snapshot()?;
            install(&ruleset, &before.counts).map_err(|error| match restore(&before) {
                Ok(()) => error,
                Err(second) => {
                    InstallError::Refused { tool: "nft", message: format!("{error}; and rolling back: {second}") }
                }
            })?;
            Ok(before)
        });
        match outcome {
            Ok(before) => done.push((plan, before)),
            Err(source) => {
                let rollback = roll_back(done);
                return Err(InstallError::In {
                    namespace: plan.namespace.to_string(),
                    source: Box::new(source),
                    rollback,
                });
            }
        }
    }
    Ok(())
}

/// Removes everything that [`apply`] makes, from every namespace; goes on after a failure and returns the first.
pub(crate) fn delete(namespaces: &[Arc<Namespace>]) -> Result<(), InstallError> {
    let mut first = Ok(());
    for namespace in namespaces {
        let outcome = inside(namespace, || {
            nft(&rules::removal())?;
            VERSIONS.iter().try_for_each(remove_return_route)
        });
        if let (Ok(()), Err(source)) = (&first, outcome) {
            let namespace = namespace.to_string();
            first = Err(InstallError::In { namespace, source: Box::new(source), rollback: String::new() });
        }
    }
    first
}

/// The named counters of a namespace.
pub(crate) fn counts(namespace: &Namespace) -> Result<Counts, InstallError> {
    inside(namespace, read_counts)
}

/// Every device of a namespace but loopback.
pub(crate) fn devices(namespace: &Namespace) -> Result<Vec<String>, InstallError> {
    inside(namespace, || {
        // Not /sys, which shows the namespace that it was mounted in.
        let text = std::fs::read_to_string("/proc/thread-self/net/dev")?;
        let names = text.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim().to_owned());
        Ok(names.filter(|name| name != "lo").collect())
    })
}

fn inside<T: Send + 'static>(
    namespace: &Namespace,
    work: impl FnOnce() -> Result<T, InstallError> + Send + 'static,
) -> Result<T, InstallError> {
    namespace.run_blocking(work)?
}

fn roll_back(done: Vec<(&Plan, Snapshot)>) -> String {
    let mut failures = String::new();
    for (plan, before) in done.into_iter().rev() {
        if let Err(error) = inside(&plan.namespace, move || restore(&before)) {
            failures.push_str(&format!("; {} could not be rolled back: {error}", plan.namespace));
        }
    }
    failures
}

/// What a namespace had.
#[derive(Debug)]
struct Snapshot {
    /// Text of our tables, as nft lists them.
    tables: String,
    counts: Counts,
    /// Which IP versions had the return route.
    routes: Vec<&'static Version>,
}

fn snapshot() -> Result<Snapshot, InstallError> {
    let listing = run("nft", &["list", "tables"], "")?;
    let mut tables = String::new();
    for family in ["inet", "netdev"] {
        if listing.lines().any(|line| line.trim() == format!("table {family} {TABLE}")) {
            tables.push_str(&run("nft", &["list", "table", family, TABLE], "")?);
        }
    }
    let counts = if tables.is_empty() { Counts::new() } else { read_counts()? };
    let mut routes = Vec::new();
    for version in VERSIONS.iter().filter(|version| version.is_there()) {
        if version.has_rule()? {
            routes.push(version);
        }
    }
    Ok(Snapshot { tables, counts, routes })
}

fn restore(before: &Snapshot) -> Result<(), InstallError> {
    nft(&format!("{}{}", rules::removal(), before.tables))?;
    for version in &VERSIONS {
        if before.routes.iter().any(|had| had.flag == version.flag) {
            add_return_route(version)?;
        } else {
            remove_return_route(version)?;
        }
    }
    Ok(())
}

/// Routes first: without them an answer to a transparent socket would leave the pod.
fn install(ruleset: &Ruleset, counts: &Counts) -> Result<(), InstallError> {
    let family = ruleset.family;
    for (version, wanted) in VERSIONS.iter().zip([family.v4(), family.v6()]) {
        if wanted && ruleset.needs_return_route() {
            add_return_route(version)?;
        } else {
            remove_return_route(version)?;
        }
    }
    nft(&ruleset.text(counts))
}

fn nft(text: &str) -> Result<(), InstallError> {
    run("nft", &["-f", "-"], text).map(drop)
}

fn read_counts() -> Result<Counts, InstallError> {
    let text = run("nft", &["-j", "list", "counters"], "")?;
    let listing: serde_json::Value = serde_json::from_str(&text)
        .map_err(|error| InstallError::Refused { tool: "nft", message: format!("its JSON cannot be read: {error}") })?;
    let entries = listing.get("nftables").and_then(serde_json::Value::as_array).map_or(&[][..], Vec::as_slice);
    let counters = entries.iter().filter_map(|entry| entry.get("counter"));
    let ours = counters.filter(|counter| counter.get("table").and_then(serde_json::Value::as_str) == Some(TABLE));
    Ok(ours
        .filter_map(|counter| {
            let number = |key| counter.get(key).and_then(serde_json::Value::as_u64);
            let name = counter.get("name")?.as_str()?.to_owned();
            Some((name, Count { packets: number("packets")?, bytes: number("bytes")? }))
        })
        .collect())
}

/// One IP version, as `ip` and /proc name it.
#[derive(Debug)]
struct Version {
    flag: &'static str,
    proc: &'static str,
    all: &'static str,
}

const VERSIONS: [Version; 2] = [
    Version { flag: "-4", proc: "/proc/sys/net/ipv4", all: "0.0.0.0/0" },
    Version { flag: "-6", proc: "/proc/sys/net/ipv6", all: "::/0" },
];

impl Version {
    fn is_there(&self) -> bool {
        std::path::Path::new(self.proc).exists()
    }

    fn has_rule(&self) -> Result<bool, InstallError> {
        let listing = run("ip", &[self.flag, "rule", "show", "pref", &ROUTE_PRIORITY.to_string()], "")?;
        Ok(listing.lines().any(|line| line.contains(&format!("lookup {ROUTE_TABLE}"))))
    }
}

fn add_return_route(version: &Version) -> Result<(), InstallError> {
    if !version.is_there() {
        return Ok(());
    }
    let (table, priority, mark) = (ROUTE_TABLE.to_string(), ROUTE_PRIORITY.to_string(), MARK_RETURN.to_string());
    run("ip", &[version.flag, "route", "replace", "local", version.all, "dev", "lo", "table", &table], "")?;
    if !version.has_rule()? {
        run("ip", &[version.flag, "rule", "add", "pref", &priority, "fwmark", &mark, "lookup", &table], "")?;
    }
    Ok(())
}

fn remove_return_route(version: &Version) -> Result<(), InstallError> {
    if !version.is_there() {
        return Ok(());
    }
    let (table, priority) = (ROUTE_TABLE.to_string(), ROUTE_PRIORITY.to_string());
    while version.has_rule()? {
        run("ip", &[version.flag, "rule", "del", "pref", &priority, "lookup", &table], "")?;
    }
    // A table that was never made is an error to `ip route show`, and an empty one nothing to flush.
    if run("ip", &[version.flag, "route", "show", "table", &table], "").is_ok_and(|routes| !routes.trim().is_empty()) {
        run("ip", &[version.flag, "route", "flush", "table", &table], "")?;
    }
    Ok(())
}

/// Runs a tool in the namespace of this thread; a child inherits it.
fn run(tool: &'static str, arguments: &[&str], input: &str) -> Result<String, InstallError> {
    let missing = |source| InstallError::Missing { tool, source };
    let mut child = Command::new(tool)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(missing)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A tool that ends before it read everything says why on its standard error.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(missing)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let message = said.lines().take(4).collect::<Vec<_>>().join("; ");
    Err(InstallError::Refused { tool, message })
}
