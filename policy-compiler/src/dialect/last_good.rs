//! What a refused document falls back on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Compiled, Memos, Refused, native};
use crate::model::{Model, Policy, PolicyName};
use crate::settings::Settings;

/// The last good version of every policy and of the settings. Made of what was compiled last, it knows nothing older.
#[derive(Clone, Debug, Default)]
pub struct LastGood {
    /// What was compiled, shared: ten thousand rules are not copied to be kept.
    model: Arc<Model>,
    /// Where the good policies of each name stand in it: one document may make several.
    positions: BTreeMap<PolicyName, Vec<usize>>,
    settings: Option<Settings>,
    memos: Arc<Memos>,
}

impl LastGood {
    /// Nothing yet, for a process that asks nobody whether what policies name exists: what is compiled onto this, and
    /// onto what came of it, has no mentions.
    #[must_use]
    pub fn without_mentions() -> Self {
        Self { memos: Arc::new(Memos::without_mentions()), ..Self::default() }
    }

    /// What is good in this outcome: read now, or kept from before.
    #[must_use]
    pub fn of(compiled: &Compiled) -> Self {
        let good = compiled.model.policies.iter().enumerate().filter(|(_, policy)| !policy.broken);
        // Settings that never were good are a broken policy; the defaults beside it are nobody's choice.
        let lost = compiled.model.policies.iter().any(|policy| policy.broken && &*policy.name.kind == native::SETTINGS);
        let mut positions: BTreeMap<PolicyName, Vec<usize>> = BTreeMap::new();
        for (position, policy) in good {
            positions.entry(policy.name.clone()).or_default().push(position);
        }
        Self {
            positions,
            model: Arc::clone(&compiled.model),
            memos: Arc::clone(&compiled.memos),
            settings: (!lost).then(|| compiled.model.settings.clone()),
        }
    }

    fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.positions.values().flatten().filter_map(|position| self.model.policies.get(*position))
    }

    /// What the documents were read as.
    pub(super) fn memos(&self) -> &Memos {
        &self.memos
    }

    pub(super) fn settings(&self) -> Option<&Settings> {
        self.settings.as_ref()
    }

    /// The policies that stand in for refused documents.
    ///
    /// A document whose name cannot be read may be any policy that its file held: all those that no document claims
    /// are kept. Where there is none it never had a good version. A name that another document claims (kinds of two
    /// groups may be called alike) is not this one's: an old version never stands beside a new one.
    pub(super) fn keep(&self, refused: &[Refused], accepted: &[Arc<Policy>]) -> Vec<Arc<Policy>> {
        if refused.is_empty() {
            return Vec::new();
        }
        let mut kept: BTreeMap<&PolicyName, Vec<&Arc<Policy>>> = BTreeMap::new();
        let mut closures = Vec::new();
        let claimed: BTreeSet<&PolicyName> = accepted.iter().map(|policy| &policy.name).collect();
        for refused in refused {
            if refused.name.kind.is_empty() || refused.name.name.is_empty() {
                let lies_there = |policy: &Arc<Policy>| lies_in(&policy.location.file, &refused.location.file);
                let of_file = self.policies().filter(|policy| lies_there(policy) && !claimed.contains(&policy.name));
                let names: BTreeSet<&PolicyName> = of_file.map(|policy| &policy.name).collect();
                if names.is_empty() {
                    closures.extend(refused.closure.clone().map(Arc::new));
                }
                kept.extend(names.into_iter().filter_map(|name| self.of_name(name)));
            } else if let Some((name, policies)) =
                self.of_name(&refused.name).filter(|(name, _)| !claimed.contains(name))
            {
                kept.insert(name, policies);
            } else if self.settings.is_none() || &*refused.name.kind != native::SETTINGS {
                closures.extend(refused.closure.clone().map(Arc::new));
            }
        }
        kept.into_values().flatten().cloned().chain(closures).collect()
    }

    /// Every policy that the last good version of a document made.
    fn of_name(&self, name: &PolicyName) -> Option<(&PolicyName, Vec<&Arc<Policy>>)> {
        let (name, positions) = self.positions.get_key_value(name)?;
        Some((name, positions.iter().filter_map(|position| self.model.policies.get(*position)).collect()))
    }
}

/// Whether a policy's file is the one that cannot be read, or lies in the folder that cannot be read.
fn lies_in(file: &str, unreadable: &str) -> bool {
    file.strip_prefix(unreadable)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || unreadable.ends_with('/'))
}
