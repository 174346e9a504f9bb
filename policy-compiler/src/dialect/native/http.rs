//! One match of `http`, `grpc`, `tls` or `dns`: its fields in AND.

use super::context::Context;
use super::requirement::Of;
use super::rule::Action;
use super::{path, requirement};
use crate::canonical::{self, octet::is_whole_token};
use crate::diagnostic::Code;
use crate::model::{Atom, Each, Expr, Pattern, Rest, Segment, Text};
use crate::source::fields::{text, texts};
use crate::source::{Fields, Node, Span};

/// One item of `http`.
pub(super) fn http(node: &Node, action: Action, context: &mut Context<'_>) -> Option<Expr> {
    let before = context.findings.errors();
    let mut fields = Fields::of(node, "an item of `http`", &mut context.findings)?;
    let mut parts = Vec::new();
    let methods_node = fields.optional("methods", &mut context.findings);
    let methods = methods_node.and_then(|node| methods(node, context));
    if let Some(node) = fields.optional("paths", &mut context.findings) {
        parts.extend(path::list_of(node, action, context));
    }
    if let Some(node) = fields.optional("hosts", &mut context.findings) {
        parts.extend(hosts(node, context));
    }
    for (name, what, of) in [("headers", "`headers`", Of::Header), ("query", "`query`", Of::Query)] {
        if let Some(node) = fields.optional(name, &mut context.findings) {
            parts.extend(requirement::list_of(node, what, of, action, context));
        }
    }
    let upgrades = match fields.optional("upgrades", &mut context.findings) {
        Some(node) => upgrades(node, context).unwrap_or_default(),
        None => Vec::new(),
    };
    if let Some(node) = fields.optional("jwt", &mut context.findings) {
        parts.extend(jwt(node, action, context));
    }
    fields.finish(&mut context.findings);
    if context.findings.errors() != before {
        return None;
    }
    if let (Some(methods), Some(node)) = (&methods, methods_node) {
        if action == Action::Allow
            && methods.iter().all(|method| *method == "CONNECT")
            && !upgrades.contains(&"connect".to_owned())
        {
            let help = "CONNECT is permitted by `upgrades: [connect]`";
            context.findings.report_with(Code::Suspicious, node.span, "this match never allows anything", help);
        }
        parts.push(one_of(Text::Method, methods.iter().map(|method| exact(method))));
    }
    let asked = (!upgrades.is_empty()).then(|| one_of(Text::Upgrade, upgrades.iter().map(|upgrade| exact(upgrade))));
    match (action, asked) {
        // SPEC: Upgrade and CONNECT need an explicit allow; `upgrades` permits, it does not require.
        (Action::Allow, asked) => {
            parts.push(Expr::any([!Expr::Is(Atom::Present(Text::Upgrade))].into_iter().chain(asked)))
        }
        (Action::Deny, Some(asked)) => parts.push(asked),
        (Action::Deny, None) => {}
    }
    Some(Expr::all(parts))
}

/// One item of `grpc`.
pub(super) fn grpc(node: &Node, action: Action, context: &mut Context<'_>) -> Option<Expr> {
    let before = context.findings.errors();
    let mut fields = Fields::of(node, "an item of `grpc`", &mut context.findings)?;
    let service = fields.required("service", &mut context.findings).and_then(|node| {
        let name = text(node, "`service`", &mut context.findings)?;
        is_full_name(name).then_some(name).or_else(|| {
            let help = "write the full name of the proto service, such as `shop.v1.Orders`";
            context.findings.report_with(Code::BadValue, node.span, format!("`{name}` is no gRPC service"), help);
            None
        })
    });
    let methods = fields.optional("methods", &mut context.findings).and_then(|node| {
        let methods = texts(node, "`methods`", &mut context.findings)?;
        for (method, span) in &methods {
            if !is_identifier(method) {
                let help = "write the method's name as in the proto file, such as `Get`";
                context.findings.report_with(Code::BadValue, *span, format!("`{method}` is no gRPC method"), help);
            }
        }
        Some(methods)
    });
    let mut parts = Vec::new();
    if let Some(node) = fields.optional("headers", &mut context.findings) {
        parts.extend(requirement::list_of(node, "`headers`", Of::Header, action, context));
    }
    if let Some(node) = fields.optional("jwt", &mut context.findings) {
        parts.extend(jwt(node, action, context));
    }
    fields.finish(&mut context.findings);
    let service = service?;
    if context.findings.errors() != before {
        return None;
    }
    let patterns = match methods {
        Some(methods) => methods.iter().map(|(method, _)| exact(&format!("/{service}/{method}"))).collect(),
        None => {
            let segments = vec![Segment::Literal(service.as_bytes().into()), Segment::Variable];
            vec![Pattern::Segments { segments, rest: Rest::Nothing }]
        }
    };
    let of = match action {
        Action::Allow => Text::Path,
        Action::Deny => Text::PathEitherSlash,
    };
    parts.insert(0, one_of(of, patterns));
    if action == Action::Allow {
        parts.push(!Expr::Is(Atom::Present(Text::Upgrade)));
    }
    Some(Expr::all(parts))
}

/// One item of `tls`.
pub(super) fn tls(node: &Node, _: Action, context: &mut Context<'_>) -> Option<Expr> {
    let before = context.findings.errors();
    let mut fields = Fields::of(node, "an item of `tls`", &mut context.findings)?;
    let names = fields.optional("serverNames", &mut context.findings).and_then(|node| {
        let written = texts(node, "`serverNames`", &mut context.findings)?;
        let read: Vec<_> =
            written.iter().filter_map(|(name, span)| host(name, *span, "server name", context)).collect();
        for (name, span) in &written {
            if name.contains(':') {
                let help = "a server name has no port: write `ports` in the rule";
                context.findings.report_with(Code::BadValue, *span, format!("`{name}` is no server name"), help);
            }
        }
        Some(read)
    });
    fields.finish(&mut context.findings);
    if context.findings.errors() != before {
        return None;
    }
    Some(names.map_or(Expr::True, |names| one_of(Text::Sni, names.into_iter().map(|(pattern, _)| pattern))))
}

/// One item of `dns`.
pub(super) fn dns(node: &Node, action: Action, context: &mut Context<'_>) -> Option<Expr> {
    let before = context.findings.errors();
    let mut fields = Fields::of(node, "an item of `dns`", &mut context.findings)?;
    let names = fields.optional("names", &mut context.findings);
    let names = names.and_then(|node| {
        let written = texts(node, "`names`", &mut context.findings)?;
        let read: Vec<_> = written.iter().filter_map(|(name, span)| host(name, *span, "DNS name", context)).collect();
        if action == Action::Allow {
            let help = "the proxy reads no queries yet, so there it allows nothing; `dns: [{}]` allows port 53";
            context.findings.report_with(Code::NotEnforced, node.span, "the names of queries cannot be seen", help);
        }
        for (name, span) in written.iter().filter(|(name, _)| name.contains(':')) {
            let help = "a name has no port: write `ports` in the rule";
            context.findings.report_with(Code::BadValue, *span, format!("`{name}` is no DNS name"), help);
        }
        Some(one_of(Text::Qname, read.into_iter().map(|(pattern, _)| pattern)))
    });
    fields.finish(&mut context.findings);
    (context.findings.errors() == before).then(|| names.unwrap_or(Expr::True))
}

fn methods<'n>(node: &'n Node, context: &mut Context<'_>) -> Option<Vec<&'n str>> {
    let written = texts(node, "`methods`", &mut context.findings)?;
    for (method, span) in &written {
        if !is_whole_token(method.as_bytes()) || *method == "*" {
            let help =
                if *method == "*" { "leave `methods` out for every method" } else { "write a method such as `GET`" };
            context.findings.report_with(Code::BadValue, *span, format!("`{method}` is no method"), help);
        } else if KNOWN_METHODS.iter().any(|known| known.eq_ignore_ascii_case(method) && known != method) {
            let help = format!("methods are case-sensitive: write `{}`", method.to_ascii_uppercase());
            context.findings.report_with(
                Code::Suspicious,
                *span,
                format!("`{method}` is not `{}`", method.to_ascii_uppercase()),
                help,
            );
        }
    }
    Some(written.into_iter().map(|(method, _)| method).collect())
}

fn upgrades(node: &Node, context: &mut Context<'_>) -> Option<Vec<String>> {
    let written = texts(node, "`upgrades`", &mut context.findings)?;
    let mut lower = Vec::new();
    for (upgrade, span) in written {
        let name = upgrade.to_ascii_lowercase();
        let (message, help) = match name.as_str() {
            "h2c" => ("`h2c` upgrades are always refused".to_owned(), "HTTP/2 with prior knowledge needs no upgrade"),
            _ if !is_whole_token(name.as_bytes()) || name == "*" => {
                (format!("`{upgrade}` is no upgrade"), "write a protocol such as `websocket`, or `connect`")
            }
            _ => {
                lower.push(name);
                continue;
            }
        };
        context.findings.report_with(Code::BadValue, span, message, help);
    }
    Some(lower)
}

fn hosts(node: &Node, context: &mut Context<'_>) -> Option<Expr> {
    let written = texts(node, "`hosts`", &mut context.findings)?;
    let read: Vec<_> = written.iter().filter_map(|(name, span)| host(name, *span, "host", context)).collect();
    if read.len() != written.len() {
        return None;
    }
    // SPEC: a host without port matches whatever the port; with one, a request without is no match.
    let (with_port, without): (Vec<_>, Vec<_>) = read.into_iter().partition(|(_, port)| port.is_some());
    let patterns = |list: Vec<(Pattern, Option<u16>)>| list.into_iter().map(|(pattern, _)| pattern).collect::<Vec<_>>();
    let of = |text: Text, list: Vec<Pattern>| (!list.is_empty()).then(|| one_of(text, list));
    Some(Expr::any([of(Text::Host, patterns(without)), of(Text::Authority, patterns(with_port))].into_iter().flatten()))
}

/// A host or server name in canonical form; `*.x` stands for exactly one label. With its port, where it has one.
pub(super) fn host(written: &str, span: Span, what: &str, context: &mut Context<'_>) -> Option<(Pattern, Option<u16>)> {
    let (wild, name) = match written.strip_prefix("*.") {
        Some(name) => (true, name),
        None => (false, written),
    };
    let mut canonical = Vec::new();
    match canonical::authority(name.as_bytes(), &mut canonical) {
        Ok(port) if !(wild && name.starts_with('[')) => {
            if let Some(port) = port {
                canonical.extend_from_slice(format!(":{port}").as_bytes());
            }
            let pattern = if wild { Pattern::OneLabel(canonical.into()) } else { Pattern::Exact(canonical.into()) };
            Some((pattern, port))
        }
        _ => {
            let help = match written {
                "*" => "leave the field out for every name",
                _ if written.contains('*') => "`*.` stands for exactly one label, at the front only",
                _ if !written.is_ascii() => "write the name in its ASCII form (`xn--…`)",
                _ => "write a DNS name or an address, for a host with a port behind it where it matters",
            };
            context.findings.report_with(Code::BadValue, span, format!("`{written}` is no {what}"), help);
            None
        }
    }
}

fn jwt(node: &Node, action: Action, context: &mut Context<'_>) -> Option<Expr> {
    let before = context.findings.errors();
    let mut fields = Fields::of(node, "`jwt`", &mut context.findings)?;
    let issuer = fields.optional("issuer", &mut context.findings);
    let issuer = issuer.and_then(|node| text(node, "`issuer`", &mut context.findings));
    let mut parts = Vec::new();
    match issuer {
        Some(issuer) => parts.push(one_of(Text::Claim(vec!["iss".into()]), [exact(issuer)])),
        None if fields.has("issuer") => {}
        None => {
            let (code, help) = match fields.has("claims") {
                true => (Code::Suspicious, "name the `issuer`: any accepted one may say these claims"),
                false => (Code::MissingField, "add `issuer`"),
            };
            context.findings.report_with(code, fields.span(), "`jwt` without `issuer`", help);
        }
    }
    if let Some(node) = fields.optional("claims", &mut context.findings) {
        parts.extend(requirement::list_of(node, "`claims`", Of::Claim, action, context));
    }
    fields.finish(&mut context.findings);
    (context.findings.errors() == before).then(|| Expr::all(parts))
}

fn one_of(of: Text, is: impl IntoIterator<Item = Pattern>) -> Expr {
    Expr::Is(Atom::Text { of, each: Each::Some, is: is.into_iter().collect() })
}

fn exact(text: &str) -> Pattern {
    Pattern::Exact(text.as_bytes().into())
}

fn is_full_name(name: &str) -> bool {
    name.split('.').all(is_identifier)
}

fn is_identifier(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
}

const KNOWN_METHODS: &[&str] = &["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];
