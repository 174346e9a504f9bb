//! `method`, `path` and `host`: RE2 over the whole value.

use regex_automata::meta::Regex;
use regex_automata::util::syntax;
use regex_syntax::hir::{Class, Hir, HirKind, Look};

use super::context::Context;
use super::re2;
use crate::diagnostic::Code;
use crate::model::Pattern;
use crate::source::Span;

/// The patterns that together match what the expression matches whole. Most of what people write is plain text, a
/// choice of texts, or text and then anything: those need no automaton.
pub(super) fn patterns(source: &str, span: Span, context: &mut Context<'_>) -> Option<Vec<Pattern>> {
    match compile(source) {
        Ok(patterns) => Some(patterns),
        Err(why) => {
            let message = format!("`{source}` is no regular expression that can be enforced: {why}");
            let help = "the syntax is that of RE2, which Cilium uses";
            context.findings.report_with(Code::BadRegex, span, message, help);
            None
        }
    }
}

fn compile(source: &str) -> Result<Vec<Pattern>, String> {
    if source.len() > LONGEST {
        return Err(format!("it is longer than {LONGEST} bytes"));
    }
    let translated = re2::translate(source).map_err(|error| error.to_string())?;
    // The user's part is parsed on its own, so that no parenthesis in it can undo the anchors.
    let parsed = regex_syntax::ParserBuilder::new()
        .utf8(false)
        .unicode(false)
        .nest_limit(50)
        .build()
        .parse(&translated)
        .map_err(|error| kind(&error))?;
    if let Some(plain) = plain(&parsed) {
        return Ok(plain);
    }
    let expression = format!("^(?:{translated})$");
    let regex = Regex::builder()
        .syntax(syntax::Config::new().unicode(false).utf8(false).nest_limit(60))
        .configure(
            Regex::config()
                .utf8_empty(false)
                .nfa_size_limit(Some(AUTOMATON_BYTES))
                .hybrid_cache_capacity(AUTOMATON_BYTES),
        )
        .build(&expression)
        .map_err(|_| format!("compiled it would take more than {AUTOMATON_BYTES} bytes"))?;
    Ok(vec![Pattern::Regex { source: source.into(), expression: expression.into(), regex }])
}

fn kind(error: &regex_syntax::Error) -> String {
    match error {
        regex_syntax::Error::Parse(error) => error.kind().to_string(),
        regex_syntax::Error::Translate(error) => error.kind().to_string(),
        _ => "it cannot be read".to_owned(),
    }
}

/// Text, a choice of texts, text and anything behind it.
fn plain(parsed: &Hir) -> Option<Vec<Pattern>> {
    let mut parts = Vec::new();
    flatten(parsed, &mut parts);
    if let [HirKind::Look(Look::Start), ..] = parts.as_slice() {
        parts.remove(0);
    }
    if let [.., HirKind::Look(Look::End)] = parts.as_slice() {
        parts.pop();
    }
    match parts.as_slice() {
        [HirKind::Alternation(choices)] => {
            choices.iter().map(|choice| Some(Pattern::Exact(text(&[choice.kind()])?.into()))).collect()
        }
        [head @ .., last] if is_anything(last) => {
            let head = text(head)?;
            Some(vec![if head.is_empty() { Pattern::Anything } else { Pattern::Prefix(head.into()) }])
        }
        parts => Some(vec![Pattern::Exact(text(parts)?.into())]),
    }
}

fn flatten<'h>(parsed: &'h Hir, into: &mut Vec<&'h HirKind>) {
    match parsed.kind() {
        HirKind::Concat(parts) => parts.iter().for_each(|part| flatten(part, into)),
        HirKind::Empty => {}
        other => into.push(other),
    }
}

fn text(parts: &[&HirKind]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for part in parts {
        match part {
            HirKind::Literal(literal) => bytes.extend_from_slice(&literal.0),
            HirKind::Empty => {}
            _ => return None,
        }
    }
    Some(bytes)
}

/// `.*`: a canonical value has no line break, so that it is anything.
fn is_anything(part: &HirKind) -> bool {
    let HirKind::Repetition(repetition) = part else { return false };
    let any = match repetition.sub.kind() {
        HirKind::Class(Class::Bytes(class)) => (b'\0'..=0xff)
            .filter(|byte| *byte != b'\n')
            .all(|byte| class.ranges().iter().any(|range| range.start() <= byte && byte <= range.end())),
        _ => false,
    };
    any && repetition.min == 0 && repetition.max.is_none()
}

/// Bytes of source; longer ones are lists in disguise.
const LONGEST: usize = 4096;
/// Bounds what one expression can cost to build and to run.
const AUTOMATON_BYTES: usize = 256 << 10;
