//! What a comparison tells.

use serde::Serialize;
use serde_json::Value as Json;

use crate::facts::{Direction, Transport};
use crate::flow::Answer;

/// How flows are compared.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The time at which everything is judged.
    pub now: i64,
    /// Steps that the whole comparison may take.
    pub budget: u64,
    /// One side alone; both where missing.
    pub direction: Option<Direction>,
}

/// Steps that are enough for every hand-written policy, and taken in a few seconds.
pub const BUDGET: u64 = 20_000_000;

/// What is different.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Comparison {
    /// What is newly allowed, then what is newly denied.
    pub changes: Vec<Change>,
    /// What could not be worked out.
    pub undecided: Vec<Open>,
}

/// Whether more or less passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Denied before, allowed now.
    Allowed,
    /// Allowed before, denied now.
    Denied,
}

/// Flows that meet another verdict than before, all for the same reason.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// Newly allowed or newly denied.
    pub kind: Kind,
    /// Who sends them: each of these.
    pub sources: Vec<String>,
    /// Where they go: each of these.
    pub destinations: Vec<String>,
    /// On these ports.
    pub ports: Vec<String>,
    /// Over these transports.
    pub transports: Vec<Transport>,
    /// Which requests, in words.
    pub requests: String,
    /// One of them, as `decide` reads it.
    pub witness: Json,
    /// What it met before.
    pub old: Answer,
    /// What it meets now.
    pub new: Answer,
}

/// Flows of which it is not known whether they meet another verdict.
#[derive(Clone, Debug, Serialize)]
pub struct Open {
    /// Who sends them.
    pub sources: Vec<String>,
    /// Where they go.
    pub destinations: Vec<String>,
    /// On these ports.
    pub ports: Vec<String>,
    /// Over this transport.
    pub transport: Option<Transport>,
    /// Why.
    pub why: String,
    /// The rules that would have to be compared.
    pub rules: Vec<String>,
}
