//! What is left of a condition once the connection is known: a Kleene expression over questions about the request.
//!
//! Residues are interned, so that equal ones are one number: most of two versions of a policy is found equal here, and
//! nothing else is asked of it.

use crate::facts::{Protocol, Truth};
use crate::model::{Atom, content};

type Map<K, V> = hashbrown::HashMap<K, V, foldhash::fast::RandomState>;

/// An interned residue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Residue(u32);

/// An interned question about the request: a text, its presence, the client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Ask(u32);

/// One residue.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Form {
    Known(Truth3),
    Ask(Ask),
    /// The protocol is one of these.
    Protocol(Protocols),
    All(Box<[Residue]>),
    Any(Box<[Residue]>),
    Not(Residue),
}

/// [`Truth`], hashable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Truth3 {
    False,
    Unknown,
    True,
}

/// A set of protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(super) struct Protocols(pub(super) u8);

impl Protocols {
    pub(super) fn of(any: &[Protocol]) -> Self {
        Self(any.iter().fold(0, |held, protocol| held | 1 << index_of(*protocol)))
    }

    pub(super) fn has(self, protocol: Protocol) -> bool {
        self.0 >> index_of(protocol) & 1 == 1
    }
}

fn index_of(protocol: Protocol) -> usize {
    PROTOCOLS.iter().position(|held| *held == protocol).unwrap_or_default()
}

/// Every protocol.
pub(super) const PROTOCOLS: [Protocol; 8] = [
    Protocol::Http,
    Protocol::Http2,
    Protocol::Grpc,
    Protocol::Tls,
    Protocol::Tcp,
    Protocol::Dns,
    Protocol::Udp,
    Protocol::Sctp,
];

/// Every residue and question of one comparison.
#[derive(Debug)]
pub(super) struct Residues {
    forms: Vec<Form>,
    numbers: Map<Form, Residue>,
    asks: Vec<Atom>,
    ask_numbers: Map<[u8; 32], Ask>,
}

pub(super) const FALSE: Residue = Residue(0);
pub(super) const UNKNOWN: Residue = Residue(1);
pub(super) const TRUE: Residue = Residue(2);

impl Default for Residues {
    fn default() -> Self {
        let mut residues =
            Self { forms: Vec::new(), numbers: Map::default(), asks: Vec::new(), ask_numbers: Map::default() };
        for truth in [Truth3::False, Truth3::Unknown, Truth3::True] {
            residues.number(Form::Known(truth));
        }
        residues
    }
}

impl Residues {
    pub(super) fn form(&self, of: Residue) -> &Form {
        self.forms.get(of.0 as usize).unwrap_or(&Form::Known(Truth3::Unknown))
    }

    pub(super) fn question(&self, ask: Ask) -> Option<&Atom> {
        self.asks.get(ask.0 as usize)
    }

    pub(super) fn known(truth: Truth) -> Residue {
        match truth {
            Truth::False => FALSE,
            Truth::Unknown => UNKNOWN,
            Truth::True => TRUE,
        }
    }

    pub(super) fn ask(&mut self, atom: &Atom) -> Residue {
        if let Atom::Protocol(any) = atom {
            return self.number(Form::Protocol(Protocols::of(any)));
        }
        let next = Ask(u32::try_from(self.asks.len()).unwrap_or(u32::MAX));
        let ask = *self.ask_numbers.entry(content::of_atom(atom)).or_insert_with(|| {
            self.asks.push(atom.clone());
            next
        });
        self.number(Form::Ask(ask))
    }

    pub(super) fn all(&mut self, parts: Vec<Residue>) -> Residue {
        self.join(parts, TRUE, FALSE, Form::All)
    }

    pub(super) fn any(&mut self, parts: Vec<Residue>) -> Residue {
        self.join(parts, FALSE, TRUE, Form::Any)
    }

    pub(super) fn not(&mut self, of: Residue) -> Residue {
        match self.form(of) {
            Form::Known(Truth3::False) => TRUE,
            Form::Known(Truth3::Unknown) => UNKNOWN,
            Form::Known(Truth3::True) => FALSE,
            Form::Not(inner) => *inner,
            _ => self.number(Form::Not(of)),
        }
    }

    /// Kleene conjunction and disjunction are idempotent, commutative and associative; `neutral` adds nothing and
    /// `absorbing` is all that is left.
    fn join(
        &mut self,
        mut parts: Vec<Residue>,
        neutral: Residue,
        absorbing: Residue,
        form: fn(Box<[Residue]>) -> Form,
    ) -> Residue {
        if parts.contains(&absorbing) {
            return absorbing;
        }
        parts.retain(|part| *part != neutral);
        parts.sort_unstable();
        parts.dedup();
        match parts.as_slice() {
            [] => neutral,
            [only] => *only,
            _ => self.number(form(parts.into())),
        }
    }

    fn number(&mut self, form: Form) -> Residue {
        if let Some(held) = self.numbers.get(&form) {
            return *held;
        }
        let number = Residue(u32::try_from(self.forms.len()).unwrap_or(u32::MAX));
        self.forms.push(form.clone());
        self.numbers.insert(form, number);
        number
    }

    /// The questions that a residue depends on.
    pub(super) fn asks(&self, of: Residue, into: &mut std::collections::BTreeSet<Ask>) {
        match self.form(of) {
            Form::Known(_) | Form::Protocol(_) => {}
            Form::Ask(ask) => {
                into.insert(*ask);
            }
            Form::All(parts) | Form::Any(parts) => parts.iter().for_each(|part| self.asks(*part, into)),
            Form::Not(inner) => self.asks(*inner, into),
        }
    }
}
