//! Which route a request is for.
//!
//! SPEC: the more specific host name, then the longer match of the path whatever its kind, then more headers, more query
//! parameters, a method; then the older route, its name, the order of its rules. How long a match is depends on the
//! request only as far as the whole path is longer than every prefix of it: a prefix is therefore two matches, the path
//! that is the prefix itself, and what lies below. So that order is fixed before any request is seen.

use super::route::{Match, Path, Route};
use crate::diagnostic::Location;
use crate::model::Expr;

/// One match of one route, in its place.
pub(super) struct Chosen<'r> {
    pub(super) route: &'r Route,
    /// Of the rule that it becomes.
    pub(super) name: String,
    pub(super) condition: Expr,
    pub(super) location: Location,
}

/// How specific a match is; the greater comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    host: (u8, usize),
    path: (usize, usize),
    headers: usize,
    query: usize,
    method: bool,
}

/// Every match of these routes, the best first.
pub(super) fn ordered<'r>(routes: &[&'r Route]) -> Vec<Chosen<'r>> {
    let mut all: Vec<(Rank, (i64, &str, usize), Chosen<'r>)> = Vec::new();
    for route in routes {
        for (index, one) in route.matches.iter().enumerate() {
            for host in route.hosts() {
                for (path, is_path) in forms(&one.path) {
                    let rank =
                        Rank { host: host.rank, path, headers: one.headers, query: one.query, method: one.has_method };
                    let condition = Expr::all([host.condition.clone(), is_path, one.rest.clone()]);
                    let name = name_of(route, one);
                    let chosen = Chosen { route, name, condition, location: one.location.clone() };
                    all.push((rank, (route.created, &route.name.name, index), chosen));
                }
            }
        }
    }
    all.sort_by(|(a, older, _), (b, younger, _)| b.cmp(a).then(older.cmp(younger)));
    all.into_iter().map(|(.., chosen)| chosen).collect()
}

fn name_of(route: &Route, one: &Match) -> String {
    format!("{}.{}", route.name.name, one.position)
}

/// The forms of a path, each with the length of its match: `usize::MAX` for the whole path.
fn forms(path: &Path) -> Vec<((usize, usize), Expr)> {
    match path {
        Path::Any => vec![((1, 0), Expr::True)],
        Path::Whole(condition) => vec![((usize::MAX, 0), condition.clone())],
        Path::Prefix { length, itself, below } => {
            vec![((usize::MAX, 0), itself.clone()), ((*length, 0), below.clone())]
        }
        Path::Call { service, method, condition } => vec![((*service, *method), condition.clone())],
    }
}
