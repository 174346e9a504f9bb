//! `eastwall schema [KIND]`: the native kinds as JSON Schema, or as definitions for the Kubernetes API.

use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use eastwall_policy::dialect::{crds, schemas};

use super::output;

#[derive(Debug, clap::Args)]
#[command(after_help = "Without KIND: one schema that accepts each of them; with --crd a List of their definitions.

Exit codes: 0 printed, 2 unusable call.

Examples:
  eastwall schema FirewallPolicy > firewallpolicy.json
  eastwall schema > eastwall.json        # then, as the first line of a policy: # yaml-language-server: $schema=eastwall.json
  eastwall schema --crd | kubectl apply --server-side -f -")]
pub(super) struct Schema {
    /// Which of them
    #[arg(value_name = "KIND", value_parser = PossibleValuesParser::new(schemas().into_iter().map(|(kind, _)| kind)))]
    kind: Option<String>,
    /// Print what Kubernetes asks for instead: a CustomResourceDefinition
    #[arg(long)]
    crd: bool,
}

impl Schema {
    pub(super) fn run(&self) -> ExitCode {
        let all = if self.crd { crds() } else { schemas() };
        let wanted = match &self.kind {
            Some(kind) => all.into_iter().find(|(name, _)| name == kind).map(|(_, schema)| schema),
            None => {
                let each: Vec<_> = all.into_iter().map(|(_, schema)| schema).collect();
                Some(match self.crd {
                    true => serde_json::json!({"apiVersion": "v1", "kind": "List", "items": each}),
                    false => {
                        serde_json::json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "oneOf": each})
                    }
                })
            }
        };
        let Some(wanted) = wanted else { return ExitCode::from(2) };
        output::print(format_args!("{wanted:#}\n")).err().unwrap_or(ExitCode::SUCCESS)
    }
}
