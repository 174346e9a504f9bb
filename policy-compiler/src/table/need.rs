//! How much truth a rule needs: the one place where an allow and a deny differ.
//!
//! Kleene conjunction and disjunction are minimum and maximum, so asking "surely?" or "possibly?" distributes over
//! both: once negations stand at the atoms, a condition is an ordinary boolean one whose atoms were asked this way.

use crate::facts::Truth;

/// What has to be said of a condition before its rule acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Need {
    /// Every condition true: allow rules.
    Surely,
    /// No condition false: deny rules.
    Possibly,
}

impl Need {
    /// Whether this truth is enough.
    pub(super) fn met(self, truth: Truth) -> bool {
        match self {
            Self::Surely => truth.surely(),
            Self::Possibly => truth.possibly(),
        }
    }

    /// Whether this truth, or its negation, is enough.
    pub(super) fn met_by_literal(self, truth: Truth, negated: bool) -> bool {
        self.met(if negated { !truth } else { truth })
    }
}
