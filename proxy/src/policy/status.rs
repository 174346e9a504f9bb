//! How the last reload went, for `/readyz` and `/policy`.

use serde::Serialize;

/// What is in force, and what of the sources is not.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Status {
    /// Number and hash of the table in force.
    pub(crate) generation: String,
    /// A good table is or was read: false closes everything and fails readiness.
    pub(crate) good: bool,
    /// The self-test of the last table that was made failed, so it is not in force; the text says what went wrong.
    pub(crate) self_test: Option<String>,
    /// How the last reload ended.
    pub(crate) last_reload: LastReload,
    /// Documents that are not in force as they stand.
    pub(crate) errors: Vec<DocumentError>,
    /// Files whose last good documents stay in force.
    pub(crate) held: Vec<HeldFile>,
    /// Why the last workloads file is not in force.
    pub(crate) workloads: Option<String>,
    /// Nothing was heard of the controller for too long: no address proves who a peer is.
    pub(crate) controller_silent: bool,
    /// The address behind a gateway is no registered workload: everything is refused.
    pub(crate) unregistered_upstream: Option<String>,
    /// There is a gateway and nobody is registered: everything passes.
    pub(crate) unprotected_upstream: Option<String>,
    /// When the next rule ends, seconds since the epoch.
    pub(crate) next_expiry: Option<i64>,
}

impl Status {
    /// The table may serve.
    pub(crate) fn is_ready(&self) -> bool {
        self.good && self.self_test.is_none() && self.unregistered_upstream.is_none()
    }
}

/// See [`Status::last_reload`].
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct LastReload {
    /// When.
    pub(crate) at: String,
    /// How it ended.
    pub(crate) result: Outcome,
    /// How long reading, compiling and swapping took.
    pub(crate) seconds: f64,
}

/// How a reload ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// Everything that was read is in force.
    Success,
    /// What is good is in force; something is not (`errors`, `held`).
    Partial,
    /// Nothing of it is in force.
    #[default]
    Failure,
    /// Nothing had changed.
    Unchanged,
}

impl Outcome {
    /// As the metric names it.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Partial => "partial",
            Self::Failure => "failure",
            Self::Unchanged => "unchanged",
        }
    }
}

/// One finding that refuses a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct DocumentError {
    /// `EW0101`.
    pub(crate) code: String,
    /// What is wrong.
    pub(crate) message: String,
    /// File, line and column.
    pub(crate) location: String,
    /// The policy, where its name could be read.
    pub(crate) policy: Option<String>,
}

/// A file whose last good documents stay in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct HeldFile {
    /// The file.
    pub(crate) file: String,
    /// Why.
    pub(crate) why: String,
}
