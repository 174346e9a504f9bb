//! What every command that asks about policies is given: files and folders of policies, and a workloads file.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use eastwall_policy::diagnostic::{Diagnostic, Style, as_text};
use eastwall_policy::dialect::{self, Compiled};
use eastwall_policy::registry::Registry;
use eastwall_policy::source;
use eastwall_policy::world::World;

/// Where policies and workloads are.
#[derive(Debug, clap::Args)]
pub(super) struct Documents {
    /// A file or folder of policies; may be repeated
    #[arg(long = "policy", value_name = "PATH")]
    policies: Vec<PathBuf>,
    /// The workloads, Services and nodes: a YAML list
    #[arg(long, value_name = "FILE")]
    workloads: Option<PathBuf>,
}

impl Documents {
    /// Compiles all of it into a world; a document with an error ends the call.
    ///
    /// # Errors
    /// The exit code, once the diagnostics are printed.
    pub(super) fn world(&self) -> Result<World, ExitCode> {
        let compiled = compile(&self.policies)?;
        Ok(World::new(compiled.model, Arc::new(self.registry()?), 1))
    }

    fn registry(&self) -> Result<Registry, ExitCode> {
        registry(self.workloads.as_deref())
    }
}

/// Compiles policies; errors are printed and end the call.
pub(super) fn compile(paths: &[PathBuf]) -> Result<Compiled, ExitCode> {
    let compiled = dialect::compile(&source::read(paths));
    stop_at_errors(&compiled.diagnostics)?;
    Ok(compiled)
}

/// Reads the workloads file; without one nobody is registered.
pub(super) fn registry(path: Option<&std::path::Path>) -> Result<Registry, ExitCode> {
    let Some(path) = path else { return Ok(Registry::default()) };
    let (registry, diagnostics) = Registry::read(path);
    stop_at_errors(&diagnostics)?;
    Ok(registry)
}

fn stop_at_errors(diagnostics: &[Diagnostic]) -> Result<(), ExitCode> {
    let mut errors = diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).peekable();
    if errors.peek().is_none() {
        return Ok(());
    }
    let mut out = std::io::stderr().lock();
    let style = if out.is_terminal() { Style::Coloured } else { Style::Plain };
    for error in errors {
        // Where standard error is closed the exit code still tells.
        let _ = write!(out, "{}", as_text(error, style));
    }
    Err(ExitCode::from(2))
}

/// Seconds since the epoch.
pub(super) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.ok().and_then(|since| i64::try_from(since.as_secs()).ok()).unwrap_or(i64::MAX)
}
