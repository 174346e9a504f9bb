//! `paths`: exact, `/prefix/**`, `/orders/{id}` and `regex:`.
//!
//! A pattern is compared with canonical paths, so it must be in canonical form itself: anything else would be a rule
//! that silently never matches.

use super::context::Context;
use super::regex;
use super::rule::Action;
use crate::canonical::{self, Options};
use crate::diagnostic::Code;
use crate::model::{Atom, Each, Expr, HttpOption, Pattern, Rest, Segment, Text};
use crate::source::fields::texts;
use crate::source::{Node, Span};

/// Reads `paths`; `None` where an item is wrong.
pub(super) fn list_of(node: &Node, action: Action, context: &mut Context<'_>) -> Option<Expr> {
    let written = texts(node, "`paths`", &mut context.findings)?;
    let mut patterns: Vec<_> = written.iter().filter_map(|(text, span)| pattern(text, *span, context)).collect();
    if patterns.len() != written.len() {
        return None;
    }
    patterns.shrink_to_fit();
    // An Allow is literal about a trailing slash; a Deny covers a path with and without one.
    let of = match action {
        Action::Allow => Text::Path,
        Action::Deny => Text::PathEitherSlash,
    };
    let has_regex = patterns.iter().any(|pattern| matches!(pattern, Pattern::Regex { .. }));
    let path = Expr::Is(Atom::Text { of, each: Each::Some, is: patterns });
    // No path form matches the `*` of `OPTIONS *`; only a regular expression could.
    let is_path = Atom::Text { of: Text::Path, each: Each::Some, is: vec![Pattern::Prefix(b"/"[..].into())] };
    Some(if has_regex { Expr::all([path, Expr::Is(is_path)]) } else { path })
}

fn pattern(written: &str, span: Span, context: &mut Context<'_>) -> Option<Pattern> {
    if let Some(source) = written.strip_prefix("regex:") {
        return regex::pattern(source, span, context);
    }
    let refuse = |message: String, help: String, context: &mut Context<'_>| {
        context.findings.report_with(Code::NeverMatches, span, message, help);
        None
    };
    let Some(below) = written.strip_prefix('/') else {
        let help = match written {
            "*" | "**" => "write `/**` for every path".to_owned(),
            _ => format!("write `/{}`, or `regex:…`", written.trim_start_matches('*')),
        };
        return refuse(format!("a path starts with `/`, found `{written}`"), help, context);
    };
    let (below, rest) = match below.strip_suffix("**") {
        Some("") => ("", true),
        Some(head) if head.ends_with('/') => (head.strip_suffix('/').unwrap_or(head), true),
        _ => (below, false),
    };
    let mut segments = Vec::new();
    let mut plain = String::new();
    let mut has_variable = false;
    for segment in below.split('/') {
        plain.push('/');
        if let Some(name) = segment.strip_prefix('{').and_then(|tail| tail.strip_suffix('}')) {
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')) {
                let help = "write a name of letters and digits, such as `{id}`".to_owned();
                return refuse(format!("`{segment}` is no template"), help, context);
            }
            plain.push('x');
            has_variable = true;
            segments.push(Segment::Variable);
            continue;
        }
        if segment.contains(['{', '}']) {
            let help =
                "a template is a whole segment, such as `/orders/{id}`; for a part of one write `regex:…`".to_owned();
            return refuse(format!("`{segment}` mixes text and a template"), help, context);
        }
        if segment.contains('*') {
            let help = "`/x/**` is everything below, `{x}` one segment; for a part of one write `regex:…`".to_owned();
            return refuse(format!("`*` in `{segment}` is no wildcard"), help, context);
        }
        plain.push_str(segment);
        segments.push(Segment::Literal(segment.as_bytes().into()));
    }
    is_canonical(written, &plain, span, context)?;
    if rest {
        let segments = if below.is_empty() { Vec::new() } else { segments };
        return Some(Pattern::Segments { segments, rest: Rest::Below });
    }
    if has_variable {
        return Some(Pattern::Segments { segments, rest: Rest::Nothing });
    }
    Some(Pattern::Exact(written.as_bytes().into()))
}

/// `plain` is the pattern with its templates filled.
fn is_canonical(written: &str, plain: &str, span: Span, context: &mut Context<'_>) -> Option<()> {
    let mut strict = Vec::new();
    let outcome = canonical::path(plain.as_bytes(), Options::default(), &mut strict);
    if outcome.is_ok() && strict == plain.as_bytes() {
        return Some(());
    }
    let keep = Options {
        escaped_slash: HttpOption::Keep,
        backslash: HttpOption::Keep,
        path_parameters: HttpOption::Keep,
        merge_slashes: HttpOption::Keep,
        ..Options::default()
    };
    let mut kept = Vec::new();
    if canonical::path(plain.as_bytes(), keep, &mut kept).is_ok() && kept == plain.as_bytes() {
        let help = "requests with it are refused unless `httpOptions` on that port keep it";
        context.findings.report_with(Code::OptIn, span, format!("`{written}` holds what is not canonical"), help);
        return Some(());
    }
    let help = match (&outcome, String::from_utf8(strict)) {
        (Ok(()), Ok(canonical)) if plain == written => format!("its canonical form is `{canonical}`"),
        _ if written.contains('?') => "a path has no query: match parameters with `query`".to_owned(),
        _ if !written.is_ascii() => format!("write it percent-encoded: `{}`", percent_encoded(written)),
        _ => "a path is matched in canonical form: no dot segments, no `//`, no needless escapes, upper-case `%XX`"
            .to_owned(),
    };
    let message = format!("no canonical request has the path `{written}`");
    context.findings.report_with(Code::NeverMatches, span, message, help);
    None
}

fn percent_encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii() {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
