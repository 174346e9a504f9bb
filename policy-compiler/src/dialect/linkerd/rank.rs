//! Which of several matches of a request is the best one.
//!
//! SPEC: the host (exact before suffix, the longer suffix first), then how much of the path was matched whatever the
//! kind of match, then the number of headers, of query parameters, and whether there is a method. How much an exact
//! path or an expression matches is the whole path, and so is a prefix that is the path. A prefix of a longer path
//! matches its own length, which is always less. So a match with a prefix has two ranks, and each is known beforehand.

use std::cmp::Ordering;

/// How well a host matches; the later, the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum HostRank {
    /// The route names no host.
    Any,
    /// Length of the suffix.
    Suffix(usize),
    Exact,
}

/// How much of a path matches; the later, the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PathRank {
    /// A part of this length.
    Part(usize),
    Whole,
    /// gRPC: lengths of the names of service and method.
    Rpc(usize, usize),
}

/// Everything that is compared; the greater, the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) host: HostRank,
    pub(super) path: PathRank,
    pub(super) headers: usize,
    pub(super) queries: usize,
    pub(super) method: bool,
}

/// Of equals the older route comes first, then the name, then what stands first.
pub(super) type Age<'d> = (Option<i64>, &'d str, usize);

/// The best first.
pub(super) fn best_first(a: (&Rank, Age<'_>), b: (&Rank, Age<'_>)) -> Ordering {
    b.0.cmp(a.0).then_with(|| a.1.cmp(&b.1))
}
