//! The table says what the reference interpreter says, on random models, registries, connections and requests:
//! verdict, reason, rule, shadow, what is said of a connection and of its canonicalisation.

mod agree;
mod generate;

use std::sync::Arc;

use agree::agrees;
use eastwall_policy::facts::Direction;
use eastwall_policy::model::{Effect, Model, Policy, Rule};
use eastwall_policy::registry::Registry;
use eastwall_policy::verdict::Action;
use eastwall_policy::world::World;
use generate::{models, registries};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn the_table_says_what_the_interpreter_says(case in generate::case()) {
        let world = World::new(Arc::clone(&case.model), Arc::clone(&case.registry), 1);
        agrees(&world, &case)?;
    }

    #[test]
    fn another_registry_needs_no_other_table(case in generate::case(), later in registries::registry()) {
        let later: Arc<Registry> = Arc::new(later);
        let before = World::new(Arc::clone(&case.model), Arc::clone(&case.registry), 1);
        agrees(&before, &case)?;
        let after = before.with_registry(later, 2);
        prop_assert!(std::ptr::eq(before.table(), after.table()), "the table was compiled again");
        agrees(&after, &case)?;
        agrees(&before, &case)?;
    }

    /// Policies stay, go, come and change places and settings; what is taken over says what it would say built anew.
    #[test]
    fn a_table_made_from_the_one_before_says_what_the_interpreter_says(
        case in generate::case(),
        earlier in models::model(),
        order in prop::collection::vec((any::<bool>(), any::<u16>()), 12),
        same_settings in prop::bool::weighted(0.8),
    ) {
        // The earlier model has some policies of the later one, the very same, among others, in another order.
        let shared = case.model.policies.iter().chain(&earlier.policies).zip(&order);
        let mut held: Vec<_> = shared.filter(|(_, (stays, _))| *stays).map(|(policy, (_, at))| (*at, policy)).collect();
        held.sort_by_key(|(at, _)| *at);
        let policies = held.into_iter().map(|(_, policy)| Arc::clone(policy)).collect();
        let settings = if same_settings { case.model.settings.clone() } else { earlier.settings.clone() };
        let before = World::new(Arc::new(Model { settings, policies, ..Model::default() }), Arc::clone(&case.registry), 1);
        let after = before.with_policies(Arc::clone(&case.model), Arc::clone(&case.registry), 2);
        agrees(&after, &case)?;
        let anew = World::new(Arc::clone(&case.model), Arc::clone(&case.registry), 2);
        prop_assert_eq!(after.generation(), anew.generation());
        let counted = |world: &World| (world.table().size().policies, world.table().size().rules);
        prop_assert_eq!(counted(&after), counted(&anew));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases() / 10))]

    /// Whoever is protected stays so while nobody knows any more who is where, and nothing opens.
    #[test]
    fn doubt_opens_nothing(case in generate::case(), own in prop::sample::select(vec![None, Some("n1"), Some("n2")])) {
        let fresh = World::new(Arc::clone(&case.model), Arc::clone(&case.registry), 1);
        let doubted = fresh.with_registry(Arc::new(case.registry.doubted(own)), 2);
        agrees(&doubted, &case)?;
        let connection = case.connection.connection();
        let (before, after) = (fresh.flow(&connection), doubted.flow(&connection));
        for owned in &case.requests {
            let request = owned.request();
            if doubted.request_verdict(&after, &request).action == Action::Allow {
                prop_assert_eq!(fresh.request_verdict(&before, &request).action, Action::Allow);
            }
        }
    }

    /// Many policies of one subject, of which a few change at a time: what stays indexed, what is new beside it, and all
    /// indexed anew where that is too much.
    #[test]
    fn each_change_of_a_crowd_says_what_the_interpreter_says(
        case in generate::case(),
        (mut policies, changes) in models::crowd(),
    ) {
        let of = |policies: &[Arc<Policy>]| Arc::new(Model { policies: policies.to_vec(), ..Model::clone(&case.model) });
        let mut world = World::new(of(&policies), Arc::clone(&case.registry), 1);
        for (number, (place, policy)) in (2..).zip(changes) {
            let place = place % policies.len();
            match policy {
                Some(policy) => policies[place] = policy,
                None => drop(policies.remove(place)),
            }
            world = world.with_policies(of(&policies), Arc::clone(&case.registry), number);
            agrees(&world, &case)?;
        }
    }

    /// Places of the index that hold many rules are searched, not walked.
    #[test]
    fn many_rules_say_what_the_interpreter_says(
        case in generate::case().prop_filter("no policy", |case| !case.model.policies.is_empty()),
        conditions in prop::collection::vec(models::condition(), 30..120),
        denies in 0..10_usize,
    ) {
        let mut model = Model::clone(&case.model);
        let policy = Arc::make_mut(&mut model.policies[0]);
        let location = policy.location.clone();
        let directions = [Direction::Inbound, Direction::Outbound];
        policy.rules.extend(conditions.into_iter().enumerate().map(|(index, condition)| Rule {
            name: format!("many-{index}").into(),
            location: location.clone(),
            direction: directions[index % 2],
            effect: if index % 10 < denies { Effect::Deny } else { Effect::Allow },
            condition,
            expires: None,
        }));
        let world = World::new(Arc::new(model), Arc::clone(&case.registry), 1);
        agrees(&world, &case)?;
    }
}

/// `PROPTEST_CASES` where it is set; else enough to meet every kind of atom in every position.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(4_000)
}
