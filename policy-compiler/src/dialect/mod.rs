//! The formats that people write policies in, one module a format.
//!
//! Each front end turns its documents into [`crate::model::Policy`]s, or into diagnostics. Nothing is ever silently
//! ignored.

pub(crate) mod istio;

use std::sync::Arc;

use crate::diagnostic::Diagnostic;
use crate::model::{Model, PolicyName};

/// What came of a set of documents.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    /// The policies that could be read, and the settings.
    pub model: Arc<Model>,
    /// Findings, errors included.
    pub diagnostics: Vec<Diagnostic>,
    /// Documents with an error, by name where the name could be read.
    pub refused: Vec<PolicyName>,
    /// `PolicyTest` documents.
    pub tests: Vec<crate::analysis::test::PolicyTest>,
    /// Documents of kinds that are no policy: passed over, counted.
    pub passed_over: Vec<(String, usize)>,
}

// To come:
//   pub fn compile(sources: &Sources) -> Compiled
//   pub fn compile_onto(sources: &Sources, last_good: &LastGood) -> Compiled   a refused document keeps its last good
//       version; if it never had one, a Policy with broken=true closes what it selects
