//! `eastwall diff OLD NEW`: what a change opens and closes.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use eastwall_policy::analysis::cast::cast;
use eastwall_policy::analysis::diff::{Difference, diff, replay};
use eastwall_policy::analysis::space::{BUDGET, Options};
use eastwall_policy::registry::Registry;
use eastwall_policy::world::World;

use super::check::Format;
use super::documents::{Loaded, load, now};
use super::output::{complain, print};
use crate::bounds::ReadingSettings;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Both sides are judged with the same workloads: those of --workloads and of the objects among NEW, else of OLD. Where neither
says who is there, one workload stands for each role that the policies name. Who may come in plaintext is each side's own word.

Exit codes: 0 nothing is opened, 1 access is wider somewhere, 2 unusable call or a document has an error,
3 something could not be decided within the budget.

Examples:
  eastwall diff main/policies branch/policies --workloads workloads.yaml
  git show main:policies.yaml | eastwall diff - policies.yaml --format json
  eastwall diff old/ new/ --workloads workloads.yaml --replay access.log"
)]
pub(super) struct Diff {
    /// The policies before: a file, a folder, or `-` for standard input
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// The policies after
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// The workloads, Services and nodes, for both sides
    #[arg(long, value_name = "FILE")]
    workloads: Option<PathBuf>,
    #[command(flatten)]
    reading: ReadingSettings,
    /// Recorded flows, the access log or requests of `decide`: what would they have met?
    #[arg(long, value_name = "FLOWS")]
    replay: Option<PathBuf>,
    /// Steps that the comparison may take
    #[arg(long, value_name = "STEPS", default_value_t = BUDGET)]
    budget: u64,
    /// Seconds since the epoch at which everything is judged [default: now]
    #[arg(long, value_name = "SECONDS")]
    now: Option<i64>,
    /// How the difference is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Diff {
    pub(super) fn run(&self) -> ExitCode {
        match self.difference() {
            Ok(difference) => {
                let printed = match self.format {
                    Format::Text => print(&difference),
                    Format::Json => print(format_args!("{:#}\n", serde_json::json!(difference))),
                };
                if let Err(code) = printed {
                    return code;
                }
                match (difference.is_wider(), difference.undecided.is_empty()) {
                    (true, _) => ExitCode::from(1),
                    (false, false) => ExitCode::from(3),
                    (false, true) => ExitCode::SUCCESS,
                }
            }
            Err(code) => code,
        }
    }

    fn difference(&self) -> Result<Difference, ExitCode> {
        for path in [&self.old, &self.new].into_iter().chain(&self.workloads).chain(&self.replay) {
            if path.as_os_str() != "-" && !path.exists() {
                complain(format_args!("eastwall: there is no `{}`", path.display()));
                return Err(ExitCode::from(2));
            }
        }
        let side = |path: &PathBuf| load(std::slice::from_ref(path), self.workloads.as_deref(), &self.reading.bounds());
        let (old, new) = (side(&self.old), side(&self.new));
        old.stop_at_errors()?;
        new.stop_at_errors()?;
        let [registry, registry_after] = shared(&old, &new);
        let now = self.now.unwrap_or_else(now);
        let before = World::new(old.compiled.model, registry, 1);
        let after = World::new(new.compiled.model, registry_after, 2);
        let mut difference = diff(&before, &after, Options { now, budget: self.budget, direction: None });
        if let Some(flows) = &self.replay {
            difference.replay = Some(self.replayed(&before, &after, flows, now)?);
        }
        Ok(difference)
    }

    fn replayed(
        &self,
        before: &World,
        after: &World,
        flows: &Path,
        now: i64,
    ) -> Result<eastwall_policy::analysis::diff::Replay, ExitCode> {
        let text = std::fs::read_to_string(flows).map_err(|error| {
            complain(format_args!("eastwall: cannot read `{}`: {error}", flows.display()));
            ExitCode::from(2)
        })?;
        replay(before, after, text.lines(), now).map_err(|(line, error)| {
            complain(format_args!("eastwall: {}:{line}: {error}", flows.display()));
            ExitCode::from(2)
        })
    }
}

/// One registry for both sides: a workload that only one of them knew would be a difference of its own. Who of it may come
/// in plaintext is each side's own word.
fn shared(old: &Loaded, new: &Loaded) -> [Arc<Registry>; 2] {
    let is_told = |side: &Loaded| side.registry.clone().filter(|registry| !registry.workloads.is_empty());
    match (is_told(old), is_told(new)) {
        (Some(before), Some(after)) => [Arc::new(after.with_inbound_mutual_tls_of(&before)), after],
        (Some(one), None) | (None, Some(one)) => [Arc::clone(&one), one],
        (None, None) => {
            let roles = Arc::new(cast(&[&old.compiled.model, &new.compiled.model]));
            [Arc::clone(&roles), roles]
        }
    }
}
