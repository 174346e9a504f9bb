//! `eastwall reach`: who can reach whom, with what.

use std::process::ExitCode;
use std::sync::Arc;

use eastwall_policy::analysis::cast::cast;
use eastwall_policy::analysis::reach::{Which, reach};
use eastwall_policy::analysis::space::{BUDGET, Options};
use eastwall_policy::world::World;

use super::documents::{Documents, now};
use super::output::{complain, print};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Where nobody says who is there (no --workloads and no Kubernetes objects), one workload stands for each role that the policies name.

Exit codes: 0 fine, 2 unusable call or a document has an error, 3 something could not be decided within the budget.

Examples:
  eastwall reach --policy policies/ --workloads workloads.yaml --to shop/orders
  eastwall reach --policy policies/ --workloads workloads.yaml --path shop/web shop/orders --format json
  eastwall reach --policy policies/ --workloads workloads.yaml --l4 --format dot | dot -Tsvg > reach.svg"
)]
pub(super) struct Reach {
    #[command(flatten)]
    documents: Documents,
    /// Who can reach this workload, `namespace/name`
    #[arg(long, value_name = "WORKLOAD")]
    to: Option<String>,
    /// What can this workload reach
    #[arg(long, value_name = "WORKLOAD")]
    from: Option<String>,
    /// One pair: source, then destination
    #[arg(long, num_args = 2, value_names = ["FROM", "TO"], conflicts_with_all = ["from", "to"])]
    path: Option<Vec<String>>,
    /// Ports and transports alone
    #[arg(long, conflicts_with = "l7")]
    l4: bool,
    /// Requests as well, which is the default
    #[arg(long)]
    l7: bool,
    /// Steps that may be taken
    #[arg(long, value_name = "STEPS", default_value_t = BUDGET)]
    budget: u64,
    /// How it is printed
    #[arg(long, value_enum, default_value_t)]
    format: Drawn,
}

/// How reachability is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Drawn {
    /// A paragraph a destination
    #[default]
    Table,
    /// One object
    Json,
    /// Graphviz
    Dot,
    /// A Mermaid flow chart
    Mermaid,
}

impl Reach {
    pub(super) fn run(&self) -> ExitCode {
        let world = match self.documents.world() {
            Ok(world) if world.registry().workloads.is_empty() => {
                World::new(Arc::clone(world.model()), Arc::new(cast(&[world.model()])), 1)
            }
            Ok(world) => world,
            Err(code) => return code,
        };
        let pair = self.path.as_deref().unwrap_or_default();
        let from = pair.first().or(self.from.as_ref());
        let to = pair.get(1).or(self.to.as_ref());
        for name in from.into_iter().chain(to) {
            let known =
                name.split_once('/').and_then(|(namespace, name)| world.registry().find_workload(namespace, name));
            if known.is_none() {
                complain(format_args!("eastwall: there is no workload `{name}`: write `namespace/name`"));
                return ExitCode::from(2);
            }
        }
        let which = Which { from: from.cloned(), to: to.cloned(), ports_alone: self.l4 };
        let reach = reach(&world, Options { now: now(), budget: self.budget, direction: None }, &which);
        let printed = match self.format {
            Drawn::Table => print(&reach),
            Drawn::Json => print(format_args!("{:#}\n", serde_json::json!(reach))),
            Drawn::Dot => print(reach.to_dot()),
            Drawn::Mermaid => print(reach.to_mermaid()),
        };
        printed.err().unwrap_or(if reach.undecided.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(3) })
    }
}
