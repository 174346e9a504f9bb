//! Negation normal form: negations stand at the atoms, constants are gone from inside.

use std::hash::{Hash, Hasher};

use crate::model::{Atom, Expr, Pattern, PeerAtom, Text};

/// A condition whose negations stand at its atoms.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Normal {
    /// Holds always.
    True,
    /// Holds never.
    False,
    /// An atom or its negation.
    Literal {
        /// What is asked.
        atom: Atom,
        /// Whether the answer is turned round.
        negated: bool,
    },
    /// Conjunction of at least two, none of them a conjunction or a constant.
    All(Vec<Self>),
    /// Disjunction of at least two, none of them a disjunction or a constant.
    Any(Vec<Self>),
}

impl Normal {
    /// The normal form of an expression, or of its negation.
    pub(super) fn of(expr: &Expr, negated: bool) -> Self {
        match (expr, negated) {
            (Expr::True, false) | (Expr::False, true) => Self::True,
            (Expr::True, true) | (Expr::False, false) => Self::False,
            (Expr::Is(atom), negated) => Self::Literal { atom: atom.clone(), negated },
            (Expr::Not(inner), negated) => Self::of(inner, !negated),
            (Expr::All(parts), false) | (Expr::Any(parts), true) => {
                Self::all(parts.iter().map(|part| Self::of(part, negated)))
            }
            (Expr::Any(parts), false) | (Expr::All(parts), true) => {
                Self::any(parts.iter().map(|part| Self::of(part, negated)))
            }
        }
    }

    /// Conjunction.
    pub(super) fn all(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut flat = Vec::new();
        for part in parts {
            match part {
                Self::True => {}
                Self::False => return Self::False,
                Self::All(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        match flat.len() {
            0 => Self::True,
            1 => flat.pop().unwrap_or(Self::True),
            _ => Self::All(flat),
        }
    }

    /// Disjunction.
    pub(super) fn any(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut flat = Vec::new();
        for part in parts {
            match part {
                Self::False => {}
                Self::True => return Self::True,
                Self::Any(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        match flat.len() {
            0 => Self::False,
            1 => flat.pop().unwrap_or(Self::False),
            _ => Self::Any(flat),
        }
    }

    /// The parts of a conjunction; anything else is its own only part.
    pub(super) fn into_conjuncts(self) -> Vec<Self> {
        match self {
            Self::True => Vec::new(),
            Self::All(parts) => parts,
            other => vec![other],
        }
    }

    /// Whether every atom is fixed for the life of a connection.
    pub(super) fn is_of_connection(&self) -> bool {
        match self {
            Self::True | Self::False => true,
            Self::Literal { atom, .. } => is_of_connection(atom),
            Self::All(parts) | Self::Any(parts) => parts.iter().all(Self::is_of_connection),
        }
    }
}

/// Whether an atom is fixed for the life of a connection.
pub(super) fn is_of_connection(atom: &Atom) -> bool {
    match atom {
        Atom::Subject(_) | Atom::Peer(_) | Atom::Located(_) | Atom::Port(_) | Atom::Transport(_) => true,
        Atom::Text { of, .. } | Atom::Present(of) => *of == Text::PeerPrincipal,
        Atom::Protocol(_) | Atom::RemoteIp(_) | Atom::DeclaredProbe => false,
    }
}

/// Structural hash, so that equal conditions are found and shared. Equal conditions hash alike; the reverse is left
/// to `PartialEq`.
impl Hash for Normal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Self::True | Self::False => {}
            Self::Literal { atom, negated } => {
                negated.hash(state);
                hash_atom(atom, state);
            }
            Self::All(parts) | Self::Any(parts) => parts.hash(state),
        }
    }
}

fn hash_atom<H: Hasher>(atom: &Atom, state: &mut H) {
    std::mem::discriminant(atom).hash(state);
    match atom {
        Atom::Subject(peer) | Atom::Peer(peer) | Atom::Located(peer) => hash_peer(peer, state),
        Atom::Port(port) => port.hash(state),
        Atom::Protocol(protocols) => protocols.hash(state),
        Atom::Transport(transport) => transport.hash(state),
        Atom::Text { of, each, is } => {
            of.hash(state);
            each.hash(state);
            is.iter().for_each(|pattern| hash_pattern(pattern, state));
        }
        Atom::Present(of) => of.hash(state),
        Atom::RemoteIp(net) => net.hash(state),
        Atom::DeclaredProbe => {}
    }
}

fn hash_peer<H: Hasher>(peer: &PeerAtom, state: &mut H) {
    std::mem::discriminant(peer).hash(state);
    match peer {
        PeerAtom::Namespace(name) | PeerAtom::ServiceAccount(name) => name.hash(state),
        PeerAtom::NamespaceLabels(selector) | PeerAtom::Labels(selector) | PeerAtom::Annotations(selector) => {
            selector.hash(state);
        }
        PeerAtom::Principal { is, plaintext } => {
            plaintext.hash(state);
            is.iter().for_each(|pattern| hash_pattern(pattern, state));
        }
        PeerAtom::Cidr { net, scope } => {
            net.hash(state);
            scope.hash(state);
        }
        PeerAtom::Service { namespace, name } => {
            namespace.hash(state);
            name.hash(state);
        }
        PeerAtom::ServiceNamed { name, namespaces } => {
            name.hash(state);
            namespaces.hash(state);
        }
        PeerAtom::Node(scope) => scope.hash(state),
        PeerAtom::Fqdn(is) => is.iter().for_each(|pattern| hash_pattern(pattern, state)),
        PeerAtom::Proven | PeerAtom::Workload | PeerAtom::External => {}
    }
}

pub(super) fn hash_pattern<H: Hasher>(pattern: &Pattern, state: &mut H) {
    std::mem::discriminant(pattern).hash(state);
    match pattern {
        Pattern::Exact(bytes)
        | Pattern::ExactIgnoreCase(bytes)
        | Pattern::Prefix(bytes)
        | Pattern::Suffix(bytes)
        | Pattern::SuffixIgnoreCase(bytes)
        | Pattern::PrefixIgnoreCase(bytes)
        | Pattern::OneLabel(bytes) => bytes.hash(state),
        Pattern::NonEmpty | Pattern::Anything => {}
        Pattern::Segments { segments, rest } => {
            segments.hash(state);
            rest.hash(state);
        }
        Pattern::Regex { expression, .. } => expression.hash(state),
    }
}
