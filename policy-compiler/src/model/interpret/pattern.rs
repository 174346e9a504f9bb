//! Whether a pattern matches bytes.

use regex_automata::{Anchored, Input};

use crate::model::{Pattern, Rest, Segment};

/// Whether the whole of `value` is what the pattern says.
pub(crate) fn matches(pattern: &Pattern, value: &[u8]) -> bool {
    match pattern {
        Pattern::Exact(bytes) => same(bytes, value),
        Pattern::ExactIgnoreCase(bytes) => bytes.eq_ignore_ascii_case(value),
        Pattern::Prefix(bytes) => value.starts_with(bytes),
        Pattern::Suffix(bytes) => value.ends_with(bytes),
        Pattern::PrefixIgnoreCase(bytes) => {
            value.split_at_checked(bytes.len()).is_some_and(|(head, _)| head.eq_ignore_ascii_case(bytes))
        }
        Pattern::SuffixIgnoreCase(bytes) => value
            .len()
            .checked_sub(bytes.len())
            .and_then(|from| value.get(from..))
            .is_some_and(|tail| tail.eq_ignore_ascii_case(bytes)),
        Pattern::NonEmpty => !value.is_empty(),
        Pattern::Anything => true,
        Pattern::Segments { segments, rest } => matches_segments(segments, *rest, value),
        Pattern::OneLabel(parent) => {
            let parent = parent.strip_prefix(b".").unwrap_or(parent);
            let label = value.strip_suffix(parent).and_then(|head| head.strip_suffix(b"."));
            label.is_some_and(|label| !label.is_empty() && !label.contains(&b'.'))
        }
        Pattern::Regex { regex, .. } => {
            let input = Input::new(value).anchored(Anchored::Yes);
            regex.search_half(&input).is_some_and(|found| found.offset() == value.len())
        }
    }
}

/// Equality whose time depends on the lengths alone: the value may be a secret.
fn same(one: &[u8], other: &[u8]) -> bool {
    let difference = one.iter().zip(other).fold(0, |held, (a, b)| std::hint::black_box(held | (a ^ b)));
    one.len() == other.len() && difference == 0
}

fn matches_segments(segments: &[Segment], rest: Rest, path: &[u8]) -> bool {
    let Some(mut left) = path.strip_prefix(b"/").map(Some) else { return false };
    for segment in segments {
        let Some(below) = left else { return false };
        let (held, after) = match below.iter().position(|byte| *byte == b'/') {
            Some(at) => (below.get(..at).unwrap_or_default(), below.get(at + 1..)),
            None => (below, None),
        };
        let fits = match segment {
            Segment::Literal(bytes) => **bytes == *held,
            Segment::Variable => !held.is_empty(),
            Segment::Of(set) => !held.is_empty() && held.iter().all(|byte| set.contains(*byte)),
        };
        if !fits {
            return false;
        }
        left = after;
    }
    match rest {
        Rest::Nothing => left.is_none() || (segments.is_empty() && left == Some(b"")),
        Rest::Below => true,
        Rest::Of(set) => left.is_some_and(|left| left.iter().all(|byte| *byte == b'/' || set.contains(*byte))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::AsciiSet;

    fn literal(text: &str) -> Segment {
        Segment::Literal(Arc::from(text.as_bytes()))
    }

    #[test]
    fn segments_match_whole_segments() {
        let tree = Pattern::Segments { segments: vec![literal("x")], rest: Rest::Below };
        let item = Pattern::Segments { segments: vec![literal("orders"), Segment::Variable], rest: Rest::Nothing };
        let all = Pattern::Segments { segments: vec![], rest: Rest::Below };
        let letters = AsciiSet::alphanumeric_and(b"");
        let word = Pattern::Segments { segments: vec![Segment::Of(letters), literal("x")], rest: Rest::Nothing };
        let words = Pattern::Segments { segments: vec![literal("x")], rest: Rest::Of(letters) };
        for (pattern, path, expected) in [
            (&tree, "/x", true),
            (&tree, "/x/", true),
            (&tree, "/x/y/z", true),
            (&tree, "/xy", false),
            (&tree, "/", false),
            (&item, "/orders/7", true),
            (&item, "/orders/7/", false),
            (&item, "/orders/", false),
            (&item, "/orders", false),
            (&item, "/orders/7/8", false),
            (&all, "/", true),
            (&all, "/a", true),
            (&all, "*", false),
            (&word, "/a1/x", true),
            (&word, "/a-1/x", false),
            (&word, "//x", false),
            (&words, "/x", false),
            (&words, "/x/", true),
            (&words, "/x/a//b", true),
            (&words, "/x/a-b", false),
        ] {
            assert_eq!(matches(pattern, path.as_bytes()), expected, "{pattern:?} {path}");
        }
    }

    #[test]
    fn a_star_is_exactly_one_label() {
        let pattern = Pattern::OneLabel(Arc::from(&b"partner.example"[..]));
        for (host, expected) in [
            ("api.partner.example", true),
            ("partner.example", false),
            (".partner.example", false),
            ("a.b.partner.example", false),
            ("xpartner.example", false),
        ] {
            assert_eq!(matches(&pattern, host.as_bytes()), expected, "{host}");
        }
    }

    #[test]
    fn exact_needs_every_byte() {
        let pattern = Pattern::Exact(Arc::from(&b"acme"[..]));
        for (value, expected) in [("acme", true), ("acm", false), ("acmee", false), ("", false), ("Acme", false)] {
            assert_eq!(matches(&pattern, value.as_bytes()), expected, "{value}");
        }
    }
}
