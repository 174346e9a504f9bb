//! `eastwall redirect apply|delete|print`: the rules that bring a pod's traffic to the proxy.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use eastwall_policy::diagnostic::{Diagnostic, Style, as_text};
use eastwall_policy::model::Model;
use eastwall_policy::registry::{Registry, WorkloadId};
use eastwall_policy::world::World;

use super::output::{complain, print};
use crate::config::BypassSettings;
use crate::intercept::rules::{Admission, MARK_RETURN, Ruleset, Unproxied};
use crate::intercept::rules::{Counts, Exclusion, Family, Ports, ROUTE_PRIORITY, ROUTE_TABLE};
use crate::intercept::{Handed, Namespace, NodeSetup, Plan, admission, install, node, resolvers};

/// Uid of a sidecar, unless told otherwise.
const SIDECAR_UID: u32 = 15106;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  eastwall redirect apply --mode sidecar --uid 15106 --bypass-outbound-ports 9443
  eastwall redirect apply --mode node --workloads workloads.yaml --policy policies/
  eastwall redirect print --mode sidecar
  eastwall redirect delete --mode node --workloads workloads.yaml
  eastwall redirect delete --mode node --netns-folder /run/netns
  eastwall redirect delete --mode node --cni-state /run/eastwall/pods.json

Until the proxy listens, and after it died, redirected connections are refused.
Without --policy everything but TCP is closed, --allow-resolvers excepted; ICMP errors and echo always pass.

Exit codes: 0 done, 2 nothing was changed (an unusable call, a document with an error, missing privileges).")]
pub(super) struct Redirect {
    /// What to do
    action: Action,
    /// sidecar: inside one pod; node: inside each pod of the workloads file
    #[arg(long)]
    mode: Mode,
    /// Uid of the proxy; no other container of the pod may have it [default: 15106 for a sidecar, one's own for a node]
    #[arg(long)]
    uid: Option<u32>,
    /// Port that gets what arrives at the pod
    #[arg(long, default_value_t = Ports::default().inbound)]
    inbound_port: u16,
    /// Port that gets what the pod opens
    #[arg(long, default_value_t = Ports::default().outbound)]
    outbound_port: u16,
    /// IP versions to redirect; TCP of the other one is refused where a policy closes the workload
    #[arg(long, value_enum, default_value_t = Family::Both)]
    family: Family,
    /// Sidecar: path of the pod's network namespace [default: the current one]
    #[arg(long, value_name = "PATH")]
    netns: Option<PathBuf>,
    /// Node, to delete: every network namespace in this folder, whatever pod it is of
    #[arg(long, value_name = "DIR", conflicts_with_all = ["workloads", "netns", "cni_state"])]
    netns_folder: Option<PathBuf>,
    /// Workloads file; in node mode its entries with `netns` are the pods
    #[arg(long, value_name = "FILE")]
    workloads: Option<PathBuf>,
    /// Node: the pods that the CNI plugin has handed over too, as the proxy's --cni-state keeps them
    #[arg(long, value_name = "FILE")]
    cni_state: Option<PathBuf>,
    /// Policies that say what may pass besides TCP
    #[arg(long, value_name = "PATH", requires = "workloads")]
    policy: Vec<PathBuf>,
    /// Sidecar: which workload of the file this pod is
    #[arg(long, value_name = "NAMESPACE/NAME", requires = "workloads")]
    workload: Option<String>,
    /// Node: only the pods of this node
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Sidecar without --policy: let UDP questions pass to the name servers of this file, as a rule
    /// /etc/resolv.conf; answers too
    #[arg(long, value_name = "FILE", conflicts_with = "policy")]
    allow_resolvers: Option<PathBuf>,
    #[command(flatten)]
    bypass: BypassSettings,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Action {
    /// Make them, or bring them up to date: all or nothing
    Apply,
    /// Remove every trace of them
    Delete,
    /// Show them as nft reads them
    Print,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    /// In one pod
    Sidecar,
    /// In every pod of a node
    Node,
}

impl Redirect {
    pub(super) fn run(&self) -> ExitCode {
        match self.act() {
            Ok(told) => print(told).err().unwrap_or(ExitCode::SUCCESS),
            Err(error) => {
                complain(format_args!("eastwall redirect: {error}"));
                ExitCode::from(2)
            }
        }
    }

    /// What is to be printed.
    fn act(&self) -> Result<String, Box<dyn std::error::Error>> {
        if self.inbound_port == self.outbound_port {
            return Err("the two listeners need different ports".into());
        }
        if self.mode == Mode::Node && self.allow_resolvers.is_some() {
            return Err("`--allow-resolvers` belongs to sidecar mode: for the pods of a node policies say it".into());
        }
        if self.netns_folder.is_some() && (self.mode, self.action) != (Mode::Node, Action::Delete) {
            return Err("`--netns-folder` is for `redirect delete --mode node`".into());
        }
        let says_which = self.workloads.is_some() || self.cni_state.is_some() || self.netns_folder.is_some();
        if self.mode == Mode::Node && !says_which {
            let say = "say which pods: `--workloads FILE`, `--cni-state FILE`, or to delete `--netns-folder DIR`";
            return Err(say.into());
        }
        let world = self.world()?;
        if self.action == Action::Delete {
            install::delete(&self.namespaces(&world)?)?;
            return Ok(String::new());
        }
        let plans = match self.mode {
            Mode::Sidecar => vec![self.sidecar(&world)?],
            Mode::Node => self.pods(&world)?,
        };
        if self.action == Action::Print {
            return Ok(plans.iter().map(told).collect());
        }
        install::apply(&plans)?;
        Ok(String::new())
    }

    /// No table: whoever is registered is closed.
    fn world(&self) -> Result<World, Box<dyn std::error::Error>> {
        let registry = match &self.workloads {
            Some(path) => {
                let (registry, diagnostics) = Registry::read(path);
                refuse(&diagnostics)?;
                registry
            }
            None => Registry::default(),
        };
        let Some(model) = self.model()? else { return Ok(World::closed(Arc::new(registry), 1)) };
        Ok(World::new(model, Arc::new(registry), 1))
    }

    fn model(&self) -> Result<Option<Arc<Model>>, Box<dyn std::error::Error>> {
        if self.policy.is_empty() {
            return Ok(None);
        }
        let compiled = eastwall_policy::dialect::compile(&eastwall_policy::source::read(&self.policy));
        refuse(&compiled.diagnostics)?;
        Ok(Some(compiled.model))
    }

    fn namespaces(&self, world: &World) -> Result<Vec<Arc<Namespace>>, Box<dyn std::error::Error>> {
        if self.mode == Mode::Sidecar {
            return Ok(vec![self.own_namespace()?]);
        }
        let paths: Vec<PathBuf> = match &self.netns_folder {
            Some(folder) => listed(folder).map_err(|error| format!("{}: {error}", folder.display()))?,
            None => {
                let handed = self.handed()?;
                let members = node::members(world, self.node.as_deref(), &handed);
                members.into_iter().map(|node::Member { path, .. }| path.to_owned()).collect()
            }
        };
        let mut open = Vec::new();
        for path in paths {
            match Namespace::enter(&path) {
                Ok(namespace) => open.push(Arc::new(namespace)),
                // A namespace that is gone has no rules.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                // In a folder its file stays behind.
                Err(error) if self.netns_folder.is_some() && error.kind() == std::io::ErrorKind::InvalidInput => {}
                Err(error) => return Err(format!("{}: {error}", path.display()).into()),
            }
        }
        Ok(open)
    }

    fn handed(&self) -> std::io::Result<Handed> {
        self.cni_state.as_deref().map_or_else(|| Ok(Handed::default()), Handed::load)
    }

    fn own_namespace(&self) -> Result<Arc<Namespace>, Box<dyn std::error::Error>> {
        let opened = match &self.netns {
            Some(path) => Namespace::enter(path).map_err(|error| format!("{}: {error}", path.display()))?,
            None => Namespace::current()?,
        };
        Ok(Arc::new(opened))
    }

    fn sidecar(&self, world: &World) -> Result<Plan, Box<dyn std::error::Error>> {
        let unproxied = match self.own_workload(world)? {
            Some(id) if !self.policy.is_empty() => admission::unproxied(world, id, now()),
            _ => self.resolvers()?,
        };
        let ruleset = Ruleset {
            uid: self.uid.unwrap_or(SIDECAR_UID),
            ports: self.ports(),
            family: self.family,
            bypass: self.bypass.to_bypass(),
            exclusion: Exclusion::Uid,
            unproxied,
        };
        Ok(Plan { namespace: self.own_namespace()?, ruleset })
    }

    /// All is closed but the way to the name servers, where that was asked for.
    fn resolvers(&self) -> Result<Unproxied, String> {
        let Some(path) = &self.allow_resolvers else { return Ok(Unproxied::default()) };
        let text =
            std::fs::read_to_string(path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
        let outbound = Admission::Closed(resolvers::openings(&text));
        Ok(Unproxied { outbound, ..Unproxied::default() })
    }

    fn own_workload(&self, world: &World) -> Result<Option<WorkloadId>, String> {
        let Some(name) = &self.workload else {
            return if self.policy.is_empty() {
                Ok(None)
            } else {
                Err("--policy needs --workload in sidecar mode".into())
            };
        };
        let found = name.split_once('/').and_then(|(namespace, name)| world.registry().find_workload(namespace, name));
        found.map(Some).ok_or_else(|| format!("no workload `{name}` in the workloads file"))
    }

    fn pods(&self, world: &World) -> Result<Vec<Plan>, Box<dyn std::error::Error>> {
        let setup = NodeSetup {
            node: self.node.as_deref().map(Arc::from),
            uid: self.uid.unwrap_or_else(|| rustix::process::geteuid().as_raw()),
            ports: self.ports(),
            family: self.family,
            bypass: self.bypass.to_bypass(),
        };
        let mut plans = Vec::new();
        let handed = self.handed()?;
        for member in node::members(world, self.node.as_deref(), &handed) {
            let path = member.path;
            let namespace = Namespace::enter(path).map_err(|error| format!("{}: {error}", path.display()))?;
            plans.push(node::plan(&setup, world, &member, Arc::new(namespace), now())?);
        }
        if plans.is_empty() {
            return Err("no workload of this node has a `netns` in the workloads file, and none was handed over".into());
        }
        Ok(plans)
    }

    fn ports(&self) -> Ports {
        Ports { inbound: self.inbound_port, outbound: self.outbound_port }
    }
}

fn listed(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
}

fn refuse(diagnostics: &[Diagnostic]) -> Result<(), String> {
    let errors: Vec<String> = diagnostics.iter().filter(|d| d.is_error()).map(|d| as_text(d, Style::Plain)).collect();
    if errors.is_empty() { Ok(()) } else { Err(format!("nothing was changed\n{}", errors.join("\n"))) }
}

/// As `print` tells it: a ruleset of nftables, with what else is done as comments.
fn told(plan: &Plan) -> String {
    let mut text = format!("# {}\n", plan.namespace);
    if plan.ruleset.needs_return_route() {
        for (version, all) in [("-4", "0.0.0.0/0"), ("-6", "::/0")] {
            text.push_str(&format!("# ip {version} route replace local {all} dev lo table {ROUTE_TABLE}\n"));
            let rule = format!("pref {ROUTE_PRIORITY} fwmark {MARK_RETURN} lookup {ROUTE_TABLE}");
            text.push_str(&format!("# ip {version} rule add {rule}\n"));
        }
    }
    text + &plan.ruleset.text(&Counts::new())
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
