//! What every command that asks about policies is given: files and folders of policies and Kubernetes objects, and a
//! workloads file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use eastwall_policy::diagnostic::{Diagnostic, as_text};
use eastwall_policy::dialect::{self, Compiled};
use eastwall_policy::registry::Registry;
use eastwall_policy::source::{self, Bounds, Sources};
use eastwall_policy::world::World;

use super::output;
use crate::bounds::ReadingSettings;

// Where policies and workloads are.
#[derive(Debug, clap::Args)]
pub(super) struct Documents {
    /// A file or folder of policies, and of Kubernetes objects that say who is where; may be repeated
    #[arg(long = "policy", value_name = "PATH")]
    policies: Vec<PathBuf>,
    /// The workloads, Services and nodes: a YAML list. Its entries win over objects of the same name
    #[arg(long, value_name = "FILE")]
    workloads: Option<PathBuf>,
    #[command(flatten)]
    reading: ReadingSettings,
}

impl Documents {
    /// Compiles all of it into a world; a document with an error ends the call.
    ///
    /// # Errors
    /// The exit code, once the diagnostics are printed.
    pub(super) fn world(&self) -> Result<World, ExitCode> {
        let loaded = load(&self.policies, self.workloads.as_deref(), &self.reading.bounds());
        loaded.stop_at_errors()?;
        Ok(World::new(loaded.compiled.model, loaded.registry.unwrap_or_default(), 1))
    }
}

/// Everything that was read.
pub(super) struct Loaded {
    pub(super) sources: Sources,
    pub(super) compiled: Compiled,
    /// Who is where; `None` where neither a workloads file nor an object says anything of it.
    pub(super) registry: Option<Arc<Registry>>,
    /// What is wrong with any of it.
    pub(super) findings: Vec<Diagnostic>,
}

impl Loaded {
    /// Prints errors, if there are any.
    ///
    /// # Errors
    /// The exit code, if there were.
    pub(super) fn stop_at_errors(&self) -> Result<(), ExitCode> {
        stop_at_errors(&self.findings)
    }
}

/// Reads policies, the objects beside them, and the workloads file.
pub(super) fn load(paths: &[PathBuf], workloads: Option<&Path>, bounds: &Bounds) -> Loaded {
    let sources = source::read_within(paths, bounds);
    let compiled = dialect::compile(&sources);
    let is_told = workloads.is_some() || !compiled.objects.is_empty();
    let (registry, mut findings) = registry(&compiled, workloads, bounds);
    findings.extend(compiled.diagnostics.iter().cloned());
    Loaded { sources, compiled, registry: is_told.then(|| Arc::new(registry)), findings }
}

/// The workloads file joined with the objects beside the policies; without either nobody is registered.
pub(super) fn registry(compiled: &Compiled, workloads: Option<&Path>, bounds: &Bounds) -> (Registry, Vec<Diagnostic>) {
    let (file, mut findings) = workloads.map(|path| Registry::read_within(path, bounds)).unwrap_or_default();
    let (registry, found) = compiled.registry(file);
    findings.extend(found);
    (registry, findings)
}

fn stop_at_errors(diagnostics: &[Diagnostic]) -> Result<(), ExitCode> {
    let mut errors = diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).peekable();
    if errors.peek().is_none() {
        return Ok(());
    }
    let style = output::style(&std::io::stderr());
    errors.for_each(|error| output::complain(as_text(error, style).trim_end()));
    Err(ExitCode::from(2))
}

/// Seconds since the epoch.
pub(super) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.ok().and_then(|since| i64::try_from(since.as_secs()).ok()).unwrap_or(i64::MAX)
}
