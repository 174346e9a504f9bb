//! Istio's string forms: `*` presence, `*x` suffix, `x*` prefix, else exact; and path templates.
//!
//! SPEC: the leading `*` wins over the trailing one, every other `*` is a literal byte. Where Istio itself builds a
//! regular expression (namespaces, service accounts, templates) the user's text enters it escaped, so a `.` in a name
//! stays a dot.

use std::sync::Arc;

use regex_automata::meta::Regex;
use regex_automata::util::syntax;

use crate::model::{AsciiSet, Pattern, Rest, Segment};

/// What a value says, after its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form<'a> {
    Presence,
    Suffix(&'a str),
    Prefix(&'a str),
    Exact(&'a str),
}

impl<'a> Form<'a> {
    pub(super) fn of(value: &'a str) -> Self {
        if value == "*" {
            Self::Presence
        } else if let Some(rest) = value.strip_prefix('*') {
            Self::Suffix(rest)
        } else if let Some(rest) = value.strip_suffix('*') {
            Self::Prefix(rest)
        } else {
            Self::Exact(value)
        }
    }

    /// Only the leading `*` counts (issuers of `*suffix/subject`).
    pub(super) fn of_leading(value: &'a str) -> Self {
        match value.strip_prefix('*') {
            Some("") => Self::Presence,
            Some(rest) => Self::Suffix(rest),
            None => Self::Exact(value),
        }
    }

    /// The pattern; presence asks for at least one byte.
    pub(super) fn pattern(self) -> Pattern {
        match self {
            Self::Presence => Pattern::NonEmpty,
            Self::Suffix(text) => Pattern::Suffix(bytes(text)),
            Self::Prefix(text) => Pattern::Prefix(bytes(text)),
            Self::Exact(text) => Pattern::Exact(bytes(text)),
        }
    }
}

/// A host, compared with its port and without regard to case. The canonical authority is lower case already.
pub(super) fn host(value: &str) -> Pattern {
    match Form::of(&value.to_ascii_lowercase()) {
        Form::Presence => Pattern::Anything,
        form => form.pattern(),
    }
}

/// A workload identity: Istio matches `spiffe://` + value.
pub(super) fn principal(value: &str) -> Result<Pattern, Unbuildable> {
    Ok(match Form::of(value) {
        Form::Presence => Pattern::NonEmpty,
        Form::Exact(text) => Pattern::Exact(bytes(&format!("spiffe://{text}"))),
        Form::Prefix(text) => Pattern::Prefix(bytes(&format!("spiffe://{text}"))),
        Form::Suffix(text) => anchored(value, &format!("spiffe://.*{}", syntax_escape(text)))?,
    })
}

/// The namespace segment of an identity, `.*/ns/<value>/.*` with every `*` as `.*`.
pub(super) fn namespace(value: &str) -> Result<Pattern, Unbuildable> {
    anchored(value, &format!(".*/ns/{}/.*", starred(value)))
}

/// The trust domain of an identity.
pub(super) fn trust_domain(value: &str) -> Result<Pattern, Unbuildable> {
    Ok(match value.split_once('*') {
        _ if value == "*" => Pattern::Prefix(bytes("spiffe://")),
        None => Pattern::Prefix(bytes(&format!("spiffe://{value}/"))),
        Some((head, tail)) => {
            let (head, tail) = (syntax_escape(head), syntax_escape(tail));
            anchored(value, &format!("spiffe://{head}[^/]*{tail}/.*"))?
        }
    })
}

/// `<namespace>/<account>`, or `<account>` in the policy's own namespace.
pub(super) fn service_account(value: &str, own_namespace: &str) -> Result<Pattern, Unbuildable> {
    let (namespace, account) = value.split_once('/').unwrap_or((own_namespace, value));
    let (namespace, account) = (syntax_escape(namespace), syntax_escape(account));
    anchored(value, &format!("spiffe://.+/ns/{namespace}/(.+/|)sa/{account}(/.+)?"))
}

/// A value of a claim. Presence is a regular expression in Istio, whose `.` is no line break.
pub(super) fn claim(form: Form<'_>) -> Result<Pattern, Unbuildable> {
    match form {
        Form::Presence => anchored("*", r"[^\n]+"),
        form => Ok(form.pattern()),
    }
}

/// A path: a template where it holds an operator. `denies`: a match refuses.
pub(super) fn path(value: &str, denies: bool) -> Result<Pattern, PathError> {
    if value.contains("{*}") || value.contains("{**}") {
        return template(value, denies);
    }
    if value.contains(['{', '}']) { Err(PathError::OperatorNotAlone) } else { Ok(Form::of(value).pattern()) }
}

/// SPEC: Envoy's URI template: `{*}` is one or more characters of a segment, `{**}` zero or more of them and `/`. Whether
/// `=` and `*` are among them depends on Envoy's version: they are where a match refuses, and are not where it allows.
fn template(path: &str, denies: bool) -> Result<Pattern, PathError> {
    const ALLOWED: AsciiSet = AsciiSet::alphanumeric_and(b"-._~%!$&'()+,;:@");
    const DENIED: AsciiSet = AsciiSet::alphanumeric_and(b"-._~%!$&'()+,;:@=*");
    const LITERAL: AsciiSet = AsciiSet::alphanumeric_and(b"-._~%!$&'()+,;:@=");
    let operator = if denies { DENIED } else { ALLOWED };
    let Some(below) = path.strip_prefix('/') else { return Err(PathError::NotAbsolute) };
    let mut segments = Vec::new();
    let mut behind_rest: Option<Vec<&str>> = None;
    let mut written = below.split('/').peekable();
    while let Some(segment) = written.next() {
        if behind_rest.is_some() && segment.contains("{*") {
            return Err(PathError::OperatorAfterRest);
        }
        let made = match segment {
            "{*}" => Segment::Of(operator),
            "{**}" => {
                behind_rest = Some(Vec::new());
                continue;
            }
            literal if literal.contains(['{', '}']) => return Err(PathError::OperatorNotAlone),
            literal if literal.contains('*') => return Err(PathError::Asterisk),
            // One slash may stand at the end.
            "" if written.peek().is_some() => return Err(PathError::Literal),
            literal if !literal.bytes().all(|byte| LITERAL.contains(byte)) => return Err(PathError::Literal),
            literal => Segment::Literal(literal.as_bytes().into()),
        };
        match &mut behind_rest {
            Some(behind) => behind.push(segment),
            None => segments.push(made),
        }
    }
    match behind_rest {
        None => Ok(Pattern::Segments { segments, rest: Rest::Nothing }),
        Some(behind) if behind.is_empty() => Ok(Pattern::Segments { segments, rest: Rest::Of(operator) }),
        Some(behind) => around_rest(path, &segments, operator, &behind).map_err(PathError::Unbuildable),
    }
}

/// A template with segments behind its `{**}`.
fn around_rest(path: &str, before: &[Segment], operator: AsciiSet, behind: &[&str]) -> Result<Pattern, Unbuildable> {
    // No byte of the set is a `/`, a `[` or a `]`, and all are printable ASCII.
    let class = (0..=u8::MAX)
        .filter(|byte| operator.contains(*byte))
        .fold(String::new(), |class, byte| class + &syntax_escape(char::from(byte).encode_utf8(&mut [0; 4])));
    let mut regex = String::new();
    for segment in before {
        regex.push('/');
        match segment {
            Segment::Literal(bytes) => regex.push_str(&syntax_escape(&String::from_utf8_lossy(bytes))),
            Segment::Variable | Segment::Of(_) => regex.push_str(&format!("[{class}]+")),
        }
    }
    regex.push_str(&format!("/[{class}/]*"));
    for segment in behind {
        regex.push('/');
        regex.push_str(&syntax_escape(segment));
    }
    anchored(path, &regex)
}

/// Why a path is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum PathError {
    #[error("a path template starts with `/`")]
    NotAbsolute,
    #[error("no operator may follow `{{**}}`")]
    OperatorAfterRest,
    #[error("braces stand in a path as `{{*}}` or `{{**}}` alone, each a whole segment")]
    OperatorNotAlone,
    #[error("a path template has no `*` outside `{{*}}` and `{{**}}`")]
    Asterisk,
    #[error("a segment of a path template is empty, or holds what no path has unescaped")]
    Literal,
    #[error(transparent)]
    Unbuildable(Unbuildable),
}

/// The value is too large to compile.
#[derive(Debug, thiserror::Error)]
#[error("the value is too large to compile")]
pub(super) struct Unbuildable;

fn anchored(source: &str, regex: &str) -> Result<Pattern, Unbuildable> {
    let expression = format!("^(?:{regex})$");
    let regex = Regex::builder()
        .syntax(syntax::Config::new().unicode(false).utf8(false).dot_matches_new_line(true))
        .configure(Regex::config().nfa_size_limit(Some(1 << 20)).utf8_empty(false))
        .build(&expression)
        .map_err(|_| Unbuildable)?;
    Ok(Pattern::Regex { source: source.into(), expression: expression.into(), regex })
}

fn starred(value: &str) -> String {
    value.split('*').map(syntax_escape).collect::<Vec<_>>().join(".*")
}

fn syntax_escape(literal: &str) -> String {
    regex_syntax::escape(literal)
}

fn bytes(text: &str) -> Arc<[u8]> {
    text.as_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &Pattern, text: &str) -> bool {
        crate::model::interpret::pattern::matches(pattern, text.as_bytes())
    }

    #[test]
    fn the_leading_asterisk_wins() {
        assert_eq!(Form::of("*x*"), Form::Suffix("x*"));
        assert_eq!(Form::of("/a*b"), Form::Exact("/a*b"));
        assert_eq!(Form::of("/a*"), Form::Prefix("/a"));
        assert_eq!(Form::of("*"), Form::Presence);
    }

    #[test]
    fn a_dot_in_an_account_is_a_dot() {
        let pattern = service_account("cert-manager.io", "infra").unwrap();
        assert!(matches(&pattern, "spiffe://td/ns/infra/sa/cert-manager.io"));
        assert!(!matches(&pattern, "spiffe://td/ns/infra/sa/cert-manager-io"));
        assert!(!matches(&pattern, "spiffe://td/ns/infra/sa/cert-manager.iox"));
    }

    #[test]
    fn namespaces_are_segments() {
        let exact = namespace("foo").unwrap();
        assert!(matches(&exact, "spiffe://td/ns/foo/sa/a"));
        assert!(!matches(&exact, "spiffe://td/ns/foo-bar/sa/a"));
        assert!(matches(&namespace("*-bar").unwrap(), "spiffe://td/ns/foo-bar/sa/a"));
        assert!(matches(&trust_domain("*local").unwrap(), "spiffe://cluster.local/ns/foo/sa/a"));
        assert!(!matches(&trust_domain("cluster.local").unwrap(), "spiffe://cluster-local/ns/foo/sa/a"));
    }

    #[test]
    fn what_was_written_alike_is_not_the_same() {
        let made = [namespace("foo*").unwrap(), trust_domain("foo*").unwrap(), principal("*foo*").unwrap()];
        for (index, one) in made.iter().enumerate() {
            for (other_index, other) in made.iter().enumerate() {
                assert_eq!(one == other, index == other_index, "{one:?} {other:?}");
            }
        }
        assert!(namespace("foo").unwrap() != service_account("foo", "default").unwrap());
    }

    #[test]
    fn templates() {
        for (pattern, path, expected) in [
            ("/allow/{**}", "/allow/", true),
            ("/allow/{**}", "/allow", false),
            ("/allow/{**}", "/allow/a/b.txt", true),
            ("/store/{**}/cart", "/store/cart", false),
            ("/store/{**}/cart", "/store//cart", true),
            ("/foo/{*}/x", "/foo/a=b/x", false),
            ("/foo/{*}/x", "/foo/a/b/x", false),
            ("/foo/{*}/x", "/foo//x", false),
            ("/foo.{*}", "", false),
        ] {
            match template(pattern, false) {
                Ok(compiled) => assert_eq!(matches(&compiled, path), expected, "{pattern} {path}"),
                Err(_) => assert!(!expected, "{pattern}"),
            }
        }
        assert!(matches!(template("/a/{**}/{*}", false), Err(PathError::OperatorAfterRest)));
        assert!(matches!(template("/a/{*}x", false), Err(PathError::OperatorNotAlone)));
        assert!(matches!(template("/a/*/{*}", false), Err(PathError::Asterisk)));
        assert!(matches!(template("/a//{*}", false), Err(PathError::Literal)));
        assert!(matches!(template("/ä/{*}", false), Err(PathError::Literal)));
        assert!(matches!(path("/orders/{id}", true), Err(PathError::OperatorNotAlone)));
        assert!(matches(&template("/a=b/{*}/", false).unwrap(), "/a=b/c/"));
        for literal in ["/x/a=b", "/x/a*b"] {
            assert!(!matches(&template("/x/{*}", false).unwrap(), literal));
            assert!(matches(&template("/x/{*}", true).unwrap(), literal));
        }
    }
}
