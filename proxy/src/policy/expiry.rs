//! Rules that end: when their time has come they are gone for good, whatever the clock says later.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use eastwall_policy::model::{BreakGlass, Effect, Model, Policy, Rule};

/// The latest time ever seen. A clock that is set back does not turn it back.
#[derive(Debug)]
pub(super) struct Latch {
    latest: i64,
}

impl Latch {
    pub(super) fn new() -> Self {
        Self { latest: i64::MIN }
    }

    /// Seconds since the epoch, never less than before.
    pub(super) fn now(&mut self) -> i64 {
        self.at(clock())
    }

    fn at(&mut self, clock: i64) -> i64 {
        self.latest = self.latest.max(clock);
        self.latest
    }
}

/// The model without the rules and emergencies whose time has come. The policies stay, and go on closing what they close.
pub(super) fn without_expired(model: &Arc<Model>, now: i64) -> Arc<Model> {
    let is_over = |rule: &Rule| expiry(rule).is_some_and(|expires| now >= expires);
    let has_over = |policy: &Arc<Policy>| policy.rules.iter().any(is_over);
    let is_past = |glass: &Arc<BreakGlass>| now >= glass.expires;
    if !model.policies.iter().any(has_over) && !model.break_glass.iter().any(is_past) {
        return Arc::clone(model);
    }
    let policies = model.policies.iter().map(|policy| {
        // What stays the same allocation is not compiled again.
        if !has_over(policy) {
            return Arc::clone(policy);
        }
        let rules = policy.rules.iter().filter(|rule| !is_over(rule)).cloned().collect();
        Arc::new(Policy { rules, ..Policy::clone(policy) })
    });
    let break_glass = model.break_glass.iter().filter(|glass| !is_past(glass)).cloned().collect();
    Arc::new(Model { settings: model.settings.clone(), policies: policies.collect(), break_glass })
}

/// When the next rule, or emergency, ends.
pub(super) fn next(model: &Model) -> Option<i64> {
    let emergencies = model.break_glass.iter().map(|glass| glass.expires);
    model.policies.iter().flat_map(|policy| &policy.rules).filter_map(expiry).chain(emergencies).min()
}

/// Only an allow ends.
fn expiry(rule: &Rule) -> Option<i64> {
    rule.expires.filter(|_| rule.effect == Effect::Allow)
}

fn clock() -> i64 {
    // A clock before 1970 is set wrong; a rule that has not expired then has not expired later either.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use eastwall_policy::diagnostic::Location;
    use eastwall_policy::facts::Direction;
    use eastwall_policy::model::{Directions, Expr, Mode, PolicyName, Stack, Tier};

    fn rule(name: &str, effect: Effect, expires: Option<i64>) -> Rule {
        Rule {
            name: name.into(),
            location: Location { file: "x".into(), line: 1, column: 1 },
            direction: Direction::Inbound,
            effect,
            condition: Expr::True,
            expires,
        }
    }

    fn model() -> Arc<Model> {
        let policy = Policy {
            name: PolicyName { kind: "FirewallPolicy".into(), namespace: "a".into(), name: "b".into() },
            location: Location { file: "x".into(), line: 1, column: 1 },
            stack: Stack::Native,
            tier: Tier::Application,
            priority: 0,
            mode: Mode::Enforce,
            replaces: Vec::new(),
            subject: Expr::True,
            closes: Directions { inbound: true, outbound: false },
            rules: vec![
                rule("for ever", Effect::Allow, None),
                rule("until 20", Effect::Allow, Some(20)),
                rule("until 10", Effect::Allow, Some(10)),
                rule("a deny never ends", Effect::Deny, Some(1)),
            ],
            http_options: Vec::new(),
            jwt_rules: Vec::new(),
            broken: false,
        };
        Arc::new(Model { policies: vec![Arc::new(policy)], ..Model::default() })
    }

    #[test]
    fn rules_go_at_their_time_and_the_policy_stays() {
        let model = model();
        assert_eq!(next(&model), Some(10));
        for (now, left) in [(9, 4), (10, 3), (20, 2), (i64::MAX, 2)] {
            let kept = without_expired(&model, now);
            assert_eq!(kept.policies[0].rules.len(), left, "at {now}");
            assert!(kept.policies[0].closes.inbound);
        }
        assert!(Arc::ptr_eq(&model, &without_expired(&model, 9)), "nothing is copied where nothing ends");
        assert_eq!(next(&without_expired(&model, 20)), None);
    }

    #[test]
    fn a_clock_set_back_revives_nothing() {
        let mut latch = Latch::new();
        let seen: Vec<i64> = [5, 20, 3, 19, 21].into_iter().map(|clock| latch.at(clock)).collect();
        assert_eq!(seen, [5, 20, 20, 20, 21]);
        assert_eq!(without_expired(&model(), seen[2]).policies[0].rules.len(), 2);
    }
}
