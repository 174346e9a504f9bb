//! `regex:` and `Matches`: linear time, anchored at both ends, over bytes, bounded in size.

use regex_automata::meta::{Config, Regex};
use regex_syntax::hir::{Hir, Look};

use super::context::Context;
use crate::diagnostic::Code;
use crate::model::Pattern;
use crate::source::Span;

/// Compiles what a user wrote. `.` is any byte: a value that holds a line break must not slip past a Deny.
pub(super) fn pattern(source: &str, span: Span, context: &mut Context<'_>) -> Option<Pattern> {
    match compile(source) {
        Ok((expression, regex)) => Some(Pattern::Regex { source: source.into(), expression: expression.into(), regex }),
        Err(message) => {
            let help = "the syntax is that of the Rust regex crate: no back-references, no look-around";
            context.findings.report_with(Code::BadRegex, span, message, help);
            None
        }
    }
}

fn compile(source: &str) -> Result<(String, Regex), String> {
    if source.is_empty() {
        return Err("the regular expression is empty".to_owned());
    }
    if source.len() > LONGEST {
        return Err(format!("the regular expression is longer than {LONGEST} bytes"));
    }
    // The user's part is parsed on its own, so that no parenthesis in it can undo the anchors.
    let parsed = regex_syntax::ParserBuilder::new()
        .utf8(false)
        .unicode(false)
        .dot_matches_new_line(true)
        .nest_limit(50)
        .build()
        .parse(source)
        .map_err(|error| invalid(&error))?;
    let anchored = Hir::concat(vec![Hir::look(Look::Start), parsed, Hir::look(Look::End)]);
    let config = Config::new().utf8_empty(false).nfa_size_limit(Some(NFA_BYTES)).hybrid_cache_capacity(CACHE_BYTES);
    let regex = Regex::builder()
        .configure(config)
        .build_from_hir(&anchored)
        .map_err(|_| format!("the regular expression is too large: compiled it may take {NFA_BYTES} bytes"))?;
    Ok((anchored.to_string(), regex))
}

fn invalid(error: &regex_syntax::Error) -> String {
    let kind = match error {
        regex_syntax::Error::Parse(error) => error.kind().to_string(),
        regex_syntax::Error::Translate(error) => error.kind().to_string(),
        _ => "it cannot be read".to_owned(),
    };
    format!("invalid regular expression: {kind}")
}

/// Bytes of source; longer ones are lists in disguise.
const LONGEST: usize = 1024;
/// Bounds what one rule can cost to build and to run.
const NFA_BYTES: usize = 256 << 10;
const CACHE_BYTES: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::compile;

    #[test]
    fn anchored_over_bytes_and_bounded() {
        for (source, value, expected) in [
            ("a|b", &b"ab"[..], false),
            ("a|b", b"b", true),
            ("a.*", b"a\n\xff", true),
            ("a", b"xax", false),
            ("(?i)a", b"A", true),
            (r"\d+", "١".as_bytes(), false),
            ("[^/]+", b"x/y", false),
        ] {
            assert_eq!(compile(source).unwrap().1.is_match(value), expected, "{source}");
        }
        for source in
            ["", "a)|(b", "(?x)a # ", "(", r"(a)\1", "(?=a)", "(?:(?:(?:a{500}){500}){500})", r"\p{Greek}{1000}{1000}"]
        {
            let refused = compile(source);
            assert!(refused.is_err() || source == "(?x)a # ", "{source}");
        }
        assert!(compile(&"a".repeat(2000)).is_err());
        assert!(compile(&"(".repeat(1000)).is_err());
    }
}
