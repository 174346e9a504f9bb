//! The table says what the reference interpreter says, on random models, registries, connections and requests:
//! verdict, reason, rule, shadow, what is said of a connection and of its canonicalisation.

mod generate;

use std::sync::Arc;

use eastwall_policy::model::interpret;
use eastwall_policy::registry::Registry;
use eastwall_policy::verdict::Action;
use eastwall_policy::world::{ConnectionVerdict, World};
use generate::{Case, registries};
use proptest::prelude::*;

/// Every answer of a world against the interpreter's.
fn agrees(world: &World, case: &Case) -> Result<(), TestCaseError> {
    let (model, registry) = (world.model(), world.registry());
    let owned = case.connection.clone().placed(registry, &model.settings);
    let connection = owned.connection();
    let flow = world.flow(&connection);
    let scope = interpret::canonical_scope(model, registry, &connection);
    prop_assert_eq!(world.canonical_scope(&flow), &scope);
    for owned in &case.requests {
        let request = owned.request();
        let verdict = world.request_verdict(&flow, &request);
        let expected = interpret::request_verdict(model, registry, &connection, &request);
        prop_assert_eq!(&verdict, &expected);
        let said = world.connection_verdict(&flow, request.now);
        // The table may see what the interpreter does not: that a rule can match no request. Never the reverse.
        match (said, interpret::connection_verdict(model, registry, &connection, request.now)) {
            (ConnectionVerdict::Deny(said), _) => {
                prop_assert_eq!((said.action, expected.action), (Action::Deny, Action::Deny));
            }
            (ConnectionVerdict::Opaque(said), _) => {
                prop_assert_eq!((said.action, expected.action), (Action::Allow, Action::Allow));
            }
            (said, expected) => prop_assert_eq!(said, expected),
        }
    }
    Ok(())
}

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

/// `PROPTEST_CASES` where it is set; else enough to meet every kind of atom in every position.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(4_000)
}
