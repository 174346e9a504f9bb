//! Random emergencies.

use std::sync::Arc;

use eastwall_policy::diagnostic::Location;
use eastwall_policy::model::{Atom, BreakGlass, Expr, PeerAtom, PolicyName};
use proptest::prelude::*;

use super::{ACCOUNTS, NAMESPACES, word};

/// One that acts between these times, on everybody, a namespace or an account.
pub(crate) fn emergency(begins: i64, expires: i64) -> impl Strategy<Value = Arc<BreakGlass>> {
    let of = |peer| Expr::Is(Atom::Subject(peer));
    let subject = prop_oneof![
        1 => Just(Expr::True),
        2 => word(NAMESPACES).prop_map(move |name| of(PeerAtom::Namespace(name))),
        2 => word(ACCOUNTS).prop_map(move |name| of(PeerAtom::ServiceAccount(name))),
    ];
    subject.prop_map(move |subject| {
        let name = PolicyName { kind: "BreakGlass".into(), namespace: "".into(), name: "fire".into() };
        let location = Location { file: "fire.yaml".into(), line: 1, column: 1 };
        Arc::new(BreakGlass { name, location, subject, reason: "x".into(), begins, expires })
    })
}
