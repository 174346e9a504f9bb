//! What a refused document falls back on.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Compiled, Refused, native};
use crate::model::{Model, Policy, PolicyName};
use crate::settings::Settings;

/// The last good version of every policy and of the settings. Made of what was compiled last, it knows nothing older.
#[derive(Clone, Debug, Default)]
pub struct LastGood {
    /// What was compiled, shared: ten thousand rules are not copied to be kept.
    model: Arc<Model>,
    /// Where each good policy stands in it.
    positions: BTreeMap<PolicyName, usize>,
    settings: Option<Settings>,
}

impl LastGood {
    /// What is good in this outcome: read now, or kept from before.
    #[must_use]
    pub fn of(compiled: &Compiled) -> Self {
        let good = compiled.model.policies.iter().enumerate().filter(|(_, policy)| !policy.broken);
        // Settings that never were good are a broken policy; the defaults beside it are nobody's choice.
        let lost = compiled.model.policies.iter().any(|policy| policy.broken && &*policy.name.kind == native::SETTINGS);
        Self {
            positions: good.map(|(position, policy)| (policy.name.clone(), position)).collect(),
            model: Arc::clone(&compiled.model),
            settings: (!lost).then(|| compiled.model.settings.clone()),
        }
    }

    fn policies(&self) -> impl Iterator<Item = (&PolicyName, &Policy)> {
        self.positions.iter().filter_map(|(name, position)| Some((name, self.model.policies.get(*position)?)))
    }

    pub(super) fn settings(&self) -> Option<&Settings> {
        self.settings.as_ref()
    }

    /// The policies that stand in for refused documents.
    ///
    /// A document whose name cannot be read may be any policy that its file held: all those that no document claims
    /// are kept. Where there is none it never had a good version.
    pub(super) fn keep(&self, refused: &[Refused], accepted: &[Policy]) -> Vec<Policy> {
        let mut kept: BTreeMap<&PolicyName, &Policy> = BTreeMap::new();
        let mut closures = Vec::new();
        for refused in refused {
            if refused.name.kind.is_empty() || refused.name.name.is_empty() {
                let claimed = |name: &PolicyName| accepted.iter().any(|policy| policy.name == *name);
                let of_file: Vec<_> = self
                    .policies()
                    .filter(|(name, policy)| lies_in(&policy.location.file, &refused.location.file) && !claimed(name))
                    .collect();
                if of_file.is_empty() {
                    closures.extend(refused.closure.clone());
                }
                kept.extend(of_file);
            } else if let Some(policy) =
                self.positions.get(&refused.name).and_then(|position| self.model.policies.get(*position))
            {
                kept.insert(&policy.name, policy);
            } else if self.settings.is_none() || &*refused.name.kind != native::SETTINGS {
                closures.extend(refused.closure.clone());
            }
        }
        kept.into_values().cloned().chain(closures).collect()
    }
}

/// Whether a policy's file is the one that cannot be read, or lies in the folder that cannot be read.
fn lies_in(file: &str, unreadable: &str) -> bool {
    file.strip_prefix(unreadable)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || unreadable.ends_with('/'))
}
