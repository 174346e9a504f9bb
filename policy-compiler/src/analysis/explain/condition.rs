//! The conditions of a rule that did not hold, in words.

use crate::facts::{Fact, Request, Truth};
use crate::model::interpret::leg::Leg;
use crate::model::interpret::truth;
use crate::model::{
    Atom, CidrScope, Expr, Pattern, PeerAtom, PortAtom, Rest, Segment, Selector, SelectorOperator, Text,
};

/// The parts of a condition that are not surely true, in the order in which they are written. Of alternatives the one
/// with the fewest failures speaks for all.
pub(super) fn failures(condition: &Expr, leg: &Leg<'_>, request: &Request<'_>) -> Vec<String> {
    let truth = truth::of(condition, leg, request);
    if truth == Truth::True {
        return Vec::new();
    }
    match condition {
        Expr::All(parts) => parts.iter().flat_map(|part| failures(part, leg, request)).collect(),
        Expr::Any(parts) => {
            let each = parts.iter().map(|part| failures(part, leg, request));
            let nearest =
                each.min_by_key(Vec::len).unwrap_or_else(|| vec!["its list is empty: it matches nobody".into()]);
            match parts.len() {
                0 | 1 => nearest,
                others => nearest
                    .into_iter()
                    .map(|failure| format!("{failure} (nor does any of {} alternatives hold)", others - 1))
                    .collect(),
            }
        }
        Expr::Not(inner) => vec![format!("{}: not {}", how(truth), words(inner))],
        other => vec![format!("{}: {}{}", how(truth), words(other), seen(other, request))],
    }
}

fn how(truth: Truth) -> &'static str {
    if truth == Truth::Unknown { "unknown" } else { "false" }
}

/// What was there instead.
fn seen(condition: &Expr, request: &Request<'_>) -> String {
    let Expr::Is(atom) = condition else { return String::new() };
    let fact = match atom {
        Atom::Protocol(_) => {
            return match request.protocol {
                Fact::Known(protocol) => format!("; it is {protocol:?}").to_lowercase(),
                Fact::Absent | Fact::Unknown => "; it is not known".into(),
            };
        }
        Atom::Text { of: Text::Method, .. } => request.method,
        Atom::Text { of: Text::Path | Text::PathEitherSlash | Text::PathAndQuery, .. } => request.path,
        Atom::Text { of: Text::Host | Text::Authority, .. } => request.host,
        Atom::Text { of: Text::Sni, .. } => request.sni,
        _ => return String::new(),
    };
    match fact {
        Fact::Known(value) => format!("; it is `{}`", value.escape_ascii()),
        Fact::Absent => "; there is none".into(),
        Fact::Unknown => "; it cannot be seen".into(),
    }
}

fn words(condition: &Expr) -> String {
    match condition {
        Expr::True => "always".into(),
        Expr::False => "never".into(),
        Expr::Is(atom) => atom_words(atom),
        Expr::All(parts) => joined(parts, " and "),
        Expr::Any(parts) => joined(parts, " or "),
        Expr::Not(inner) => format!("not {}", words(inner)),
    }
}

fn joined(parts: &[Expr], with: &str) -> String {
    let words: Vec<String> = parts.iter().map(words).collect();
    format!("({})", words.join(with))
}

fn atom_words(atom: &Atom) -> String {
    match atom {
        Atom::Subject(peer) => format!("the workload {}", peer_words(peer)),
        Atom::Peer(peer) | Atom::Located(peer) => format!("the peer {}", peer_words(peer)),
        Atom::Port(PortAtom::Range(low, high)) if low == high => format!("port {low}"),
        Atom::Port(PortAtom::Range(low, high)) => format!("ports {low}-{high}"),
        Atom::Port(PortAtom::Named(name)) => format!("the port named `{name}`"),
        Atom::Port(PortAtom::Annotated(key)) => format!("a port that the annotation `{key}` lists"),
        Atom::Port(PortAtom::Declared) => "a port that the workload declares".into(),
        Atom::Protocol(any) => {
            let names: Vec<String> = any.iter().map(|protocol| format!("{protocol:?}").to_lowercase()).collect();
            format!("protocol {}", names.join(" or "))
        }
        Atom::Transport(transport) => format!("transport {transport:?}").to_lowercase(),
        Atom::Text { of, is, .. } => {
            // A secret's expected value is not for everybody who may ask why.
            if matches!(
                of,
                Text::Header(_) | Text::Query(_) | Text::Claim(_) | Text::StringClaim(_) | Text::SpacedClaim(_)
            ) {
                return format!("{} has one of the {} values of the rule", text_words(of), is.len());
            }
            let patterns: Vec<String> = is.iter().map(pattern_words).collect();
            format!("{} is {}", text_words(of), patterns.join(" or "))
        }
        Atom::Present(of) => format!("{} is there", text_words(of)),
        Atom::RemoteIp(net) => format!("the client is in {net}"),
        Atom::DeclaredProbe => "the request is a probe that the workload declares".into(),
    }
}

fn peer_words(peer: &PeerAtom) -> String {
    match peer {
        PeerAtom::Namespace(name) => format!("is in namespace `{name}`"),
        PeerAtom::ServiceAccount(name) => format!("runs as `{name}`"),
        PeerAtom::NamespaceLabels(selector) => format!("is in a namespace with {}", selector_words(selector)),
        PeerAtom::Labels(selector) => format!("has {}", selector_words(selector)),
        PeerAtom::Principal { is, .. } => {
            let patterns: Vec<String> = is.iter().map(pattern_words).collect();
            format!("is proven to be {}", patterns.join(" or "))
        }
        PeerAtom::Proven => "is proven by mutual TLS".into(),
        PeerAtom::Cidr { net, scope: CidrScope::Outside } => format!("is in {net}, and no workload, node or Service"),
        PeerAtom::Cidr { net, scope: CidrScope::NotWorkload } => format!("is in {net}, and no workload"),
        PeerAtom::Cidr { net, scope: CidrScope::Every | CidrScope::Reached } => format!("is in {net}"),
        PeerAtom::Service { namespace, name } => format!("is an endpoint of `{namespace}/{name}`"),
        PeerAtom::ServiceNamed { name, namespaces } => {
            format!("is an endpoint of `{name}` in a namespace with {}", selector_words(namespaces))
        }
        PeerAtom::Node(_) => "is a node".into(),
        PeerAtom::Workload => "is a registered workload".into(),
        PeerAtom::External => "is outside the cluster".into(),
        PeerAtom::Fqdn(is) => {
            let patterns: Vec<String> = is.iter().map(pattern_words).collect();
            format!("was resolved from {}", patterns.join(" or "))
        }
        PeerAtom::Annotations(selector) => format!("is annotated with {}", selector_words(selector)),
    }
}

fn selector_words(selector: &Selector) -> String {
    let each: Vec<String> = selector
        .requirements
        .iter()
        .map(|requirement| {
            let (key, values) = (&requirement.key, requirement.values.join(", "));
            match requirement.operator {
                SelectorOperator::In => format!("label {key} in ({values})"),
                SelectorOperator::NotIn => format!("label {key} not in ({values})"),
                SelectorOperator::Exists => format!("label {key}"),
                SelectorOperator::DoesNotExist => format!("no label {key}"),
            }
        })
        .collect();
    if each.is_empty() { "any labels".into() } else { each.join(" and ") }
}

fn text_words(of: &Text) -> String {
    match of {
        Text::Method => "the method".into(),
        Text::Path | Text::PathEitherSlash => "the path".into(),
        Text::PathAndQuery => "path and query".into(),
        Text::Host => "the host".into(),
        Text::Authority => "the host with its port".into(),
        Text::Header(name) => format!("header `{name}`"),
        Text::Query(name) => format!("parameter `{name}`"),
        Text::Upgrade => "an upgrade".into(),
        Text::Sni => "the server name".into(),
        Text::Alpn => "the ALPN protocol".into(),
        Text::Claim(path) | Text::StringClaim(path) if path.is_empty() => "a token".into(),
        Text::Claim(path) | Text::StringClaim(path) | Text::SpacedClaim(path) => format!("claim `{}`", path.join(".")),
        Text::RequestPrincipal => "the token's principal".into(),
        Text::PeerPrincipal => "the peer's principal".into(),
        Text::Qname => "the DNS name".into(),
    }
}

pub(in crate::analysis) fn pattern_words(pattern: &Pattern) -> String {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    match pattern {
        Pattern::Exact(bytes) | Pattern::ExactIgnoreCase(bytes) => format!("`{}`", text(bytes)),
        Pattern::Prefix(bytes) | Pattern::PrefixIgnoreCase(bytes) => format!("`{}*`", text(bytes)),
        Pattern::Suffix(bytes) | Pattern::SuffixIgnoreCase(bytes) => format!("`*{}`", text(bytes)),
        Pattern::NonEmpty => "not empty".into(),
        Pattern::Anything => "anything".into(),
        Pattern::Segments { segments, rest } => {
            let mut path = String::new();
            for segment in segments {
                match segment {
                    Segment::Literal(bytes) => path.push_str(&format!("/{}", text(bytes))),
                    Segment::Variable => path.push_str("/{}"),
                    Segment::Of(_) => path.push_str("/{*}"),
                }
            }
            path.push_str(match rest {
                Rest::Nothing => "",
                Rest::Below => "/**",
                Rest::Of(_) => "/{**}",
            });
            format!("`{path}`")
        }
        Pattern::OneLabel(parent) => format!("`*.{}`", text(parent)),
        Pattern::Regex { source, .. } => format!("`regex:{source}`"),
    }
}
