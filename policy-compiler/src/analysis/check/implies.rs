//! Whether one condition surely implies another: a syntactic, one-sided answer. `false` means "cannot tell".

use crate::model::{Atom, CidrScope, Each, Expr, Pattern, PeerAtom, PortAtom, Rest, Segment, Text};

/// Whether `stronger` implies `weaker` for every flow, unknowns included (the truth of `weaker` is at least as great).
pub(super) fn implies(stronger: &Expr, weaker: &Expr) -> bool {
    match (stronger, weaker) {
        (_, Expr::True) | (Expr::False, _) => true,
        (_, Expr::All(parts)) => parts.iter().all(|part| implies(stronger, part)),
        (Expr::Any(parts), _) if !parts.is_empty() => parts.iter().all(|part| implies(part, weaker)),
        (Expr::Not(a), Expr::Not(b)) => implies(b, a),
        (Expr::Is(a), Expr::Is(b)) => atom(a, b),
        (Expr::All(parts), Expr::Any(options)) => {
            options.iter().any(|option| implies(stronger, option)) || parts.iter().any(|part| implies(part, weaker))
        }
        (Expr::All(parts), _) => parts.iter().any(|part| implies(part, weaker)),
        (_, Expr::Any(options)) => options.iter().any(|option| implies(stronger, option)),
        _ => false,
    }
}

fn atom(stronger: &Atom, weaker: &Atom) -> bool {
    if stronger == weaker {
        return true;
    }
    match (stronger, weaker) {
        (Atom::Port(PortAtom::Range(low, high)), Atom::Port(PortAtom::Range(from, to))) => from <= low && high <= to,
        (Atom::Protocol(some), Atom::Protocol(more)) => some.iter().all(|protocol| more.contains(protocol)),
        (Atom::Peer(a), Atom::Peer(b)) | (Atom::Located(a), Atom::Located(b)) => peer(a, b),
        (Atom::Text { of, each, is }, Atom::Text { of: other, each: how, is: more }) => {
            let same = of == other && each == how;
            // With a trailing slash or without: whatever matches one form is among the two.
            let either =
                *of == Text::Path && *other == Text::PathEitherSlash && *how == Each::Some && *each == Each::Some;
            // Every one of at least one value matches: then some value does.
            let every = of == other && *each == Each::Every && *how == Each::Some;
            (same || either || every) && is.iter().all(|pattern| more.iter().any(|wider| covers(wider, pattern)))
        }
        (Atom::Text { of, .. }, Atom::Present(other)) => of == other,
        _ => false,
    }
}

fn peer(stronger: &PeerAtom, weaker: &PeerAtom) -> bool {
    match (stronger, weaker) {
        (PeerAtom::Cidr { net: inner, scope }, PeerAtom::Cidr { net: outer, scope: other }) => {
            // What is reached can be unknown where the address that was dialled is not.
            let is_within = *other == CidrScope::Every && *scope != CidrScope::Reached;
            outer.contains(inner) && (scope == other || is_within)
        }
        _ => false,
    }
}

/// Whether every value that `inner` matches is matched by `outer`.
fn covers(outer: &Pattern, inner: &Pattern) -> bool {
    if outer == inner {
        return true;
    }
    match (outer, inner) {
        (Pattern::Anything, _) => true,
        (Pattern::NonEmpty, Pattern::Exact(value)) => !value.is_empty(),
        (Pattern::Prefix(prefix), Pattern::Exact(value)) => value.starts_with(prefix),
        (Pattern::Prefix(prefix), Pattern::Segments { .. }) => **prefix == *b"/",
        (Pattern::Segments { segments, rest }, Pattern::Exact(path)) => {
            let Some(below) = path.strip_prefix(b"/") else { return false };
            let given: Vec<Segment> =
                below.split(|byte| *byte == b'/').map(|part| Segment::Literal(part.into())).collect();
            below.is_empty() && segments.is_empty() || within(segments, *rest, &given, Rest::Nothing)
        }
        (Pattern::Segments { segments, rest }, Pattern::Segments { segments: inner, rest: deep }) => {
            within(segments, *rest, inner, *deep)
        }
        _ => false,
    }
}

fn within(outer: &[Segment], rest: Rest, inner: &[Segment], deep: Rest) -> bool {
    let rests = rest == Rest::Below || rest == deep && inner.len() == outer.len();
    if !rests || inner.len() < outer.len() {
        return false;
    }
    outer.iter().zip(inner).all(|(outer, inner)| match (outer, inner) {
        (Segment::Variable, Segment::Literal(part)) => !part.is_empty(),
        (Segment::Variable, Segment::Of(_)) => true,
        (Segment::Of(set), Segment::Literal(part)) => !part.is_empty() && part.iter().all(|byte| set.contains(*byte)),
        (outer, inner) => outer == inner,
    })
}

#[cfg(test)]
mod tests {
    use super::{Atom, CidrScope, PeerAtom, implies};
    use crate::dialect::compile;
    use crate::model::Expr;
    use crate::source::parse;

    fn condition(rule: &str) -> Expr {
        let text = format!(
            "apiVersion: eastwall.dev/v1alpha1\nkind: FirewallPolicy\nmetadata: {{name: a, namespace: b}}\nspec: {{subject: [{{any: true}}], ingress: [{rule}]}}\n"
        );
        let compiled = compile(&parse("p", &text.into()));
        assert!(!compiled.has_errors(), "{:?}", compiled.diagnostics);
        compiled.model.policies[0].rules[0].condition.clone()
    }

    #[test]
    fn what_is_reached_is_not_within_what_is_dialled() {
        let of = |net: &str, scope| Expr::Is(Atom::Peer(PeerAtom::Cidr { net: net.parse().unwrap(), scope }));
        let wide = of("10.0.0.0/8", CidrScope::Every);
        assert!(implies(&of("10.1.0.0/16", CidrScope::Outside), &wide));
        assert!(!implies(&of("10.1.0.0/16", CidrScope::Reached), &wide));
        assert!(implies(&of("10.1.0.0/16", CidrScope::Reached), &of("10.0.0.0/8", CidrScope::Reached)));
    }

    #[test]
    fn rules_within_rules() {
        let wide = "{from: [{any: true}], ports: [\"1-9000\"], http: [{paths: [\"/a/**\", \"/b\"]}]}";
        for (narrow, expected) in [
            (wide, true),
            ("{from: [{serviceAccount: x}], ports: [80], http: [{methods: [GET], paths: [/a/b]}]}", true),
            ("{from: [{serviceAccount: x}], ports: [80], http: [{paths: [\"/a/{x}\"]}, {paths: [/b]}]}", true),
            ("{from: [{serviceAccount: x}], ports: [80], http: [{paths: [/a]}]}", true),
            ("{from: [{serviceAccount: x}], ports: [80], http: [{paths: [/ab]}]}", false),
            ("{from: [{serviceAccount: x}], ports: [80], http: [{methods: [GET]}]}", false),
            ("{from: [{serviceAccount: x}], ports: [http], http: [{paths: [/a]}]}", false),
            ("{from: [{serviceAccount: x}], ports: [80], tcp: {}}", false),
            ("{from: [{serviceAccount: x}], ports: [9443], http: [{paths: [/a]}]}", false),
        ] {
            assert_eq!(implies(&condition(narrow), &condition(wide)), expected, "{narrow}");
        }
    }
}
