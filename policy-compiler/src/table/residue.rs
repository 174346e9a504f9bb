//! What no index holds: asked of the few clauses that everything else lets through.

use crate::facts::{Fact, Truth};
use crate::model::Atom;
use crate::model::interpret::probe;
use crate::table::asked::Asked;
use crate::table::gate::GatesBuilder;
use crate::table::need::Need;
use crate::table::normal::Normal;
use crate::table::text;

/// A condition over a request and the gates of its connection.
#[derive(Clone, Debug)]
pub(super) enum Residue {
    /// An atom about the request, or its negation.
    Literal {
        /// What is asked.
        atom: Atom,
        /// Whether the answer is turned round.
        negated: bool,
    },
    /// A condition over the connection, by its number.
    Gate(u32),
    /// Conjunction; empty is true.
    All(Box<[Self]>),
    /// Disjunction; empty is false.
    Any(Box<[Self]>),
}

impl Residue {
    /// Compiles a condition; parts that belong to the connection become gates.
    pub(super) fn of(condition: Normal, gates: &mut GatesBuilder) -> Self {
        match condition {
            Normal::True => Self::All(Box::default()),
            Normal::False => Self::Any(Box::default()),
            connection if connection.is_of_connection() => Self::Gate(gates.number(connection)),
            Normal::Literal { atom, negated } => Self::Literal { atom, negated },
            Normal::All(parts) => Self::All(parts.into_iter().map(|part| Self::of(part, gates)).collect()),
            Normal::Any(parts) => Self::Any(parts.into_iter().map(|part| Self::of(part, gates)).collect()),
        }
    }

    /// It says nothing.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::All(parts) if parts.is_empty())
    }

    /// Whether a request meets it.
    pub(super) fn is_met(&self, asked: &Asked<'_>, open: &[u32], need: Need) -> bool {
        match self {
            Self::Literal { atom, negated } => need.met_by_literal(truth(atom, asked), *negated),
            Self::Gate(number) => open.binary_search(number).is_ok(),
            Self::All(parts) => parts.iter().all(|part| part.is_met(asked, open, need)),
            Self::Any(parts) => parts.iter().any(|part| part.is_met(asked, open, need)),
        }
    }
}

fn truth(atom: &Atom, asked: &Asked<'_>) -> Truth {
    match atom {
        Atom::Protocol(any) => match asked.request.protocol {
            Fact::Known(protocol) => any.contains(&protocol).into(),
            Fact::Absent => Truth::False,
            Fact::Unknown => Truth::Unknown,
        },
        Atom::Text { of, each, is } => text::truth(of, *each, is, asked.request),
        Atom::Present(of) => text::present(of, asked.request),
        Atom::RemoteIp(net) => match asked.request.client(asked.source, asked.trusted_proxies) {
            Fact::Known(address) => net.contains(&address).into(),
            Fact::Absent | Fact::Unknown => Truth::Unknown,
        },
        Atom::DeclaredProbe => {
            asked.declares.map_or(Truth::False, |(workload, port)| probe::is(workload, port, asked.request))
        }
        // Gates ask for these; were one to come here it would not be known.
        Atom::Subject(_) | Atom::Peer(_) | Atom::Located(_) | Atom::Port(_) | Atom::Transport(_) => Truth::Unknown,
    }
}
