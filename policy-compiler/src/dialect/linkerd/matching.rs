//! One match of a route, as conditions with their ranks.

use super::super::members::{self, Members};
use super::rank::{HostRank, PathRank};
use super::regex;
use crate::diagnostic::Code;
use crate::model::{Atom, Each, Expr, Pattern, Rest, Segment, Text};
use crate::source::{Findings, Node, Span, fields};

/// A match without the host: several ways in which its path can match, and what else it asks.
#[derive(Clone, Debug)]
pub(super) struct Match {
    /// Each with its rank.
    pub(super) paths: Vec<(PathRank, Expr)>,
    pub(super) others: Expr,
    pub(super) headers: usize,
    pub(super) queries: usize,
    pub(super) method: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Exact,
    Prefix,
    Regex,
}

const EXACT: (&str, Kind) = ("Exact", Kind::Exact);
const PREFIX: (&str, Kind) = ("PathPrefix", Kind::Prefix);
const REGEX: (&str, Kind) = ("RegularExpression", Kind::Regex);

fn is(of: Text, pattern: Pattern) -> Expr {
    Expr::Is(Atom::Text { of, each: Each::Line, is: vec![pattern] })
}

fn exact(written: &str) -> Pattern {
    Pattern::Exact(written.as_bytes().into())
}

/// A rule without matches: every path.
pub(super) fn everything() -> Match {
    Match { paths: prefix("/"), others: Expr::True, headers: 0, queries: 0, method: false }
}

/// One of `matches` of an HTTPRoute.
pub(super) fn http(node: &Node, findings: &mut Findings) -> Option<Match> {
    let before = findings.errors();
    let mut fields = Members::of(node, "an item of `matches`", findings)?;
    let path = fields.find("path");
    let headers = fields.list("headers", findings).unwrap_or_default();
    let queries = fields.list("queryParams", findings).unwrap_or_default();
    let method = members::text(fields.find("method"), "method", findings);
    fields.finish(findings);
    let paths = match path {
        Some(node) => self::path(node, findings)?,
        None => prefix("/"),
    };
    let header = |name: &str| Text::Header(name.to_ascii_lowercase().into());
    let mut others: Vec<Expr> = headers.iter().filter_map(|node| value(node, "headers", &header, findings)).collect();
    let query = |name: &str| Text::Query(name.into());
    others.extend(queries.iter().filter_map(|node| value(node, "queryParams", &query, findings)));
    if let Some((method, span)) = method {
        if !method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-' || byte == b'_') {
            let message = format!("`{method}` is no method as requests have it: they are compared by case");
            findings.report_with(Code::NeverMatches, span, message, format!("write `{}`", method.to_ascii_uppercase()));
        }
        others.push(is(Text::Method, exact(method)));
    }
    let (headers, queries) = (headers.len(), queries.len());
    let others = Expr::all(others);
    (findings.errors() == before).then_some(Match { paths, others, headers, queries, method: method.is_some() })
}

fn path(node: &Node, findings: &mut Findings) -> Option<Vec<(PathRank, Expr)>> {
    let mut fields = Members::of(node, "`path`", findings)?;
    let kind = fields.find("type");
    let value = fields.find("value");
    fields.finish(findings);
    let kind = match kind {
        Some(node) => fields::word(node, "`type`", &[EXACT, PREFIX, REGEX], findings)?,
        None => Kind::Prefix,
    };
    // SPEC: the API's default is `/`.
    let Some(value) = value else { return Some(prefix("/")) };
    if kind == Kind::Regex {
        return Some(vec![(PathRank::Whole, is(Text::Path, regex::pattern(value, findings)?))]);
    }
    let (written, span) = (fields::text(value, "`value`", findings)?, value.span);
    if !written.starts_with('/') {
        let message = format!("`{written}` is no path: it does not start with `/`");
        findings.report_with(Code::NeverMatches, span, message, format!("write `/{written}`"));
        return None;
    }
    if written.contains("//") || written.contains(['?', '#']) {
        never(written, span, findings);
    }
    Some(match kind {
        Kind::Exact => vec![(PathRank::Whole, is(Text::Path, exact(written)))],
        _ => prefix(written),
    })
}

fn never(written: &str, span: Span, findings: &mut Findings) {
    let message = format!("`{written}` is the path of no request: it holds `//`, `?` or `#`");
    findings.report_with(Code::Suspicious, span, message, "a match is about the path alone, without the query");
}

/// A prefix: the path itself, which is matched whole, and what lies below it.
///
/// Below includes the path itself as well: where it stands the whole path has been asked before.
fn prefix(written: &str) -> Vec<(PathRank, Expr)> {
    let trimmed = written.trim_end_matches('/');
    if trimmed.is_empty() {
        let length = usize::from(written == "/");
        return vec![(PathRank::Whole, is(Text::Path, exact("/"))), (PathRank::Part(length), Expr::True)];
    }
    let segments = trimmed.split('/').skip(1).map(|segment| Segment::Literal(segment.as_bytes().into())).collect();
    let below = Pattern::Segments { segments, rest: Rest::Below };
    vec![(PathRank::Whole, is(Text::Path, exact(trimmed))), (PathRank::Part(trimmed.len()), is(Text::Path, below))]
}

/// A header or a query parameter. Several values of one name: any of them.
fn value(node: &Node, list: &str, of: &dyn Fn(&str) -> Text, findings: &mut Findings) -> Option<Expr> {
    let mut fields = Members::of(node, &format!("an item of `{list}`"), findings)?;
    let kind = fields.find("type");
    let name = fields.require("name", findings);
    let value = fields.require("value", findings);
    fields.finish(findings);
    let kind = match kind {
        Some(node) => fields::word(node, "`type`", &[EXACT, REGEX], findings)?,
        None => Kind::Exact,
    };
    let (name, _) = (fields::text(name?, "`name`", findings)?, ());
    let pattern = match kind {
        Kind::Regex => regex::pattern(value?, findings)?,
        _ => match value?.text() {
            Some(written) => exact(written),
            None => exact(fields::text(value?, "`value`", findings)?),
        },
    };
    Some(is(of(name), pattern))
}

/// One of `matches` of a GRPCRoute.
pub(super) fn grpc(node: &Node, findings: &mut Findings) -> Option<Match> {
    let before = findings.errors();
    let mut fields = Members::of(node, "an item of `matches`", findings)?;
    let method = fields.find("method");
    let headers = fields.list("headers", findings).unwrap_or_default();
    fields.finish(findings);
    let (service, method) = match method {
        Some(node) => names(node, findings)?,
        None => (None, None),
    };
    let header = |name: &str| Text::Header(name.to_ascii_lowercase().into());
    let others: Vec<Expr> = headers.iter().filter_map(|node| value(node, "headers", &header, findings)).collect();
    let read = rpc(service, method, others, headers.len());
    (findings.errors() == before).then_some(read)
}

/// A rule of a GRPCRoute without matches.
pub(super) fn every_rpc() -> Match {
    rpc(None, None, Vec::new(), 0)
}

/// SPEC: POST, and a path of at least two segments, of which the first two are service and method.
fn rpc(service: Option<&str>, method: Option<&str>, mut others: Vec<Expr>, headers: usize) -> Match {
    let segment = |name: Option<&str>| name.map_or(Segment::Variable, |name| Segment::Literal(name.as_bytes().into()));
    let path = match (service, method) {
        (Some(service), None) => Pattern::Prefix(format!("/{service}/").into_bytes().into()),
        _ => Pattern::Segments { segments: vec![segment(service), segment(method)], rest: Rest::Below },
    };
    others.push(is(Text::Method, exact("POST")));
    let rank = PathRank::Rpc(service.map_or(0, str::len), method.map_or(0, str::len));
    Match { paths: vec![(rank, is(Text::Path, path))], others: Expr::all(others), headers, queries: 0, method: false }
}

fn names<'n>(node: &'n Node, findings: &mut Findings) -> Option<(Option<&'n str>, Option<&'n str>)> {
    let mut fields = Members::of(node, "`method`", findings)?;
    let kind = fields.find("type");
    let service = members::text(fields.find("service"), "service", findings).map(|(name, _)| name);
    let method = members::text(fields.find("method"), "method", findings).map(|(name, _)| name);
    fields.finish(findings);
    if let Some(node) = kind
        && fields::word(node, "`type`", &[EXACT, REGEX], findings)? == Kind::Regex
    {
        let message = "a regular expression over gRPC methods is not supported: Linkerd has none";
        findings.report_with(Code::NotSupported, node.span, message, "write `type: Exact`");
        return None;
    }
    Some((service, method))
}

/// One of `hostnames`. The port of a request does not count.
pub(super) fn host(node: &Node, findings: &mut Findings) -> Option<(HostRank, Expr)> {
    let written = fields::text(node, "an item of `hostnames`", findings)?;
    let (rank, pattern) = match written.strip_prefix("*.") {
        Some(rest) => (
            HostRank::Suffix(rest.len()),
            Pattern::SuffixIgnoreCase(format!(".{}", rest.to_ascii_lowercase()).into_bytes().into()),
        ),
        None => (HostRank::Exact, Pattern::ExactIgnoreCase(written.to_ascii_lowercase().into_bytes().into())),
    };
    if written.trim_start_matches("*.").contains(['*', ':', '/']) {
        let message = format!("`{written}` is no host name: a leading `*.` is its only wildcard, and it has no port");
        findings.report_with(Code::BadValue, node.span, message, "write a name as `example.com` or `*.example.com`");
        return None;
    }
    Some((rank, is(Text::Host, pattern)))
}
