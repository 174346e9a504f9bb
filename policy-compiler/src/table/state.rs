//! Method and protocol as bits: every state that a request can be in, unknown and absent among them, is one bit, and
//! a clause is the set of states that it accepts.

use std::sync::Arc;

use crate::facts::{Fact, Protocol, Truth};
use crate::model::{Atom, Expr, Pattern, Policy, Text};
use crate::pace;
use crate::table::need::Need;
use crate::table::normal::Normal;

/// The methods that the rules name, each a bit.
#[derive(Clone, Debug, Default)]
pub(super) struct Methods {
    names: Vec<Box<[u8]>>,
}

/// Methods beyond this many have no bit: rules that name them ask the slow way.
const NAMED: usize = 61;
const OTHER: u64 = 1 << 61;
const ABSENT: u64 = 1 << 62;
const UNKNOWN: u64 = 1 << 63;

impl Methods {
    /// Every method that a rule of these policies names.
    pub(super) fn of<'a>(policies: impl Iterator<Item = &'a Arc<Policy>>) -> Self {
        let mut methods = Self::default();
        for rule in policies.flat_map(|policy| &policy.rules) {
            pace::tick();
            methods.collect(&rule.condition);
        }
        methods
    }

    /// Whether it has a bit for everything that another one has a bit for.
    pub(super) fn covers(&self, other: &Self) -> bool {
        other.names.iter().all(|name| self.names.contains(name))
    }

    fn collect(&mut self, expr: &Expr) {
        match expr {
            Expr::True | Expr::False => {}
            Expr::Is(atom) => {
                for name in named(atom).into_iter().flatten() {
                    if self.names.len() < NAMED && !self.names.iter().any(|known| **known == *name) {
                        self.names.push(name.into());
                    }
                }
            }
            Expr::All(parts) | Expr::Any(parts) => parts.iter().for_each(|part| self.collect(part)),
            Expr::Not(inner) => self.collect(inner),
        }
    }

    /// The one bit of a request's method.
    pub(super) fn state(&self, method: Fact<&[u8]>) -> u64 {
        match method {
            Fact::Known(method) => match self.names.iter().position(|name| **name == *method) {
                Some(index) => 1 << index,
                None => OTHER,
            },
            Fact::Absent => ABSENT,
            Fact::Unknown => UNKNOWN,
        }
    }

    /// The states in which a condition about nothing but methods is met; `None` if it asks about more.
    pub(super) fn mask(&self, condition: &Normal, need: Need) -> Option<u64> {
        match condition {
            Normal::True => Some(u64::MAX),
            Normal::False => Some(0),
            Normal::Literal { atom, negated } => {
                let mut listed = 0u64;
                for name in named(atom)? {
                    listed |= 1 << self.names.iter().position(|known| **known == *name)?;
                }
                let known = if *negated { !listed & !(ABSENT | UNKNOWN) } else { listed };
                let absent = if need.met_by_literal(Truth::False, *negated) { ABSENT } else { 0 };
                let unknown = if need.met_by_literal(Truth::Unknown, *negated) { UNKNOWN } else { 0 };
                Some(known | absent | unknown)
            }
            Normal::All(parts) => parts.iter().try_fold(u64::MAX, |mask, part| Some(mask & self.mask(part, need)?)),
            Normal::Any(parts) => parts.iter().try_fold(0, |mask, part| Some(mask | self.mask(part, need)?)),
        }
    }
}

/// The methods that an atom lists, if it does nothing but that.
fn named(atom: &Atom) -> Option<Vec<&[u8]>> {
    let Atom::Text { of: Text::Method, is, .. } = atom else { return None };
    is.iter()
        .map(|pattern| match pattern {
            Pattern::Exact(name) => Some(&**name),
            _ => None,
        })
        .collect()
}

const PROTOCOLS: [Protocol; 8] = [
    Protocol::Http,
    Protocol::Http2,
    Protocol::Grpc,
    Protocol::Tls,
    Protocol::Tcp,
    Protocol::Udp,
    Protocol::Sctp,
    Protocol::Dns,
];
const PROTOCOL_ABSENT: u16 = 1 << 8;
const PROTOCOL_UNKNOWN: u16 = 1 << 9;

fn protocol_bit(protocol: Protocol) -> u16 {
    PROTOCOLS.iter().position(|known| *known == protocol).map_or(0, |index| 1 << index)
}

/// The one bit of a request's protocol.
pub(super) fn protocol_state(protocol: Fact<Protocol>) -> u16 {
    match protocol {
        Fact::Known(protocol) => protocol_bit(protocol),
        Fact::Absent => PROTOCOL_ABSENT,
        Fact::Unknown => PROTOCOL_UNKNOWN,
    }
}

/// The states in which a condition about nothing but the protocol is met; `None` if it asks about more.
pub(super) fn protocol_mask(condition: &Normal, need: Need) -> Option<u16> {
    match condition {
        Normal::True => Some(u16::MAX),
        Normal::False => Some(0),
        Normal::Literal { atom: Atom::Protocol(list), negated } => {
            let listed = list.iter().fold(0, |mask, protocol| mask | protocol_bit(*protocol));
            let known = if *negated { !listed & (PROTOCOL_ABSENT - 1) } else { listed };
            let absent = if need.met_by_literal(Truth::False, *negated) { PROTOCOL_ABSENT } else { 0 };
            let unknown = if need.met_by_literal(Truth::Unknown, *negated) { PROTOCOL_UNKNOWN } else { 0 };
            Some(known | absent | unknown)
        }
        Normal::Literal { .. } => None,
        Normal::All(parts) => parts.iter().try_fold(u16::MAX, |mask, part| Some(mask & protocol_mask(part, need)?)),
        Normal::Any(parts) => parts.iter().try_fold(0, |mask, part| Some(mask | protocol_mask(part, need)?)),
    }
}
