//! What verdicts name, by position: from an id to the rule, and back.

use super::{Model, Policy, Rule};
use crate::verdict::{RuleId, RuleRef};

/// Where the rules of each policy start among all rules of a model.
#[derive(Clone, Debug)]
pub(crate) struct Positions {
    /// The first rule of each policy, and behind the last one the number of all.
    starts: Box<[u32]>,
}

impl Positions {
    /// Those of a model.
    pub(crate) fn of(model: &Model) -> Self {
        let ends = model.policies.iter().scan(0u32, |end, policy| {
            *end = end.saturating_add(count(policy));
            Some(*end)
        });
        Self { starts: std::iter::once(0).chain(ends).collect() }
    }

    /// The first rule of a policy.
    pub(crate) fn start(&self, policy: u32) -> Option<u32> {
        self.starts.get(policy as usize).copied()
    }

    /// How many policies there are.
    pub(crate) fn policies(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// How many rules there are.
    pub(crate) fn rules(&self) -> usize {
        self.starts.last().map_or(0, |count| *count as usize)
    }

    /// What an id names in the same model.
    pub(crate) fn named<'m>(&self, id: RuleId, model: &'m Model) -> Option<RuleRef<'m>> {
        match id {
            RuleId::Policy(position) => {
                let policy = model.policies.get(position as usize)?;
                Some(RuleRef { policy: &policy.name, rule: None, location: &policy.location })
            }
            RuleId::Rule(position) => {
                let before = self.starts.partition_point(|start| *start <= position).checked_sub(1)?;
                let policy = model.policies.get(before)?;
                let rule = policy.rules.get((position - self.starts.get(before)?) as usize)?;
                Some(RuleRef { policy: &policy.name, rule: Some(&rule.name), location: &rule.location })
            }
        }
    }
}

impl Model {
    /// The id of a policy of this model, or of one of its rules. Slow: it looks through all of them.
    pub(crate) fn id(&self, policy: &Policy, rule: Option<&Rule>) -> RuleId {
        let before = self.policies.iter().take_while(|held| !std::ptr::eq(&***held, policy));
        match rule {
            None => RuleId::Policy(number(before.count())),
            Some(rule) => {
                let own = policy.rules.iter().take_while(|held| !std::ptr::eq(*held, rule)).count();
                RuleId::Rule(number(before.map(|held| held.rules.len()).sum::<usize>() + own))
            }
        }
    }
}

/// How many rules a policy has.
pub(crate) fn count(policy: &Policy) -> u32 {
    number(policy.rules.len())
}

fn number(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
