//! `RegularExpression`: the leftmost match, first alternative first, must cover the whole value.

use regex_automata::meta::{Config, Regex};
use regex_syntax::hir::{Hir, Look};

use super::super::members;
use crate::diagnostic::Code;
use crate::model::Pattern;
use crate::source::{Findings, Node};

/// Compiles what a user wrote.
pub(super) fn pattern(node: &Node, findings: &mut Findings) -> Option<Pattern> {
    let (source, span) = members::text(Some(node), "value", findings)?;
    match compile(source) {
        Ok((expression, regex)) => {
            if let Some((first, second)) = hidden(source) {
                let message = format!("`{second}` never matches: `{first}` before it is taken and does not cover it");
                findings.report_with(Code::Suspicious, span, message, "write the longer alternative first");
            }
            Some(Pattern::Regex { source: source.into(), expression: expression.into(), regex })
        }
        Err(message) => {
            let help = "the syntax is that of the Rust regex crate: no back-references, no look-around";
            findings.report_with(Code::BadRegex, span, message, help);
            None
        }
    }
}

fn compile(source: &str) -> Result<(String, Regex), String> {
    if source.len() > LONGEST {
        return Err(format!("the regular expression is longer than {LONGEST} bytes"));
    }
    let parsed = regex_syntax::ParserBuilder::new()
        .utf8(false)
        .nest_limit(50)
        .build()
        .parse(source)
        .map_err(|error| format!("invalid regular expression: {}", kind(&error)))?;
    // No anchor at the end: which alternative comes first decides what is covered.
    let anchored = Hir::concat(vec![Hir::look(Look::Start), parsed]);
    let config = Config::new().utf8_empty(false).nfa_size_limit(Some(BYTES)).hybrid_cache_capacity(BYTES);
    let regex = Regex::builder()
        .configure(config)
        .build_from_hir(&anchored)
        .map_err(|_| format!("the regular expression is too large: compiled it may take {BYTES} bytes"))?;
    Ok((anchored.to_string(), regex))
}

fn kind(error: &regex_syntax::Error) -> String {
    match error {
        regex_syntax::Error::Parse(error) => error.kind().to_string(),
        regex_syntax::Error::Translate(error) => error.kind().to_string(),
        _ => "it cannot be read".to_owned(),
    }
}

/// The first of the plain alternatives that hides a longer one behind it.
fn hidden(source: &str) -> Option<(&str, &str)> {
    let is_plain = source.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-_|".contains(&byte));
    let choices: Vec<&str> = if is_plain { source.split('|').collect() } else { Vec::new() };
    choices.iter().enumerate().find_map(|(index, second)| {
        let earlier = choices.get(..index)?;
        earlier
            .iter()
            .find(|first| second.starts_with(**first) && first.len() < second.len())
            .map(|first| (*first, *second))
    })
}

/// Bytes of source; longer ones are lists in disguise.
const LONGEST: usize = 1024;
/// Bounds what one expression can cost to build and to run.
const BYTES: usize = 256 << 10;
