//! The one vocabulary of `subject`, `from`, `to` and their `not*` lists.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::context::Context;
use super::rule::Action;
use super::{http, name, selector};
use crate::diagnostic::Code;
use crate::facts::Protocol;
use crate::model::{Atom, CidrScope, Each, Expr, NodeScope, Pattern, PeerAtom, PlaintextPrincipal, Selector, Text};
use crate::settings::MinimumProof;
use crate::source::fields::{boolean, list, listed, text, word};
use crate::source::{Fields, Node, Span, Value};

/// Which list of a policy is read: it decides what may stand in it and what an item means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// `subject` and `notSubject`.
    Subject,
    /// `notFrom` of an egress rule, `notTo` of an ingress rule: about the subject.
    SubjectException,
    /// `from` or `to`.
    Peer(Action),
    /// `notFrom` or `notTo` about the peer.
    PeerException(Action),
}

/// What a list of peers says.
pub(super) struct Peers {
    /// One of the items.
    pub(super) condition: Expr,
    /// An item that is an address, a name or a node, and so says nothing of declared ports.
    pub(super) needs_ports: Option<Span>,
    /// An item that is a name: what is asked for has to carry it too.
    pub(super) by_name: Option<Span>,
}

/// Reads a list; `None` where an item is wrong.
pub(super) fn list_of(node: &Node, what: &'static str, role: Role, context: &mut Context<'_>) -> Option<Peers> {
    if matches!(&node.value, Value::List(items) if items.is_empty()) {
        let help = "an empty list would match nobody; `[{any: true}]` says everybody";
        context.findings.report_with(Code::EmptyList, node.span, format!("{what} is an empty list"), help);
        return None;
    }
    let items = list(node, what, &mut context.findings)?;
    let (mut needs_ports, mut by_name) = (None, None);
    let mut conditions = Vec::new();
    for item in items {
        if item.get("fqdn").is_some() {
            by_name.get_or_insert(item.span);
        }
        if let Some(condition) = peer(item, what, role, &mut needs_ports, context) {
            conditions.push(condition);
        }
    }
    let complete = conditions.len() == items.len();
    complete.then(|| Peers { condition: Expr::any(conditions), needs_ports, by_name })
}

fn peer(
    node: &Node,
    list: &str,
    role: Role,
    needs_ports: &mut Option<Span>,
    context: &mut Context<'_>,
) -> Option<Expr> {
    let mut fields = Fields::of(node, &format!("an item of {list}"), &mut context.findings)?;
    let present: Vec<&'static str> = KINDS.iter().copied().filter(|kind| fields.has(kind)).collect();
    let kind = match (present.as_slice(), fields.has("namespace"), fields.has("namespaceSelector")) {
        ([kind], ..) => *kind,
        ([], true, false) => "namespace",
        ([], false, true) => "namespaceSelector",
        ([], true, true) => {
            let span = fields.key_span("namespaceSelector");
            let help = "keep one: a name, or labels";
            context.findings.report_with(
                Code::Conflict,
                span,
                "`namespace` and `namespaceSelector` exclude each other",
                help,
            );
            return None;
        }
        ([], false, false) => {
            fields.accept(KINDS);
            fields.accept(&["namespace", "namespaceSelector"]);
            let span = fields.span();
            let before = context.findings.errors();
            fields.finish(&mut context.findings);
            if context.findings.errors() == before {
                let help = format!("write one of {}", listed(KINDS));
                context.findings.report_with(Code::MissingField, span, format!("an item of {list} names nobody"), help);
            }
            return None;
        }
        ([first, second, ..], ..) => {
            let message = format!("`{first}` and `{second}` in one item of {list}");
            let help = "an item says one thing; write two items for either, and labels or a rule of its own for both";
            context.findings.report_with(Code::Conflict, fields.key_span(second), message, help);
            return None;
        }
    };
    let about_subject = matches!(role, Role::Subject | Role::SubjectException);
    if about_subject && !SUBJECT_KINDS.contains(&kind) {
        let help = format!("what is protected is said by {}", listed(SUBJECT_KINDS));
        let message = format!("`{kind}` cannot say who is protected");
        context.findings.report_with(Code::Conflict, fields.key_span(kind), message, help);
        return None;
    }
    let place = fields.key_span(kind);
    let value = fields.optional(kind, &mut context.findings);
    let of = |atom: PeerAtom| Expr::Is(if about_subject { Atom::Subject(atom) } else { Atom::Peer(atom) });
    let proven = |condition: Expr, context: &Context<'_>| match (role, context.settings.minimum_proof) {
        (Role::Peer(Action::Allow), MinimumProof::MutualTls) => Expr::all([condition, of(PeerAtom::Proven)]),
        _ => condition,
    };
    if matches!(kind, "cidr" | "fqdn" | "node") {
        needs_ports.get_or_insert(place);
    }
    let condition = match kind {
        "serviceAccount" | "pods" => {
            let own = if kind == "serviceAccount" {
                let name = value.and_then(|node| name::object(node, "`serviceAccount`", &mut context.findings));
                name.map(|name| PeerAtom::ServiceAccount(name.into()))
            } else {
                if !about_subject {
                    let help = "whoever may create pods may write labels; name the `serviceAccount` where you can";
                    context.findings.report_with(Code::PodsPeer, place, "this peer is known by its labels alone", help);
                }
                value.and_then(|node| selector::read(node, "`pods`", context)).map(PeerAtom::Labels)
            };
            let qualifier = qualifier(&mut fields, kind, role, context);
            let (own, qualifier) = (own?, qualifier?);
            let who = match &own {
                PeerAtom::ServiceAccount(name) => format!("runs under the service account `{name}`"),
                _ => "has these labels".to_owned(),
            };
            let who = match &qualifier {
                PeerAtom::Namespace(name) => format!("{who} in `{name}`"),
                _ => format!("{who} in a namespace with these labels"),
            };
            context.mention_somebody(value?.span, &who, &[qualifier.clone(), own.clone()]);
            if role == Role::Subject && context.namespace.is_some() {
                // The policy's own namespace is asked for once, for the whole subject.
                of(own)
            } else {
                proven(Expr::all([of(qualifier), of(own)]), context)
            }
        }
        "namespace" | "namespaceSelector" => {
            let atom = if kind == "namespace" {
                PeerAtom::Namespace(namespace(value?, role, context)?)
            } else {
                PeerAtom::NamespaceLabels(selector::read(value?, "`namespaceSelector`", context)?)
            };
            let who = match &atom {
                PeerAtom::Namespace(name) => format!("runs in the namespace `{name}`"),
                _ => "runs in a namespace with these labels".to_owned(),
            };
            context.mention_somebody(value?.span, &who, std::slice::from_ref(&atom));
            proven(of(atom), context)
        }
        "service" => {
            let name: Option<Arc<str>> =
                value.and_then(|node| name::object(node, "`service`", &mut context.findings)).map(Into::into);
            let qualifier = qualifier(&mut fields, kind, role, context);
            let (name, qualifier) = (name?, qualifier?);
            let atom = match qualifier {
                PeerAtom::NamespaceLabels(namespaces) => PeerAtom::ServiceNamed { name, namespaces },
                PeerAtom::Namespace(namespace) => {
                    context.mention_service(value?.span, &namespace, &name);
                    PeerAtom::Service { namespace, name }
                }
                _ => return None,
            };
            proven(of(atom), context)
        }
        "principal" => {
            let identity = name::principal(value?, context)?;
            of(PeerAtom::Principal {
                is: vec![Pattern::Exact(identity.as_bytes().into())],
                plaintext: PlaintextPrincipal::Registered,
            })
        }
        "cidr" => {
            let net = cidr(value?, context)?;
            let scope = match role {
                Role::Peer(Action::Allow) => CidrScope::Outside,
                Role::PeerException(Action::Deny) => CidrScope::NotWorkload,
                _ => CidrScope::Every,
            };
            of(PeerAtom::Cidr { net, scope })
        }
        "node" => {
            let words = [("Own", NodeScope::Own), ("Any", NodeScope::Any)];
            of(PeerAtom::Node(word(value?, "`node`", &words, &mut context.findings)?))
        }
        "fqdn" => fqdn(value?, role, context)?,
        _ => {
            if !boolean(value?, "`any`", &mut context.findings)? {
                let help = "`any` has one legal value, `true`; leave the item out to name nobody";
                context.findings.report_with(Code::BadEnumValue, value?.span, "`any` cannot be `false`", help);
                return None;
            }
            Expr::True
        }
    };
    if matches!(kind, "principal" | "cidr" | "fqdn" | "node" | "any") {
        for qualifier in ["namespace", "namespaceSelector"] {
            if fields.has(qualifier) {
                let message = format!("`{qualifier}` cannot qualify `{kind}`");
                let help = "a namespace qualifies `serviceAccount`, `pods` and `service`";
                context.findings.report_with(Code::Conflict, fields.key_span(qualifier), message, help);
                return None;
            }
        }
    }
    fields.accept(&["namespace", "namespaceSelector"]);
    let before = context.findings.errors();
    fields.finish(&mut context.findings);
    (context.findings.errors() == before).then_some(condition)
}

/// A name. SPEC: where it lets something pass, the proxy itself has resolved it to the address, and the server name or
/// Host says it too; where it refuses, any one of the three is enough.
fn fqdn(node: &Node, role: Role, context: &mut Context<'_>) -> Option<Expr> {
    let written = text(node, "`fqdn`", &mut context.findings)?;
    let (pattern, port) = http::host(written, node.span, "DNS name", context)?;
    let admits = matches!(role, Role::Peer(Action::Allow) | Role::PeerException(Action::Deny));
    if port.is_some() || written.parse::<IpAddr>().is_ok() {
        let help = "write a DNS name, its port in `ports`, and an address as `cidr`";
        context.findings.report_with(Code::BadValue, node.span, format!("`{written}` is no DNS name"), help);
        return None;
    }
    if admits && !matches!(pattern, Pattern::Exact(_)) {
        let help = "name each host: an Allow must know which name it resolves";
        context.findings.report_with(Code::BadValue, node.span, "an Allow names whole hosts", help);
        return None;
    }
    if matches!(role, Role::Peer(Action::Allow)) {
        let help = "the proxy resolves no names yet, so there it allows nothing; `eastwall decide` takes `dst.fqdn`";
        context.findings.report_with(Code::NotEnforced, node.span, format!("`{written}` is resolved by nobody"), help);
    }
    let said = |of: Text| Expr::Is(Atom::Text { of, each: Each::Some, is: vec![pattern.clone()] });
    let resolved = Expr::Is(Atom::Peer(PeerAtom::Fqdn(vec![pattern.clone()])));
    // What is no HTTP has no Host: a name that is refused must not cut off every other protocol.
    let http = Expr::Is(Atom::Protocol(vec![Protocol::Http, Protocol::Http2, Protocol::Grpc]));
    let claimed = Expr::any([said(Text::Sni), Expr::all([http, said(Text::Host)])]);
    Some(if admits { Expr::all([resolved, claimed]) } else { Expr::any([resolved, claimed]) })
}

/// The namespace that qualifies an item: the policy's own where none is written.
fn qualifier(fields: &mut Fields<'_>, kind: &str, role: Role, context: &mut Context<'_>) -> Option<PeerAtom> {
    if fields.has("namespace") && fields.has("namespaceSelector") {
        let span = fields.key_span("namespaceSelector");
        context.findings.report(Code::Conflict, span, "`namespace` and `namespaceSelector` exclude each other");
        return None;
    }
    for qualifier in ["namespace", "namespaceSelector"] {
        if role == Role::Subject && context.namespace.is_some() && fields.has(qualifier) {
            let help = "remove it: a FirewallPolicy protects workloads of its own namespace only";
            let message = format!("`{qualifier}` cannot qualify the subject of a FirewallPolicy");
            context.findings.report_with(Code::OutsideNamespace, fields.key_span(qualifier), message, help);
            return None;
        }
    }
    if let Some(node) = fields.optional("namespace", &mut context.findings) {
        let name = name::object(node, "`namespace`", &mut context.findings)?;
        return Some(PeerAtom::Namespace(name.into()));
    }
    if let Some(node) = fields.optional("namespaceSelector", &mut context.findings) {
        let selector: Selector = selector::read(node, "`namespaceSelector`", context)?;
        return Some(PeerAtom::NamespaceLabels(selector));
    }
    if fields.has("namespace") || fields.has("namespaceSelector") {
        return None;
    }
    match &context.namespace {
        Some(own) => Some(PeerAtom::Namespace(Arc::clone(own))),
        None => {
            let help = "a cluster policy has no namespace of its own: add `namespace` or `namespaceSelector`";
            let message = format!("`{kind}` in a cluster policy needs a namespace");
            context.findings.report_with(Code::MissingField, fields.key_span(kind), message, help);
            None
        }
    }
}

fn namespace(node: &Node, role: Role, context: &mut Context<'_>) -> Option<Arc<str>> {
    let name = name::object(node, "`namespace`", &mut context.findings)?;
    match &context.namespace {
        Some(own) if role == Role::Subject && &**own != name => {
            let message = format!("a FirewallPolicy of `{own}` cannot protect workloads of `{name}`");
            let help = "move the policy to that namespace, or write a ClusterFirewallPolicy";
            context.findings.report_with(Code::OutsideNamespace, node.span, message, help);
            None
        }
        _ => Some(name.into()),
    }
}

/// A network. IPv4-mapped IPv6 networks are IPv4.
pub(super) fn cidr(node: &Node, context: &mut Context<'_>) -> Option<IpNet> {
    let written = text(node, "`cidr`", &mut context.findings)?;
    match network(written) {
        Ok(net) => Some(net),
        Err(help) => {
            context.findings.report_with(Code::BadValue, node.span, format!("`{written}` is no network"), help);
            None
        }
    }
}

/// Parses a network strictly; the error is help.
pub(super) fn network(written: &str) -> Result<IpNet, String> {
    // `010.0.0.0` is eight or ten, according to who reads it: the standard parser refuses it.
    let strict = || {
        let (address, prefix) = written.split_once('/')?;
        let digits = prefix.bytes().all(|byte| byte.is_ascii_digit()) && (prefix == "0" || !prefix.starts_with('0'));
        digits.then_some(IpNet::new(address.parse().ok()?, prefix.parse().ok()?).ok()?)
    };
    let Some(net) = strict() else {
        return Err(match written.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => format!("write one address as `{address}/32`"),
            Ok(IpAddr::V6(address)) => format!("write one address as `\"{address}/128\"`"),
            Err(_) => "write an address and a prefix length, such as `10.1.0.0/16`".to_owned(),
        });
    };
    if net.trunc() != net {
        return Err(format!(
            "bits behind the prefix are set: did you mean `{}` or `{}/{}`?",
            net.trunc(),
            net.addr(),
            net.max_prefix_len()
        ));
    }
    match net {
        IpNet::V6(v6) => match v6.addr().to_ipv4_mapped() {
            Some(v4) if v6.prefix_len() >= 96 => {
                IpNet::new(v4.into(), v6.prefix_len() - 96).map_err(|error| error.to_string())
            }
            // IPv4-mapped addresses are IPv4 everywhere here: this network would hold both kinds.
            None if v6.contains(&std::net::Ipv4Addr::UNSPECIFIED.to_ipv6_mapped()) && v6.prefix_len() > 0 => {
                Err("it holds IPv4-mapped addresses, which are IPv4: write an IPv4 network".to_owned())
            }
            _ => Ok(net),
        },
        IpNet::V4(_) => Ok(net),
    }
}

const KINDS: &[&str] = &["serviceAccount", "pods", "principal", "cidr", "service", "fqdn", "node", "any"];
const SUBJECT_KINDS: &[&str] = &["serviceAccount", "pods", "namespace", "namespaceSelector", "any"];

#[cfg(test)]
mod tests {
    use super::network;

    #[test]
    fn networks() {
        for (written, expected) in [
            ("10.0.0.0/8", Some("10.0.0.0/8")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("::/0", Some("::/0")),
            ("::ffff:10.0.0.0/104", Some("10.0.0.0/8")),
            ("2001:db8::/32", Some("2001:db8::/32")),
            ("10.0.0.1/8", None),
            ("10.0.0.1", None),
            ("10.0.0.0/33", None),
            ("010.0.0.0/8", None),
            ("::/64", None),
            ("example.com", None),
        ] {
            assert_eq!(network(written).ok().map(|net| net.to_string()).as_deref(), expected, "{written}");
        }
    }
}
