//! `PolicyTest`: flows with the verdicts that their author expects.

/// One `PolicyTest` document.
#[derive(Clone, Debug)]
pub struct PolicyTest {
    /// Namespace and name.
    pub name: crate::model::PolicyName,
}
