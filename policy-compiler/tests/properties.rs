//! What must hold whatever people write: adding a deny or removing an allow never lets more through, and what is said
//! of a connection before its requests is never contradicted by them.

mod generate;

use std::sync::Arc;

use eastwall_policy::facts::{Connection, Direction, Fact, Place, Request};
use eastwall_policy::model::{Effect, Mode, Model, Policy, Rule, interpret};
use eastwall_policy::registry::Registry;
use eastwall_policy::verdict::{Action, Audit, Reason, RuleId};
use eastwall_policy::world::{ConnectionVerdict, World};
use generate::emergencies::emergency;
use generate::{Case, models};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

fn action(model: &Model, registry: &Registry, connection: &Connection<'_>, request: &Request<'_>) -> Action {
    interpret::request_verdict(model, registry, connection, request).action
}

/// Whether every request that `changed` allows was allowed before.
fn narrows(case: &Case, changed: &Model) -> Result<(), TestCaseError> {
    let connection = case.connection.connection();
    for request in &case.requests {
        let request = request.request();
        if action(&case.model, &case.registry, &connection, &request) != Action::Allow {
            let after = action(changed, &case.registry, &connection, &request);
            prop_assert_ne!(after, Action::Allow, "{:#?}", &changed.policies);
        }
    }
    Ok(())
}

/// A case with at least one policy, and the index of one.
fn with_policy() -> impl Strategy<Value = (Case, usize)> {
    let at_least_one = generate::case().prop_filter("no policy", |case| !case.model.policies.is_empty());
    (at_least_one, any::<prop::sample::Index>()).prop_map(|(case, index)| {
        let index = index.index(case.model.policies.len());
        (case, index)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn adding_a_deny_never_lets_more_through((case, at) in with_policy(), condition in models::condition(), outbound: bool) {
        let mut changed = Model::clone(&case.model);
        let policy = Arc::make_mut(&mut changed.policies[at]);
        let direction = if outbound { Direction::Outbound } else { Direction::Inbound };
        let location = policy.location.clone();
        policy.rules.push(Rule { name: "added".into(), location, direction, effect: Effect::Deny, condition, expires: None });
        narrows(&case, &changed)?;
    }

    #[test]
    fn removing_an_allow_never_lets_more_through((case, at) in with_policy(), which: prop::sample::Index) {
        let mut changed = Model::clone(&case.model);
        let rules = &mut Arc::make_mut(&mut changed.policies[at]).rules;
        if !rules.is_empty() {
            let which = which.index(rules.len());
            if rules[which].effect == Effect::Allow {
                rules.remove(which);
            }
        }
        narrows(&case, &changed)?;
    }

    #[test]
    fn time_never_lets_more_through(case in generate::case(), later in 0..20_i64) {
        let connection = case.connection.connection();
        for owned in &case.requests {
            let request = owned.request();
            if action(&case.model, &case.registry, &connection, &request) != Action::Allow {
                let later = Request { now: request.now + later, ..request };
                prop_assert_ne!(action(&case.model, &case.registry, &connection, &later), Action::Allow);
            }
        }
    }

    #[test]
    fn knowing_less_never_lets_more_through(case in generate::case()) {
        let connection = case.connection.connection();
        for owned in &case.requests {
            let request = owned.request();
            if action(&case.model, &case.registry, &connection, &request) != Action::Allow {
                let unseen = Request { method: Fact::Unknown, path: Fact::Unknown, headers: Fact::Unknown, jwt: Fact::Unknown, mesh_jwt: Fact::Unknown, ..request };
                prop_assert_ne!(action(&case.model, &case.registry, &connection, &unseen), Action::Allow);
            }
        }
    }

    #[test]
    fn the_order_of_documents_means_nothing(case in generate::case()) {
        let connection = case.connection.connection();
        let mut reversed = Model::clone(&case.model);
        reversed.policies.reverse();
        for policy in reversed.policies.iter_mut().filter(|policy| !policy.tier.is_ordered(policy.stack)) {
            Arc::make_mut(policy).rules.reverse();
        }
        // Those of ordered tiers stand in an order that means something.
        let place = |policy: &Arc<Policy>| if policy.tier.is_ordered(policy.stack) { policy.location.line } else { 0 };
        reversed.policies.sort_by_key(place);
        for owned in &case.requests {
            let request = owned.request();
            let before = interpret::request_verdict(&case.model, &case.registry, &connection, &request);
            let after = interpret::request_verdict(&reversed, &case.registry, &connection, &request);
            prop_assert_eq!(before.action, after.action);
            prop_assert_eq!(before.audit.map(|audit| audit.action), after.audit.map(|audit| audit.action));
        }
    }

    #[test]
    fn a_policy_in_mode_audit_never_acts(case in generate::case()) {
        let connection = case.connection.connection();
        let mut enforced = Model::clone(&case.model);
        enforced.policies.retain(|policy| policy.mode == Mode::Enforce);
        let world = |model: &Model| World::new(Arc::new(model.clone()), Arc::clone(&case.registry), 1);
        let (held, alone) = (world(&case.model), world(&enforced));
        for owned in &case.requests {
            let request = owned.request();
            let with = interpret::request_verdict(&case.model, &case.registry, &connection, &request);
            let without = interpret::request_verdict(&enforced, &case.registry, &connection, &request);
            prop_assert_eq!((with.action, with.reason), (without.action, without.reason));
            let named = |world: &World, id: Option<RuleId>| id.map(|id| format!("{:?}", world.named(id)));
            prop_assert_eq!(named(&held, with.rule), named(&alone, without.rule));
            prop_assert_eq!(without.audit, None);
        }
    }

    #[test]
    fn an_emergency_passes_what_its_sides_refuse_and_nothing_else(case in generate::case(), glass in emergency(0, 10)) {
        let broken = Model { break_glass: vec![Arc::clone(&glass)], ..Model::clone(&case.model) };
        let world = World::new(Arc::new(broken), Arc::clone(&case.registry), 1);
        let connection = case.connection.connection();
        let flow = world.flow(&connection);
        let judged = [(Direction::Outbound, connection.source.place), (Direction::Inbound, connection.destination.place)];
        for owned in &case.requests {
            let request = owned.request();
            let plain = interpret::request_verdict(&case.model, &case.registry, &connection, &request);
            let passes = judged.iter().filter(|(side, _)| connection.direction.is_none_or(|only| only == *side)).all(|(side, place)| {
                let workload = match place {
                    Place::Workload(id) => case.registry.workload(*id),
                    _ => None,
                };
                let opened = glass.acts(request.now) && workload.is_some_and(|held| glass.subject.selects(held));
                let side = Connection { direction: Some(*side), ..connection };
                opened || action(&case.model, &case.registry, &side, &request) == Action::Allow
            });
            let verdict = world.request_verdict(&flow, &request);
            if plain.action == Action::Allow || !passes {
                prop_assert_eq!(verdict, plain);
            } else {
                prop_assert_eq!((verdict.action, verdict.reason), (Action::Allow, Reason::BreakGlass));
                let audit = Audit { action: plain.action, reason: plain.reason, rule: plain.rule };
                prop_assert_eq!(verdict.audit, Some(audit));
            }
            match world.connection_verdict(&flow, request.now) {
                ConnectionVerdict::Deny(_) => prop_assert_eq!(verdict.action, Action::Deny),
                ConnectionVerdict::Opaque(_) => prop_assert_eq!(verdict.action, Action::Allow),
                ConnectionVerdict::Inspect => {}
            }
        }
    }

    #[test]
    fn what_is_said_of_a_connection_holds_for_its_requests(case in generate::case()) {
        let world = World::new(Arc::clone(&case.model), Arc::clone(&case.registry), 1);
        let flow = world.flow(&case.connection.connection());
        for owned in &case.requests {
            let request = owned.request();
            let verdict = world.request_verdict(&flow, &request);
            match world.connection_verdict(&flow, request.now) {
                ConnectionVerdict::Deny(said) => {
                    prop_assert_eq!(said.action, Action::Deny);
                    prop_assert_eq!(verdict.action, Action::Deny, "{:?}", verdict);
                }
                ConnectionVerdict::Opaque(said) => {
                    prop_assert_eq!(said.action, Action::Allow);
                    prop_assert_eq!(verdict.action, Action::Allow, "{:?}", verdict);
                }
                ConnectionVerdict::Inspect => {}
            }
        }
    }
}

/// The properties above say nothing of outcomes that the universe never reaches.
#[test]
fn the_universe_reaches_every_outcome() {
    let mut seen = std::collections::BTreeMap::<String, u32>::new();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..4_000 {
        let case = generate::case().new_tree(&mut runner).unwrap().current();
        let world = World::new(Arc::clone(&case.model), Arc::clone(&case.registry), 1);
        let flow = world.flow(&case.connection.connection());
        for owned in &case.requests {
            let verdict = world.request_verdict(&flow, &owned.request());
            let said = match world.connection_verdict(&flow, owned.now) {
                ConnectionVerdict::Deny(_) => "deny",
                ConnectionVerdict::Opaque(_) => "opaque",
                ConnectionVerdict::Inspect => "inspect",
            };
            *seen.entry(format!("{:?}", verdict.reason)).or_default() += 1;
            *seen.entry(format!("{said} then {:?}", verdict.action)).or_default() += 1;
            if let Some(audit) = verdict.audit {
                *seen.entry(format!("{:?}, audit {:?}", verdict.action, audit.action)).or_default() += 1;
            }
        }
    }
    let expected = [
        "AllowRule",
        "DenyRule",
        "NoRule",
        "Unprotected",
        "Probe",
        "NotSubject",
        "NoEndpoint",
        "BrokenPolicy",
        "deny then Deny",
        "opaque then Allow",
        "inspect then Allow",
        "inspect then Deny",
        "Allow, audit Deny",
        "Deny, audit Allow",
    ];
    let missing: Vec<_> = expected.into_iter().filter(|outcome| !seen.contains_key(*outcome)).collect();
    assert!(missing.is_empty(), "never reached: {missing:?} of {seen:#?}");
}

/// `PROPTEST_CASES` where it is set; else enough to meet every kind of atom in every position.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1_000)
}
