//! Names of hosts with wildcards: `matchName`, `matchPattern` and `serverNames`.

use regex_automata::meta::Regex;
use regex_automata::util::syntax;

use super::context::Context;
use super::members::{Members, items, text};
use crate::diagnostic::Code;
use crate::model::Pattern;
use crate::source::{Node, Span, fields};

/// What one item of `toFQDNs` or of a DNS rule names, compared without regard to case or to a trailing dot.
pub(super) fn selector(node: &Node, list: &str, context: &mut Context<'_>) -> Option<Pattern> {
    let before = context.findings.errors();
    let mut members = Members::of(node, &format!("an item of `{list}`"), context.findings)?;
    let name = text(members.find("matchName"), "matchName", context.findings);
    let pattern = text(members.find("matchPattern"), "matchPattern", context.findings);
    members.finish(context.findings);
    if context.findings.errors() != before {
        return None;
    }
    match (name, pattern) {
        (Some((name, span)), None) => {
            let plain = check(name, span, false, context)?;
            Some(Pattern::ExactIgnoreCase(plain.as_bytes().into()))
        }
        (None, Some((pattern, span))) => match check(pattern, span, true, context)?.as_str() {
            "*" => Some(Pattern::Anything),
            plain => wildcard(pattern, plain.strip_prefix("**."), plain, span, context),
        },
        (Some(_), Some((_, span))) => {
            context.findings.report(Code::Conflict, span, "`matchName` and `matchPattern` exclude each other");
            None
        }
        (None, None) => {
            let message = format!("an item of `{list}` names nothing");
            context.findings.report_with(Code::MissingField, node.span, message, "add `matchName` or `matchPattern`");
            None
        }
    }
}

/// `serverNames`. No server name never matches.
pub(super) fn server_names(node: &Node, context: &mut Context<'_>) -> Option<Vec<Pattern>> {
    let mut patterns = Vec::new();
    for item in items(node, "serverNames", context.findings)? {
        let written = fields::text(item, "an item of `serverNames`", context.findings)?;
        let plain = check(written, item.span, true, context)?;
        patterns.push(match plain.as_str() {
            "*" | "**" => Pattern::NonEmpty,
            name if !name.contains('*') => Pattern::ExactIgnoreCase(name.as_bytes().into()),
            name => {
                let label = format!("{CHARACTER}+");
                let deep = format!("{label}(?:\\.{label})*");
                let parts: Vec<String> = name.split("**").map(single).collect();
                build(written, &parts.join(&deep), item.span, context)?
            }
        });
    }
    Some(patterns)
}

fn wildcard(written: &str, below: Option<&str>, whole: &str, span: Span, context: &mut Context<'_>) -> Option<Pattern> {
    let expression = match below {
        Some(rest) => format!("(?:{CHARACTER}+\\.)+{}", single(rest)),
        None => single(whole),
    };
    build(written, &expression, span, context)
}

/// `*` stands for any characters of one label, none included.
fn single(pattern: &str) -> String {
    pattern.split('*').map(regex_syntax::escape).collect::<Vec<_>>().join(&format!("{CHARACTER}*"))
}

fn build(written: &str, expression: &str, span: Span, context: &mut Context<'_>) -> Option<Pattern> {
    let expression = format!("(?i)^(?:{expression})$");
    let regex = Regex::builder()
        .syntax(syntax::Config::new().unicode(false).utf8(false))
        .configure(Regex::config().nfa_size_limit(Some(NFA_BYTES)).utf8_empty(false))
        .build(&expression);
    match regex {
        Ok(regex) => Some(Pattern::Regex { source: written.into(), expression: expression.into(), regex }),
        Err(_) => {
            context.findings.report(Code::BadRegex, span, format!("`{written}` is too large to compile"));
            None
        }
    }
}

/// Lower case, without the dot of the root.
fn check(name: &str, span: Span, wildcards: bool, context: &mut Context<'_>) -> Option<String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) || (wildcards && byte == b'*');
    let plain = name.strip_suffix('.').unwrap_or(name);
    if plain.is_empty() || plain.len() > LONGEST || !plain.bytes().all(fits) {
        let help = "letters, digits, `-`, `_` and `.`; `*` in patterns alone";
        context.findings.report_with(Code::BadValue, span, format!("`{name}` is no name of a host"), help);
        return None;
    }
    Some(plain.to_ascii_lowercase())
}

const CHARACTER: &str = "[-a-z0-9_]";
/// Bytes of a name in DNS.
const LONGEST: usize = 255;
const NFA_BYTES: usize = 256 << 10;
