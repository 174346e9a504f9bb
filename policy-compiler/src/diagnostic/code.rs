//! The table of diagnostic codes: code, severity, what it is about. `docs/diagnostics.md` shows the same table.

use serde::{Serialize, Serializer};

use super::Severity;

macro_rules! codes {
    ($($name:ident = $code:literal, $severity:ident, $title:literal;)*) => {
        /// A stable diagnostic code. A code is never given a second meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $title] $name,)*
        }

        impl Code {
            /// Every code, in order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// `EW0101`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The severity that findings of this code have.
            #[must_use]
            pub fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)* }
            }

            /// One line about it.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

codes! {
    // 01: files and syntax
    Unreadable = "EW0101", Error, "a file or folder cannot be read";
    TooLarge = "EW0102", Error, "a file, a document or what its aliases expand to is too large";
    NotUtf8 = "EW0103", Error, "a file is not UTF-8";
    Syntax = "EW0104", Error, "not valid YAML or JSON";
    DuplicateKey = "EW0105", Error, "a key stands twice in one mapping";
    UnsupportedYaml = "EW0106", Error, "a YAML feature that policies may not use";
    NotAnObject = "EW0107", Error, "a document is not an object with apiVersion, kind and metadata";
    // 02: shape
    UnknownField = "EW0201", Error, "a field that the schema does not have";
    WrongType = "EW0202", Error, "a value of the wrong type";
    MissingField = "EW0203", Error, "a required field is missing";
    BadEnumValue = "EW0204", Error, "a value that is not one of the allowed words";
    EmptyList = "EW0205", Error, "an empty list";
    NullValue = "EW0206", Error, "a field without a value";
    UnknownKind = "EW0207", Error, "an apiVersion or kind that does not exist";
    BadValue = "EW0208", Error, "a value that cannot be parsed";
    OutOfRange = "EW0209", Error, "a number out of range";
    // 03: meaning
    Conflict = "EW0301", Error, "fields that exclude each other";
    EmptySelector = "EW0302", Error, "an empty selector where everybody must be written `any: true`";
    NeedsPorts = "EW0303", Error, "a rule that must name its ports";
    NeedsProtocol = "EW0304", Error, "an Allow that does not name exactly one protocol";
    WrongDirection = "EW0305", Error, "a rule or field that does not belong to its direction or tier";
    NoEffect = "EW0306", Error, "a policy that closes nothing and has no rules";
    OutsideNamespace = "EW0307", Error, "a namespaced policy that reaches for workloads of another namespace";
    NeverMatches = "EW0308", Error, "a pattern that no canonical request can match";
    BadRegex = "EW0309", Error, "a regular expression that is invalid or too large";
    NotSupported = "EW0310", Error, "a feature that this version does not have";
    NotSingleton = "EW0311", Error, "a singleton with another name";
    // 04: between documents
    DuplicateDocument = "EW0401", Error, "a second document of the same kind and name";
    DanglingReplaces = "EW0402", Error, "`replaces` names a policy that does not exist";
    DanglingService = "EW0403", Error, "a rule names a Service that does not exist";
    NotRead = "EW0404", Warning, "a policy of a dialect that this version does not read";
    PassedOver = "EW0405", Note, "documents that are no policy";
    // 05: probably not meant
    NobodyYet = "EW0501", Warning, "an account, namespace, label or port name that nobody has";
    SelectsNothing = "EW0502", Warning, "a policy that selects nothing";
    Unreachable = "EW0503", Warning, "a rule that another rule makes unreachable";
    ProtocolMismatch = "EW0504", Warning, "a match that cannot apply to the declared protocol of its port";
    PodsPeer = "EW0505", Warning, "a peer that is known by labels alone";
    DuplicateRule = "EW0506", Warning, "two rules of one policy with the same name";
    Suspicious = "EW0507", Warning, "valid, and probably not what is meant";
    OptIn = "EW0508", Warning, "a pattern that matches only with a canonicalisation opt-in";
    NotEnforced = "EW0509", Warning, "a policy that acts on nothing that Eastwall enforces";
    NeverUsed = "EW0520", Warning, "a rule that no known workload can ever use";
    Emptied = "EW0521", Warning, "a rule for layer 7 that a rule for layer 4 empties";
    LoosePrefix = "EW0522", Warning, "a prefix without a boundary";
    NoHead = "EW0523", Note, "GET is allowed and HEAD is not";
    ProbeRefused = "EW0524", Warning, "a probe of a pod's own spec that policies refuse";
    Expiring = "EW0525", Warning, "a rule that has expired or soon will";
    NeedlessRegex = "EW0526", Note, "a regular expression that only spells a path";
    Open = "EW0527", Note, "a direction that no policy closes for a workload";
    // 06: workloads file
    DuplicateWorkload = "EW0601", Error, "a second entry of the same kind and name";
    BadAddress = "EW0602", Error, "not an IP address";
    DanglingEndpoint = "EW0603", Error, "an endpoint that is no workload of the file";
    ContestedAddress = "EW0604", Warning, "an address that two entries claim";
    UnknownNode = "EW0605", Warning, "a node name that no Node entry has";
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Code;

    #[test]
    fn codes_are_unique_and_ordered() {
        for pair in Code::ALL.windows(2) {
            assert!(pair[0].as_str() < pair[1].as_str(), "{} before {}", pair[0], pair[1]);
        }
    }

    #[test]
    fn the_documentation_has_every_code() {
        let page = include_str!("../../../docs/diagnostics.md");
        for code in Code::ALL {
            let severity = format!("{:?}", code.severity()).to_lowercase();
            let row = format!("| {code} | {severity} | {} |", code.title());
            assert!(page.contains(&row), "docs/diagnostics.md lacks the row\n{row}");
        }
    }
}
