//! What the readers of one document share.

use std::sync::Arc;

use crate::facts::Direction;
use crate::model::{Atom, Expr, PeerAtom};
use crate::settings::Settings;
use crate::source::Findings;

/// Which end a selector is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The workloads that the policy protects.
    Subject,
    /// The other end.
    Peer,
}

/// What the readers of one rule share.
pub(super) struct Context<'a> {
    pub(super) findings: &'a mut Findings,
    pub(super) settings: &'a Settings,
    /// The policy's namespace; none of a cluster-wide one.
    pub(super) namespace: Option<Arc<str>>,
    pub(super) role: Role,
    pub(super) direction: Direction,
}

impl Context<'_> {
    /// A question about the end that is read about.
    pub(super) fn of(&self, atom: PeerAtom) -> Expr {
        Expr::Is(match self.role {
            Role::Subject => Atom::Subject(atom),
            Role::Peer => Atom::Located(atom),
        })
    }
}
