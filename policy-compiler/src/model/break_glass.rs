//! An emergency: for a while the policies of some workloads are only told of.

use std::sync::Arc;

use super::{Expr, PolicyName};
use crate::diagnostic::Location;

/// The longest that one may last, in seconds.
pub const BREAK_GLASS_MAX: i64 = 4 * 3600;

/// See the module. What it opens, it opens between its begin and its end alone.
#[derive(Clone, Debug)]
pub struct BreakGlass {
    /// Who it is.
    pub name: PolicyName,
    /// Where its document starts.
    pub location: Location,
    /// The workloads whose policies do not act.
    pub subject: Expr,
    /// Why, in words of whoever wrote it.
    pub reason: Arc<str>,
    /// Seconds since the epoch.
    pub begins: i64,
    /// Seconds since the epoch, at most [`BREAK_GLASS_MAX`] later.
    pub expires: i64,
}

impl BreakGlass {
    /// Whether it still acts at this time, or will.
    #[must_use]
    pub fn is_over(&self, now: i64) -> bool {
        now >= self.expires
    }

    /// Whether it acts at this time.
    #[must_use]
    pub fn acts(&self, now: i64) -> bool {
        (self.begins..self.expires).contains(&now)
    }
}
