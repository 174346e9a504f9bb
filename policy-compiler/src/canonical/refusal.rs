//! Why a message is not a valid canonical request (or an upstream's answer no valid response): one table binds reason →
//! label → HTTP status → what becomes of the connection → whether somebody seems to be trying something.

/// Writes the enum and its table from one list, so that no reason can lack a column.
macro_rules! refusals {
    ($($(#[doc = $doc:literal])+ $name:ident: $label:literal, $status:literal, $connection:ident, $intent:ident;)+) => {
        /// Why a message is refused. Refusals come before any rule.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Refusal {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Refusal {
            /// Every reason, in the order of the table: what metrics resolve their handles from.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The name in metrics, logs and verdicts.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)+ }
            }

            /// The status of the answer to the client. (A response of the upstream that is refused is always a 502.)
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)+ }
            }

            /// Whether an HTTP/1 connection ends with the answer: where the message ends is no longer sure.
            #[must_use]
            pub const fn closes(self) -> bool {
                match self { $(Self::$name => matches!(Connection::$connection, Connection::Close),)+ }
            }

            /// Whether it counts as an evasion attempt of the identity that sent it.
            #[must_use]
            pub const fn evasion(self) -> bool {
                match self { $(Self::$name => matches!(Intent::$intent, Intent::Evasion),)+ }
            }
        }
    };
}

enum Connection {
    Close,
    Keep,
}

enum Intent {
    Evasion,
    Innocent,
}

refusals! {
    // Path and query.
    /// The path does not begin with `/`.
    RelativePath: "relative-path", 400, Keep, Evasion;
    /// `%2F` in the path.
    EscapedSlash: "escaped-slash", 400, Keep, Evasion;
    /// `\` or `%5C` in the path.
    Backslash: "backslash", 400, Keep, Evasion;
    /// `;` or `%3B` in the path.
    PathParameters: "path-parameters", 400, Keep, Evasion;
    /// `#`, which no request target has.
    Fragment: "fragment", 400, Keep, Evasion;
    /// `%` without two hexadecimal digits.
    MalformedEscape: "malformed-escape", 400, Keep, Evasion;
    /// `%00`-`%1F` or `%7F` in the path.
    EscapedControl: "escaped-control", 400, Keep, Evasion;
    /// `%80`-`%FF` in the path: overlong and partial UTF-8 have no one meaning.
    EscapedNonAscii: "escaped-non-ascii", 400, Keep, Evasion;
    /// A control byte, a space or a byte that delimits in a path or query.
    TargetCharacter: "target-character", 400, Keep, Evasion;
    /// A raw byte 0x80-0xFF in a path or query.
    NonAsciiTarget: "non-ascii-target", 400, Keep, Evasion;
    /// `..` above the root.
    AboveRoot: "above-root", 400, Keep, Evasion;
    /// `//` together with a dot segment.
    SlashesWithDots: "slashes-with-dots", 400, Keep, Evasion;
    /// A dot segment that shows only once a kept `%2F`, `\` or `;` is taken for a delimiter.
    HiddenDotSegment: "hidden-dot-segment", 400, Keep, Evasion;
    /// A request target of no form, or of a form that the method does not have.
    MalformedTarget: "malformed-target", 400, Close, Evasion;
    /// A scheme that is not the transport's.
    WrongScheme: "wrong-scheme", 400, Keep, Evasion;

    // Method and host.
    /// The method is not a token, or longer than any method.
    MalformedMethod: "malformed-method", 400, Close, Evasion;
    /// HTTP/1.1 without Host.
    MissingHost: "missing-host", 400, Close, Innocent;
    /// More than one Host.
    SeveralHosts: "several-hosts", 400, Close, Evasion;
    /// Host or authority is no host: empty, userinfo, escapes, bad port, characters that no host has.
    MalformedHost: "malformed-host", 400, Close, Evasion;
    /// Absolute form, or `:authority`, and Host do not agree.
    HostMismatch: "host-mismatch", 400, Close, Evasion;
    /// The SNI is no server name.
    MalformedServerName: "malformed-server-name", 400, Close, Evasion;
    /// SNI and Host differ where the proxy terminates TLS.
    Misdirected: "misdirected", 421, Close, Evasion;

    // Header lines.
    /// A header that overrides method or path.
    OverrideHeader: "override-header", 400, Keep, Evasion;
    /// A name that folds to a header of a rule in scope, or to one that frames or routes (`X_Role`, `Content_Length`).
    FoldedName: "folded-name", 400, Close, Evasion;
    /// Connection nominates a header that a rule looks at, or that frames or routes.
    NominatedHeader: "nominated-header", 400, Close, Evasion;
    /// Connection is no list of tokens.
    MalformedConnection: "malformed-connection", 400, Close, Evasion;
    /// A header name that is no token, or none.
    MalformedName: "malformed-name", 400, Close, Evasion;
    /// Whitespace between a header name and its colon.
    SpaceBeforeColon: "space-before-colon", 400, Close, Evasion;
    /// A control byte in a header value.
    ControlInValue: "control-in-value", 400, Close, Evasion;
    /// A header value continued on a second line.
    FoldedLine: "folded-line", 400, Close, Evasion;
    /// A trailer that frames, routes or authenticates, or that a rule looks at: it would arrive after the verdict.
    ForbiddenTrailer: "forbidden-trailer", 400, Close, Evasion;

    // Framing.
    /// A carriage return that no line feed follows.
    BareCr: "bare-cr", 400, Close, Evasion;
    /// A line feed that no carriage return precedes.
    BareLf: "bare-lf", 400, Close, Evasion;
    /// The start line is not one of HTTP/1.
    MalformedStartLine: "malformed-start-line", 400, Close, Evasion;
    /// A version of HTTP other than 1.0 and 1.1.
    UnsupportedVersion: "unsupported-version", 505, Close, Innocent;
    /// Content-Length that is not one canonical decimal number.
    MalformedLength: "malformed-length", 400, Close, Evasion;
    /// More than one Content-Length, equal ones too.
    SeveralLengths: "several-lengths", 400, Close, Evasion;
    /// Content-Length with Transfer-Encoding.
    LengthWithEncoding: "length-with-encoding", 400, Close, Evasion;
    /// Transfer-Encoding that is not exactly `chunked`, once.
    TransferEncoding: "transfer-encoding", 400, Close, Evasion;
    /// Transfer-Encoding in HTTP/1.0, or where no body can be.
    MisplacedEncoding: "misplaced-encoding", 400, Close, Evasion;
    /// A chunk size that is no canonical hexadecimal number, or too large.
    MalformedChunk: "malformed-chunk", 400, Close, Evasion;
    /// A chunk extension that breaks its grammar.
    MalformedExtension: "malformed-extension", 400, Close, Evasion;
    /// The connection ended inside a message.
    Truncated: "truncated", 400, Close, Innocent;

    // Upgrade and expectation.
    /// Upgrade with several protocols, a malformed one, or a body before the switch.
    MalformedUpgrade: "malformed-upgrade", 400, Close, Evasion;
    /// Upgrade to HTTP/2 (`h2c`), which some clients offer on their own. HTTP/2 with prior knowledge needs none.
    Http2Upgrade: "http-upgrade", 400, Close, Innocent;
    /// An upstream switched protocols unasked, or to another one than was asked for.
    UnaskedUpgrade: "unasked-upgrade", 400, Close, Evasion;
    /// An expectation other than `100-continue`.
    UnknownExpectation: "unknown-expectation", 417, Close, Innocent;

    // Limits.
    /// The request line alone is larger than a head may be.
    TargetTooLong: "target-too-long", 414, Close, Innocent;
    /// The head, or the trailers, are too large.
    HeadTooLarge: "head-too-large", 431, Close, Innocent;
    /// Too many header lines.
    TooManyFields: "too-many-fields", 431, Close, Innocent;
    /// Chunk extensions too large.
    ExtensionTooLarge: "extension-too-large", 400, Close, Evasion;
    /// The head did not arrive in time.
    HeadTimeout: "head-timeout", 408, Close, Innocent;
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.label())
    }
}

impl std::error::Error for Refusal {}

impl serde::Serialize for Refusal {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.label())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn labels_are_distinct_and_plain() {
        let labels: HashSet<_> = Refusal::ALL.iter().map(|refusal| refusal.label()).collect();
        assert_eq!(labels.len(), Refusal::ALL.len());
        for label in labels {
            assert!(label.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{label}");
        }
    }

    #[test]
    fn statuses_are_client_errors_but_for_the_version() {
        for refusal in Refusal::ALL {
            let expected = if *refusal == Refusal::UnsupportedVersion { 500..600 } else { 400..500 };
            assert!(expected.contains(&refusal.status()), "{refusal:?}");
        }
    }

    #[test]
    fn a_refusal_is_serialised_as_its_label() {
        assert_eq!(serde_json::to_string(&Refusal::EscapedSlash).unwrap(), "\"escaped-slash\"");
    }
}
