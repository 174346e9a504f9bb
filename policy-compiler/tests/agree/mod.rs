//! Every answer of a world beside the reference interpreter's. Shared by the differential test and the fuzz target.

use eastwall_policy::analysis::exposure::unprotected;
use eastwall_policy::facts::Direction;
use eastwall_policy::model::interpret;
use eastwall_policy::verdict::Action;
use eastwall_policy::world::{ConnectionVerdict, World};
use proptest::prelude::*;

use super::generate::Case;

/// Fails with the first difference.
pub(crate) fn agrees(world: &World, case: &Case) -> Result<(), TestCaseError> {
    let (model, registry) = (world.model(), world.registry());
    let owned = case.connection.clone().placed(registry, &model.settings);
    let connection = owned.connection();
    let flow = world.flow(&connection);
    let scope = interpret::canonical_scope(model, registry, &connection);
    prop_assert_eq!(world.canonical_scope(&flow), &scope);
    for direction in [Direction::Inbound, Direction::Outbound] {
        prop_assert_eq!(world.unprotected(direction), unprotected(model, registry, direction));
    }
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
