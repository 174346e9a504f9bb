//! HTTP rules: method, path and host as RE2, headers.
//!
//! SPEC: rules are ORed, the fields of one ANDed; a field that is left out or empty is unconstrained; no rule at all is
//! every request. The path has its query, the host its port. Lines of one header are joined with `,`.

use std::sync::Arc;

use super::context::Context;
use super::members::{Members, items, text};
use super::regex;
use crate::diagnostic::Code;
use crate::facts::Protocol;
use crate::model::{Atom, Each, Expr, Pattern, Text};
use crate::settings::Compatibility;
use crate::source::{Node, Span, fields};

/// Reads the list. What is not HTTP matches none of its rules.
pub(super) fn read(node: &Node, context: &mut Context<'_>) -> Option<Expr> {
    let list = items(node, "http", context.findings)?;
    let any: Vec<Option<Expr>> = list.iter().map(|item| member(item, context)).collect();
    let any = any.into_iter().collect::<Option<Vec<_>>>()?;
    let requests = if any.is_empty() || any.contains(&Expr::True) { Expr::True } else { Expr::any(any) };
    let http = Atom::Protocol(vec![Protocol::Http, Protocol::Http2, Protocol::Grpc]);
    Some(Expr::all([Expr::Is(http), requests]))
}

fn member(node: &Node, context: &mut Context<'_>) -> Option<Expr> {
    let before = context.findings.errors();
    let mut members = Members::of(node, "an item of `http`", context.findings)?;
    let mut parts = Vec::new();
    for (name, of) in [("method", Text::Method), ("path", Text::PathAndQuery), ("host", Text::Authority)] {
        let Some((source, span)) = text(members.find(name), name, context.findings) else { continue };
        let Some(patterns) = regex::patterns(source, span, context) else { continue };
        parts.extend(in_query(&of, &patterns, span, context));
        if of == Text::Authority {
            any_character(source, &patterns, span, context);
        }
        parts.push(is(of, patterns));
    }
    for item in members.list("headers", context.findings).unwrap_or_default() {
        parts.extend(header(item, context));
    }
    for item in members.list("headerMatches", context.findings).unwrap_or_default() {
        parts.extend(header_match(item, context));
    }
    members.finish(context.findings);
    (context.findings.errors() == before).then(|| Expr::all(parts))
}

fn is(of: Text, patterns: Vec<Pattern>) -> Expr {
    Expr::Is(Atom::Text { of, each: Each::Joined, is: patterns })
}

/// A known bypass: what a path must end in can stand in the query, which the client chooses freely. Hardened asks the
/// same of the path alone; an expression that names `?` itself means the query.
fn in_query(of: &Text, patterns: &[Pattern], span: Span, context: &mut Context<'_>) -> Option<Expr> {
    let [Pattern::Regex { source, .. }] = patterns else { return None };
    let means_query = source.contains("\\?") || source.contains("[?");
    if *of != Text::PathAndQuery || means_query {
        return None;
    }
    if context.settings.cilium.compatibility == Compatibility::Hardened {
        return Some(is(Text::Path, patterns.to_vec()));
    }
    if [".*", ".+"].iter().any(|any| source.split(any).skip(1).any(|rest| !rest.is_empty() && rest != "$")) {
        let message = format!("`{source}` is matched on the path with its query: what `.*` stands for may be a query");
        let help = "write `[^?]*` for `.*`, or set `cilium.compatibility: Hardened`";
        context.findings.report_with(Code::Suspicious, span, message, help);
    }
    None
}

/// A known trap: a `.` that was meant as a dot.
fn any_character(source: &str, patterns: &[Pattern], span: Span, context: &mut Context<'_>) {
    let [Pattern::Regex { .. }] = patterns else { return };
    let bytes = source.as_bytes();
    let is_dot = |window: &[u8]| matches!(window, [before, b'.', after] if before.is_ascii_alphanumeric() && after.is_ascii_alphanumeric());
    if bytes.windows(3).any(is_dot) {
        let message = format!("`.` stands for any character in `{source}`, not for a dot alone");
        context.findings.report_with(Code::Suspicious, span, message, "write `\\.` for a dot");
    }
}

/// `Name: value`, exact, or `Name`, whatever its value. SPEC: cut at the first space; the colon belongs to the name.
fn header(node: &Node, context: &mut Context<'_>) -> Option<Expr> {
    let written = fields::text(node, "an item of `headers`", context.findings)?;
    match written.split_once(' ') {
        Some((name, value)) => {
            let name = name.trim_end_matches(':');
            condition(name, Some(value), node.span, context)
        }
        None => condition(written, None, node.span, context),
    }
}

fn header_match(node: &Node, context: &mut Context<'_>) -> Option<Expr> {
    let before = context.findings.errors();
    let mut members = Members::of(node, "an item of `headerMatches`", context.findings)?;
    let name = members.require("name", context.findings);
    let value = text(members.find("value"), "value", context.findings);
    members.refuse("secret", "Eastwall reads no secrets", "write the `value` itself", context.findings);
    let mismatch = text(members.find("mismatch"), "mismatch", context.findings);
    members.finish(context.findings);
    let name = fields::text(name?, "`name`", context.findings)?;
    if let Some((action, span)) = mismatch {
        if !MISMATCHES.contains(&action) {
            let help = format!("write {}", fields::listed(&MISMATCHES));
            let message = format!("`{action}` is no value of `mismatch`");
            context.findings.report_with(Code::BadEnumValue, span, message, help);
            return None;
        }
        // SPEC: a mismatch has a side effect, and the request passes.
        context.findings.report_with(
            Code::NotEnforced,
            span,
            format!("`mismatch: {action}` lets every request pass, and Eastwall changes no header"),
            "leave `mismatch` out to refuse requests without this header",
        );
        return None;
    }
    if context.findings.errors() != before {
        return None;
    }
    condition(name, value.map(|(value, _)| value), node.span, context)
}

fn condition(name: &str, value: Option<&str>, span: Span, context: &mut Context<'_>) -> Option<Expr> {
    let of: Text = match name.to_ascii_lowercase().as_str() {
        "host" | ":authority" => Text::Authority,
        ":method" => Text::Method,
        ":path" => Text::PathAndQuery,
        lower if is_token(lower) => Text::Header(Arc::from(lower)),
        _ => {
            let help = "write `Name: value` with a space behind the colon, or a name alone";
            let message = format!("`{name}` is the name of no header: the rule matches no request");
            context.findings.report_with(Code::Suspicious, span, message, help);
            return Some(Expr::False);
        }
    };
    Some(match value {
        Some(value) => is(of, vec![Pattern::Exact(value.as_bytes().into())]),
        None => Expr::Is(Atom::Present(of)),
    })
}

fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

const MISMATCHES: [&str; 4] = ["LOG", "ADD", "DELETE", "REPLACE"];
