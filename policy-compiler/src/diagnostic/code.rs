//! The table of diagnostic codes: code, severity, what it is about, what to do. `docs/diagnostics.md` shows the same table.

use serde::{Serialize, Serializer};

use super::Severity;

macro_rules! codes {
    ($($name:ident = $code:literal, $severity:ident, $title:literal, $help:literal;)*) => {
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

            /// What to do about any finding of this code; a finding's own help says more.
            #[must_use]
            pub fn help(self) -> &'static str {
                match self { $(Self::$name => $help,)* }
            }
        }
    };
}

codes! {
    // 01: files and syntax
    Unreadable = "EW0101", Error, "a file or folder cannot be read",
        "check that it exists and may be read";
    TooLarge = "EW0102", Error, "a file, a document or what its aliases expand to is too large",
        "split the file, or raise the bound that the message names";
    NotUtf8 = "EW0103", Error, "a file is not UTF-8",
        "save it as UTF-8";
    Syntax = "EW0104", Error, "not valid YAML or JSON",
        "mend the YAML or JSON at the place that is marked";
    DuplicateKey = "EW0105", Error, "a key stands twice in one mapping",
        "keep one of the two";
    UnsupportedYaml = "EW0106", Error, "a YAML feature that policies may not use",
        "write it out: no tags, no merge keys, no second meaning";
    NotAnObject = "EW0107", Error, "a document is not an object with apiVersion, kind and metadata",
        "write `apiVersion`, `kind` and `metadata`, or keep other files out of the folder";
    // 02: shape
    UnknownField = "EW0201", Error, "a field that the schema does not have",
        "correct the spelling, or remove the field";
    WrongType = "EW0202", Error, "a value of the wrong type",
        "write a value of the type that the message names; text in quotes";
    MissingField = "EW0203", Error, "a required field is missing",
        "add the field";
    BadEnumValue = "EW0204", Error, "a value that is not one of the allowed words",
        "write one of the words that the message lists";
    EmptyList = "EW0205", Error, "an empty list",
        "name at least one item, or leave the field out";
    NullValue = "EW0206", Error, "a field without a value",
        "write a value, or leave the field out";
    UnknownKind = "EW0207", Error, "an apiVersion or kind that does not exist",
        "correct `apiVersion` or `kind`";
    BadValue = "EW0208", Error, "a value that cannot be parsed",
        "write it in the form that the message names";
    OutOfRange = "EW0209", Error, "a number out of range",
        "write a number within the range that the message names";
    // 03: meaning
    Conflict = "EW0301", Error, "fields that exclude each other",
        "keep one of the fields";
    EmptySelector = "EW0302", Error, "an empty selector where everybody must be written `any: true`",
        "write `any: true` for everybody, or say who is meant";
    NeedsPorts = "EW0303", Error, "a rule that must name its ports",
        "add `ports`";
    NeedsProtocol = "EW0304", Error, "an Allow that does not name exactly one protocol",
        "write exactly one of `http`, `grpc`, `tls`, `dns`, `tcp` and `udp`";
    WrongDirection = "EW0305", Error, "a rule or field that does not belong to its direction or tier",
        "move it to the direction or tier that it belongs to";
    NoEffect = "EW0306", Error, "a policy that closes nothing and has no rules",
        "write rules, or `directions` to close";
    OutsideNamespace = "EW0307", Error, "a namespaced policy that reaches for workloads of another namespace",
        "write the policy in the namespace of the workloads that it protects";
    NeverMatches = "EW0308", Error, "a pattern that no canonical request can match",
        "write the pattern as canonical requests have it";
    BadRegex = "EW0309", Error, "a regular expression that is invalid or too large",
        "correct or simplify the expression";
    NotSupported = "EW0310", Error, "a feature that this version does not have",
        "write it without the feature";
    NotSingleton = "EW0311", Error, "a singleton with another name",
        "give it the name that the message says";
    // 04: between documents
    DuplicateDocument = "EW0401", Error, "a second document of the same kind and name",
        "rename or remove one: neither is taken";
    DanglingReplaces = "EW0402", Error, "`replaces` names a policy that does not exist",
        "name a policy of the same kind and namespace that exists";
    DanglingService = "EW0403", Error, "a rule names a Service that does not exist",
        "correct the name, or add the Service";
    NotRead = "EW0404", Warning, "a policy of a dialect that this version does not read",
        "write the same as a `FirewallPolicy`, or leave it to the system that enforces it";
    PassedOver = "EW0405", Note, "documents that are no policy",
        "nothing, unless one of them was meant to be a policy";
    LeftOut = "EW0406", Note, "more findings than are told",
        "mend what is told first, or read fewer files at once";
    // 05: probably not meant
    NobodyYet = "EW0501", Warning, "an account, namespace, label or port name that nobody has",
        "correct the name, or wait for the workload";
    SelectsNothing = "EW0502", Warning, "a policy that selects nothing",
        "check labels, account and namespace";
    Unreachable = "EW0503", Warning, "a rule that another rule makes unreachable",
        "remove it, or narrow the rule that comes before it";
    ProtocolMismatch = "EW0504", Warning, "a match that cannot apply to the declared protocol of its port",
        "match what the port speaks, or name another port";
    PodsPeer = "EW0505", Warning, "a peer that is known by labels alone",
        "name a service account: whoever may write labels becomes this peer";
    DuplicateRule = "EW0506", Warning, "two rules of one policy with the same name",
        "give each rule its own name";
    Suspicious = "EW0507", Warning, "valid, and probably not what is meant",
        "read the message: what is written may not be what is meant";
    OptIn = "EW0508", Warning, "a pattern that matches only with a canonicalisation opt-in",
        "opt in with `httpOptions`, or write the pattern without it";
    NotEnforced = "EW0509", Warning, "a policy that acts on nothing that Eastwall enforces",
        "leave it to the system that enforces it, or write a rule that Eastwall enforces";
    NeverUsed = "EW0520", Warning, "a rule that no known workload can ever use",
        "remove it, or correct whom it names";
    Emptied = "EW0521", Warning, "a rule for layer 7 that a rule for layer 4 empties",
        "remove the rule for layer 4, or narrow its ports or peers";
    LoosePrefix = "EW0522", Warning, "a prefix without a boundary",
        "end the prefix at a boundary";
    NoHead = "EW0523", Note, "GET is allowed and HEAD is not",
        "add HEAD, unless no client sends it";
    ProbeRefused = "EW0524", Warning, "a probe of a pod's own spec that policies refuse",
        "allow it for the node, or leave `probes: Allow`";
    Expiring = "EW0525", Warning, "a rule that has expired or soon will",
        "renew `expires`, or remove the rule";
    NeedlessRegex = "EW0526", Note, "a regular expression that only spells a path",
        "write the path that the message shows";
    Open = "EW0527", Note, "a direction that no policy closes for a workload",
        "write a policy that closes it, if it is not meant to be open";
    BreakGlass = "EW0528", Warning, "an emergency that opens what policies close",
        "delete it as soon as the emergency is over";
    // 06: workloads file
    DuplicateWorkload = "EW0601", Error, "a second entry of the same kind and name",
        "rename or remove one";
    BadAddress = "EW0602", Error, "not an IP address",
        "write an IP address";
    DanglingEndpoint = "EW0603", Error, "an endpoint that is no workload of the file",
        "correct the name, or add the workload";
    ContestedAddress = "EW0604", Warning, "an address that two entries claim",
        "give each entry its own address: who shares one is unknown";
    UnknownNode = "EW0605", Warning, "a node name that no Node entry has",
        "add the Node entry, or correct the name";
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
            let row = format!("| {code} | {severity} | {} | {} |", code.title(), code.help());
            assert!(page.contains(&row), "docs/diagnostics.md lacks the row\n{row}");
        }
    }
}
