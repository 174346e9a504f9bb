//! The space of all flows, as far as policies can tell them apart.

mod addresses;
mod compare;
mod diagram;
mod difference;
mod domain;
mod element;
mod ends;
mod function;
mod machine;
mod product;
mod program;
mod reading;
mod region;
mod residue;
mod survey;
mod variable;
mod witness;

use std::sync::Arc;

pub use compare::compare;
pub(crate) use compare::compare_within;
pub use difference::{BUDGET, Change, Comparison, Kind, Open, Options};

/// Steps that may still be taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    left: u64,
}

impl Budget {
    pub(crate) fn new(steps: u64) -> Self {
        Self { left: steps }
    }

    fn spend(&mut self, steps: u64) -> Result<(), Undecided> {
        self.left = self.left.checked_sub(steps).ok_or(Undecided::Budget)?;
        Ok(())
    }
}

/// Why a question is left open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecided {
    /// The budget is used up.
    #[error("the budget is used up")]
    Budget,
    /// A regular expression whose automaton would be too large.
    #[error("the automaton of `regex:{0}` would be too large")]
    Expression(Arc<str>),
    /// Rules ask about parts of a request that are functions of one another.
    #[error("rules ask about {0}")]
    Together(&'static str),
    /// The two sides read these requests, each in its own way.
    #[error("`httpOptions` differ: nothing is known of {0}")]
    Read(&'static str),
    /// No request could be found that shows the difference.
    #[error("no single request could be shown to make the difference")]
    Unconfirmed,
}
