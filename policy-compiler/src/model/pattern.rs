//! What a text is compared with.

use std::sync::Arc;

/// A pattern over bytes. Never a regular expression unless a user wrote one.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// The same bytes. Compared in constant time where the text is a header, a parameter or a claim.
    Exact(Arc<[u8]>),
    /// The same bytes, ASCII case ignored (hosts, server names).
    ExactIgnoreCase(Arc<[u8]>),
    /// Starts with.
    Prefix(Arc<[u8]>),
    /// Ends with.
    Suffix(Arc<[u8]>),
    /// Ends with, ASCII case ignored.
    SuffixIgnoreCase(Arc<[u8]>),
    /// Starts with, ASCII case ignored.
    PrefixIgnoreCase(Arc<[u8]>),
    /// At least one byte.
    NonEmpty,
    /// Anything.
    Anything,
    /// A path by segments. One that ends in a slash has an empty last segment.
    Segments {
        /// Between the slashes.
        segments: Vec<Segment>,
        /// What may come behind them.
        rest: Rest,
    },
    /// `*.x`: exactly one non-empty label before `.x`; lower case.
    OneLabel(Arc<[u8]>),
    /// Linear time, over bytes. Matches a value that the expression's first match covers whole: of `^(?:a|ab)$` that is
    /// every full match; `^(?:a|ab)` never covers `ab`, because its first alternative wins.
    Regex {
        /// As written, for messages.
        source: Arc<str>,
        /// As compiled, for equality.
        expression: Arc<str>,
        /// Compiled.
        regex: regex_automata::meta::Regex,
    },
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b))
            | (Self::ExactIgnoreCase(a), Self::ExactIgnoreCase(b))
            | (Self::Prefix(a), Self::Prefix(b))
            | (Self::Suffix(a), Self::Suffix(b))
            | (Self::SuffixIgnoreCase(a), Self::SuffixIgnoreCase(b))
            | (Self::PrefixIgnoreCase(a), Self::PrefixIgnoreCase(b))
            | (Self::OneLabel(a), Self::OneLabel(b)) => a == b,
            (Self::NonEmpty, Self::NonEmpty) | (Self::Anything, Self::Anything) => true,
            (Self::Segments { segments: a, rest: x }, Self::Segments { segments: b, rest: y }) => a == b && x == y,
            (Self::Regex { expression: a, .. }, Self::Regex { expression: b, .. }) => a == b,
            _ => false,
        }
    }
}

/// One segment of a path pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Segment {
    /// These bytes.
    Literal(Arc<[u8]>),
    /// `{x}`: any one non-empty segment.
    Variable,
    /// One or more bytes of a set.
    Of(AsciiSet),
}

/// What may come behind the segments of a path pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rest {
    /// Nothing.
    Nothing,
    /// `/x/**`: nothing, a slash, and all below.
    Below,
    /// A slash, and any bytes of a set and slashes.
    Of(AsciiSet),
}

/// Some of the characters of ASCII. Other bytes are in no set.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AsciiSet(u128);

impl AsciiSet {
    /// The letters and digits, and these.
    #[must_use]
    pub const fn alphanumeric_and(mut others: &[u8]) -> Self {
        let mut set = Self(0);
        let mut byte = 0;
        while byte < 128u8 {
            if byte.is_ascii_alphanumeric() {
                set = set.with(byte);
            }
            byte += 1;
        }
        while let [byte, left @ ..] = others {
            set = set.with(*byte);
            others = left;
        }
        set
    }

    const fn with(self, byte: u8) -> Self {
        if byte.is_ascii() { Self(self.0 | 1 << byte) } else { self }
    }

    /// Whether it holds this byte.
    #[must_use]
    pub const fn contains(&self, byte: u8) -> bool {
        byte.is_ascii() && self.0 & (1 << byte) != 0
    }
}

impl std::fmt::Debug for AsciiSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let held: Vec<u8> = (0..=u8::MAX).filter(|byte| self.contains(*byte)).collect();
        write!(f, "[{}]", held.escape_ascii())
    }
}
