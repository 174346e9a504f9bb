//! The one normal form that all dialects become.
//!
//! A rule is one [`Expr`] over [`Atom`]s; a dialect's peculiarities are spelled out in the atoms that its front end
//! chooses, so that neither the interpreter nor the table knows of dialects.

mod atom;
mod break_glass;
pub mod content;
mod expr;
pub mod interpret;
mod pattern;
mod policy;
pub(crate) mod position;
pub mod token;

pub use atom::{
    Atom, CidrScope, Each, NodeScope, PeerAtom, PlaintextPrincipal, PortAtom, Selector, SelectorOperator,
    SelectorRequirement, Text,
};
pub use break_glass::{BREAK_GLASS_MAX, BreakGlass};
pub use expr::Expr;
pub use pattern::{AsciiSet, Pattern, Rest, Segment};
pub use policy::{Directions, Effect, HttpOption, HttpOptions, Mode, Model, Policy, PolicyName, Rule, Stack, Tier};
pub use token::{JwtRule, KeysFrom, TokenPlace};
