//! The table says what the reference interpreter says, on random models, registries, connections and requests:
//! verdict, reason, rule, shadow, what is said of a connection and of its canonicalisation.

mod agree;
mod generate;

use std::sync::Arc;

use agree::agrees;
use eastwall_policy::facts::Direction;
use eastwall_policy::model::{Effect, Model, Rule};
use eastwall_policy::registry::Registry;
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
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases() / 10))]

    /// Places of the index that hold many rules are searched, not walked.
    #[test]
    fn many_rules_say_what_the_interpreter_says(
        case in generate::case().prop_filter("no policy", |case| !case.model.policies.is_empty()),
        conditions in prop::collection::vec(models::condition(), 30..120),
        denies in 0..10_usize,
    ) {
        let mut model = Model::clone(&case.model);
        let policy = &mut model.policies[0];
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
