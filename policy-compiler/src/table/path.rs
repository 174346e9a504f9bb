//! Where a path pattern is looked for: the whole path, a node of the tree of segments, or among those that are always
//! tried. What is found is compared whole, so a place may hold more than matches, never less.

use crate::model::{Pattern, Rest, Segment};
use crate::table::hash::{HashedMap, Seed, extend};

/// Where a pattern is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Place {
    /// Under the hash of the whole path.
    Whole(u64),
    /// At a node of the tree, by paths that end there.
    End(u64),
    /// At a node of the tree, by paths that end there or go on.
    Below(u64),
    /// Nowhere in particular: always tried.
    Anywhere,
}

/// One node of the tree: which ways lead on.
#[derive(Clone, Debug, Default)]
pub(super) struct Ways {
    /// How many literal segments patterns go on with.
    pub(super) literals: u32,
    /// One of them.
    pub(super) only: Box<[u8]>,
    /// Some pattern goes on with any segment that is not empty.
    pub(super) variable: bool,
}

/// Segments beyond this many are left to the comparison.
const DEPTH: usize = 32;
const ROOT: u64 = 0x6F72_6967_696E_2F2F;
const VARIABLE: u64 = 0x7B76_6172_6961_626C;

/// The node that every path starts from.
pub(super) fn root() -> u64 {
    ROOT
}

/// The node behind a literal segment.
pub(super) fn literal(node: u64, segment: &[u8], seed: &Seed) -> u64 {
    extend(node, seed.bytes(segment))
}

/// The node behind any segment that is not empty.
pub(super) fn variable(node: u64) -> u64 {
    extend(node, VARIABLE)
}

/// Every place at which a pattern has to be looked for, and the nodes on the way.
pub(super) fn places(pattern: &Pattern, either_slash: bool, seed: &Seed, tree: &mut HashedMap<Ways>) -> Vec<Place> {
    match pattern {
        Pattern::Exact(path) => whole(path, either_slash, seed),
        Pattern::Segments { segments, rest: Rest::Nothing }
            if segments.iter().all(|s| matches!(s, Segment::Literal(_))) =>
        {
            let mut path = Vec::new();
            for segment in segments {
                let Segment::Literal(bytes) = segment else { continue };
                path.push(b'/');
                path.extend_from_slice(bytes);
            }
            if path.is_empty() {
                path.push(b'/');
            }
            whole(&path, either_slash, seed)
        }
        Pattern::Segments { segments, rest } => {
            let mut steps: Vec<Option<&[u8]>> = segments
                .iter()
                .map(|segment| match segment {
                    Segment::Literal(bytes) => Some(&**bytes),
                    Segment::Variable | Segment::Of(_) => None,
                })
                .collect();
            if *rest != Rest::Nothing || steps.len() > DEPTH {
                return vec![below(steps, either_slash, seed, tree)];
            }
            let mut found = vec![Place::End(plant(&steps, seed, tree))];
            if either_slash {
                if steps.last() == Some(&Some(b"")) {
                    steps.pop();
                } else {
                    steps.push(Some(b""));
                }
                found.push(Place::End(plant(&steps, seed, tree)));
            }
            found
        }
        Pattern::Prefix(prefix) => vec![under(prefix, either_slash, seed, tree)],
        Pattern::Regex { source, .. } => vec![under(plain_start(source), either_slash, seed, tree)],
        _ => vec![Place::Anywhere],
    }
}

/// A path as a whole, and its other spelling.
fn whole(path: &[u8], either_slash: bool, seed: &Seed) -> Vec<Place> {
    let mut found = vec![Place::Whole(seed.bytes(path))];
    if either_slash {
        match path {
            b"/" => found.push(Place::Whole(seed.bytes(b""))),
            [without @ .., b'/'] => found.push(Place::Whole(seed.bytes(without))),
            _ => found.push(Place::Whole(seed.bytes(&[path, b"/"].concat()))),
        }
    }
    found
}

/// All paths that start with these bytes lie under the whole segments among them.
fn under(start: &[u8], either_slash: bool, seed: &Seed, tree: &mut HashedMap<Ways>) -> Place {
    let Some(start) = start.strip_prefix(b"/") else { return Place::Anywhere };
    let mut steps: Vec<Option<&[u8]>> = start.split(|byte| *byte == b'/').map(Some).collect();
    // The last one may be the beginning of a longer segment.
    steps.pop();
    below(steps, either_slash, seed, tree)
}

fn below(mut steps: Vec<Option<&[u8]>>, either_slash: bool, seed: &Seed, tree: &mut HashedMap<Ways>) -> Place {
    steps.truncate(DEPTH);
    // Without its trailing slash a path ends one empty segment earlier.
    while either_slash && steps.last() == Some(&Some(b"")) {
        steps.pop();
    }
    if steps.is_empty() { Place::Anywhere } else { Place::Below(plant(&steps, seed, tree)) }
}

/// Makes the nodes along these segments (`None` is any that is not empty), and names the last.
fn plant(steps: &[Option<&[u8]>], seed: &Seed, tree: &mut HashedMap<Ways>) -> u64 {
    let mut node = root();
    for step in steps {
        let next = match step {
            Some(segment) => literal(node, segment, seed),
            None => variable(node),
        };
        let is_new = !tree.contains_key(&next);
        let ways = tree.entry(node).or_default();
        match step {
            Some(segment) if is_new => {
                ways.literals += 1;
                ways.only = (*segment).into();
            }
            Some(_) => {}
            None => ways.variable = true,
        }
        tree.entry(next).or_default();
        node = next;
    }
    node
}

/// The bytes that every match of an expression starts with, as far as they can be read off without doubt.
fn plain_start(source: &str) -> &[u8] {
    let source = source.as_bytes();
    // An alternative would have a start of its own.
    if source.contains(&b'|') {
        return b"";
    }
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_');
    let length = source.iter().take_while(|byte| is_plain(byte)).count();
    let repeated = matches!(source.get(length), Some(b'?' | b'*' | b'+' | b'{'));
    source.get(..length.saturating_sub(usize::from(repeated))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_an_expression_is_never_longer_than_what_all_matches_share() {
        for (source, expected) in [
            ("/api/v[0-9]+", "/api/v"),
            ("/api/v?", "/api/"),
            ("/a*", "/"),
            ("/a{2}", "/"),
            ("/a|/b", ""),
            ("(?i)/a", ""),
            ("/a.b", "/a"),
            ("^/a", ""),
            ("/plain", "/plain"),
        ] {
            assert_eq!(plain_start(source), expected.as_bytes(), "{source}");
        }
    }
}
