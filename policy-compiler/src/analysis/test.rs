//! `PolicyTest`: flows with the verdicts that their author expects.

use crate::diagnostic::Location;
use crate::model::PolicyName;
use crate::registry::Registry;
use crate::verdict::Action;

/// One `PolicyTest` document.
#[derive(Clone, Debug)]
pub struct PolicyTest {
    /// Namespace and name.
    pub name: PolicyName,
    /// Where its document starts.
    pub location: Location,
    /// Seconds since the epoch at which cases are judged that do not say so themselves.
    pub now: Option<i64>,
    /// The workloads of the test; `None`: those of the command line.
    pub registry: Option<Registry>,
    /// The flows.
    pub cases: Vec<Case>,
}

/// One flow and what is expected of it.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name, or `cases[2]`.
    pub name: String,
    /// Where it stands.
    pub location: Location,
    /// The members of a `decide` request.
    pub request: serde_json::Value,
    /// The verdict.
    pub expect: Action,
    /// The rule that must have decided, by name.
    pub rule: Option<String>,
}
