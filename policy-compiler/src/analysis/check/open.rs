//! Workloads that nobody protects in a direction: what a deleted or misspelt policy leaves behind.

use crate::analysis::exposure;
use crate::diagnostic::{Code, Diagnostic, Location};
use crate::facts::Direction;
use crate::model::Model;
use crate::registry::Registry;

/// A finding for each direction in which some workload stands open.
pub(super) fn directions(model: &Model, registry: &Registry) -> Vec<Diagnostic> {
    [(Direction::Inbound, "ingress"), (Direction::Outbound, "egress")]
        .into_iter()
        .filter_map(|(direction, word)| {
            let open = exposure::open(model, registry, direction);
            let (first, total) = (open.first()?, open.len());
            let mut message = format!("no policy closes {word} of `{}/{}`", first.namespace, first.name);
            if total > 1 {
                let more: Vec<String> =
                    open.iter().skip(1).take(SHOWN).map(|open| format!("`{}/{}`", open.namespace, open.name)).collect();
                let rest = total - 1 - more.len();
                message = format!("{message}, {}", more.join(", "));
                if rest > 0 {
                    message = format!("{message} and {rest} more");
                }
            }
            let location = Location { file: "workloads".into(), line: 1, column: 1 };
            let help = "whatever is not denied may pass there; a baseline policy closes what no team has closed";
            Some(Diagnostic::new(Code::Open, location, message).help(help))
        })
        .collect()
}

/// Workloads that are named beside the first.
const SHOWN: usize = 4;
