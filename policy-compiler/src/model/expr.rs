//! Kleene expressions over atoms.

use super::Atom;

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
    /// Conjunction that drops what is trivially true.
    #[must_use]
    pub fn all(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut parts: Vec<Self> = parts.into_iter().filter(|part| *part != Self::True).collect();
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
