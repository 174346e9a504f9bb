//! Errors as the CNI specification wants them.

use serde_json::json;

/// Code and words.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    code: u32,
    message: &'static str,
    details: String,
}

/// SPEC: CNI 1.1, section 5, "Error".
impl Failure {
    pub(crate) fn version(details: String) -> Self {
        Self { code: 1, message: "incompatible CNI version", details }
    }

    pub(crate) fn environment(details: String) -> Self {
        Self { code: 4, message: "invalid environment variable", details }
    }

    pub(crate) fn io(details: String) -> Self {
        Self { code: 5, message: "i/o failure", details }
    }

    pub(crate) fn undecodable(details: String) -> Self {
        Self { code: 6, message: "the network configuration cannot be decoded", details }
    }

    pub(crate) fn configuration(details: String) -> Self {
        Self { code: 7, message: "invalid network configuration", details }
    }

    pub(crate) fn later(details: String) -> Self {
        Self { code: 11, message: "try again later: the node proxy is not there", details }
    }

    /// Pods that run are closed while there is no proxy.
    pub(crate) fn limited(details: String) -> Self {
        Self { code: 51, message: "no pod can be added, and those that run may have no connectivity", details }
    }

    /// Of the range that belongs to plugins.
    pub(crate) fn refused(details: String) -> Self {
        Self { code: 100, message: "the node proxy refuses the pod", details }
    }

    /// For standard output.
    pub(crate) fn told(&self, version: &str) -> String {
        let Self { code, message, details } = self;
        format!("{}\n", json!({"cniVersion": version, "code": code, "msg": message, "details": details}))
    }

    #[cfg(test)]
    pub(crate) fn code(&self) -> u32 {
        self.code
    }

    #[cfg(test)]
    pub(crate) fn details(&self) -> &str {
        &self.details
    }
}
