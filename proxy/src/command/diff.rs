//! `eastwall diff OLD NEW`: what a change of policies opens and closes, with a request that shows each.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use eastwall_policy::analysis::diff::{diff, replay};
use eastwall_policy::analysis::space::{BUDGET, Options};
use eastwall_policy::facts::Direction;
use eastwall_policy::registry::Registry;
use eastwall_policy::world::World;

use super::check::Format;
use super::documents::{compile, now, registry};

/// Tell what a change of policies opens and closes, by meaning
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 nothing passes that did not pass before, 1 access is wider, 2 unusable call,
3 something is undecided.

Examples:
  eastwall diff main/policies/ policies/ --workloads workloads.yaml
  eastwall diff old.yaml new.yaml --workloads workloads.yaml --replay access.log --format json")]
pub(super) struct Diff {
    /// File or folder of the policies as they were
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// File or folder of the policies as they shall be
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// The workloads, Services and nodes: a YAML list
    #[arg(long, value_name = "FILE")]
    workloads: Option<PathBuf>,
    /// Also judge recorded flows by both: requests of `decide` or lines of the access log
    #[arg(long, value_name = "FLOWS")]
    replay: Option<PathBuf>,
    /// Judge one side alone
    #[arg(long, value_enum)]
    direction: Option<Side>,
    /// Steps that the comparison of two sets of rules may take
    #[arg(long, value_name = "STEPS", default_value_t = BUDGET)]
    budget: u64,
    /// Seconds since the epoch at which everything is judged [default: the clock]
    #[arg(long, value_name = "SECONDS")]
    now: Option<i64>,
    /// How the difference is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// One side of a flow.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Side {
    /// At the destination
    Inbound,
    /// At the source
    Outbound,
}

impl Diff {
    pub(super) fn run(&self) -> ExitCode {
        match self.compare() {
            Ok(code) | Err(code) => code,
        }
    }

    fn compare(&self) -> Result<ExitCode, ExitCode> {
        for path in [&self.old, &self.new] {
            if path.as_os_str() != "-" && !path.exists() {
                eprintln!("error: there is no `{}`", path.display());
                return Err(ExitCode::from(2));
            }
        }
        let registry = Arc::new(registry(self.workloads.as_deref())?);
        let old = world(&self.old, &registry)?;
        let new = world(&self.new, &registry)?;
        let now = self.now.unwrap_or_else(now);
        let direction = self.direction.map(|side| match side {
            Side::Inbound => Direction::Inbound,
            Side::Outbound => Direction::Outbound,
        });
        let mut difference = diff(&old, &new, Options { now, budget: self.budget, direction });
        if let Some(path) = &self.replay {
            let flows = std::fs::read_to_string(path).map_err(|error| {
                eprintln!("error: cannot read {}: {error}", path.display());
                ExitCode::from(2)
            })?;
            let replayed = replay(&old, &new, flows.lines(), now).map_err(|(line, error)| {
                eprintln!("error: {}:{line}: {error}", path.display());
                ExitCode::from(2)
            })?;
            difference.replay = Some(replayed);
        }
        match self.format {
            Format::Json => {
                let text = serde_json::to_string_pretty(&difference).map_err(|_| ExitCode::from(2))?;
                println!("{text}");
            }
            _ => print!("{difference}"),
        }
        Ok(if difference.is_wider() {
            ExitCode::from(1)
        } else if difference.undecided.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(3)
        })
    }
}

fn world(path: &Path, registry: &Arc<Registry>) -> Result<World, ExitCode> {
    let compiled = compile(&[path.to_owned()])?;
    Ok(World::new(compiled.model, Arc::clone(registry), 1))
}
