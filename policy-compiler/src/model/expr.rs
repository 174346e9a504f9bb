//! Kleene expressions over atoms.

use super::{Atom, PeerAtom};
use crate::registry::Workload;

/// A condition. Evaluated in Kleene logic: `Not(unknown)` is unknown.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// Holds always.
    True,
    /// Holds never.
    False,
    /// One fact.
    Is(Atom),
    /// Conjunction; empty is [`Expr::True`].
    All(Vec<Self>),
    /// Disjunction; empty is [`Expr::False`]: an empty list matches nobody.
    Any(Vec<Self>),
    /// Negation.
    Not(Box<Self>),
}

impl Expr {
    /// Whether a subject expression holds of a workload. Atoms that are not about a subject hold of nobody.
    #[must_use]
    pub fn selects(&self, workload: &Workload) -> bool {
        match self {
            Self::True => true,
            Self::False => false,
            Self::All(parts) => parts.iter().all(|part| part.selects(workload)),
            Self::Any(parts) => parts.iter().any(|part| part.selects(workload)),
            Self::Not(part) => !part.selects(workload),
            Self::Is(Atom::Subject(atom)) => match atom {
                PeerAtom::Namespace(name) => workload.namespace == *name,
                PeerAtom::ServiceAccount(name) => workload.service_account == *name,
                PeerAtom::NamespaceLabels(selector) => selector.matches(&workload.namespace_labels),
                PeerAtom::Labels(selector) => selector.matches(&workload.labels),
                PeerAtom::Annotations(selector) => selector.matches_by(|key| workload.annotation(key)),
                PeerAtom::Workload => true,
                _ => false,
            },
            Self::Is(_) => false,
        }
    }

    /// Conjunction, flat; it drops what is trivially true.
    #[must_use]
    pub fn all(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut flat = Vec::new();
        for part in parts {
            match part {
                Self::True => {}
                Self::All(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        let mut parts = flat;
        match (parts.pop(), parts.is_empty()) {
            (None, _) => Self::True,
            (Some(only), true) => only,
            (Some(last), false) => {
                parts.push(last);
                parts.shrink_to_fit();
                Self::All(parts)
            }
        }
    }

    /// Disjunction; of nothing it is false.
    #[must_use]
    pub fn any(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut parts: Vec<Self> = parts.into_iter().filter(|part| *part != Self::False).collect();
        match (parts.pop(), parts.is_empty()) {
            (None, _) => Self::False,
            (Some(only), true) => only,
            (Some(last), false) => {
                parts.push(last);
                parts.shrink_to_fit();
                Self::Any(parts)
            }
        }
    }
}

impl std::ops::Not for Expr {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::True => Self::False,
            Self::False => Self::True,
            Self::Not(inner) => *inner,
            other => Self::Not(Box::new(other)),
        }
    }
}

impl From<Atom> for Expr {
    fn from(atom: Atom) -> Self {
        Self::Is(atom)
    }
}
