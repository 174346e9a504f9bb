//! `HTTPRoute` and `GRPCRoute` of a `Server`: which requests they are for. Routes of other parents are no policy.

use std::sync::Arc;

use regex_automata::meta::Regex;
use regex_automata::util::syntax;

use super::document::{Reader, namespace_of};
use super::{GROUP, GRPC_ROUTE, SERVER};
use crate::diagnostic::{Code, Location};
use crate::dialect::members::{Members, items};
use crate::model::{Atom, Each, Expr, Pattern, PolicyName, Segment, Text};
use crate::source::fields::{text, word};
use crate::source::{Document, Findings, Node, Value};

/// One route.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) name: PolicyName,
    /// Seconds since the epoch; one without is the youngest.
    pub(super) created: i64,
    hosts: Vec<Host>,
    /// Names of `Server`s of its namespace.
    parents: Vec<String>,
    pub(super) matches: Vec<Match>,
}

/// A host name, or none.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) rank: (u8, usize),
    pub(super) condition: Expr,
}

/// One match of one rule.
#[derive(Clone, Debug)]
pub(super) struct Match {
    /// `rules[0].matches[1]`.
    pub(super) position: String,
    pub(super) location: Location,
    pub(super) path: Path,
    pub(super) headers: usize,
    pub(super) query: usize,
    pub(super) has_method: bool,
    /// Everything but the path.
    pub(super) rest: Expr,
}

/// What a match asks of the path.
#[derive(Clone, Debug)]
pub(super) enum Path {
    /// Nothing: as a prefix `/` would.
    Any,
    /// The whole of it.
    Whole(Expr),
    /// Segments at its beginning.
    Prefix { length: usize, itself: Expr, below: Expr },
    /// Service and method of a gRPC call, by the lengths that are named.
    Call { service: usize, method: usize, condition: Expr },
}

impl Route {
    /// Whether it is attached to this `Server`.
    pub(super) fn is_of(&self, server: &PolicyName) -> bool {
        self.name.namespace == server.namespace && self.parents.iter().any(|parent| **parent == *server.name)
    }

    /// Its host names; without one it is for every host, and less specific than one that names the host.
    pub(super) fn hosts(&self) -> Vec<Host> {
        if self.hosts.is_empty() { vec![Host { rank: (0, 0), condition: Expr::True }] } else { self.hosts.clone() }
    }
}

/// Whether a document is about other parents than `Server`s: a gateway's route, or a mesh's outbound one.
pub(super) fn is_of_no_server(document: &Document) -> bool {
    let parents = document.root.get("spec").and_then(|spec| spec.get("parentRefs"));
    let Some(parents) = parents.and_then(|node| items(node, "parentRefs", &mut Findings::of(document))) else {
        return false;
    };
    let kind = |parent: &Node| parent.get("kind").and_then(Node::text).map(str::to_owned);
    !document.broken && !parents.is_empty() && parents.iter().all(|parent| kind(parent).as_deref() != Some(SERVER))
}

/// Reads one document; `None` after an error, and where it is no policy.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<Route> {
    if is_of_no_server(reader.document) {
        let mut note = reader.findings.diagnostic(
            Code::NotEnforced,
            reader.document.root.span,
            "a route whose parent is no Server says nothing of access",
        );
        note.severity = crate::diagnostic::Severity::Note;
        reader.findings.push(note.help("nothing to do: it is passed over"));
        return None;
    }
    let before = reader.findings.errors();
    let mut spec = reader.spec()?;
    let parents = spec.require("parentRefs", &mut reader.findings);
    let parents = parents.and_then(|node| items(node, "parentRefs", &mut reader.findings)).unwrap_or_default();
    let hostnames = spec.list("hostnames", &mut reader.findings).unwrap_or_default();
    let rules = spec.list("rules", &mut reader.findings).unwrap_or_default();
    spec.accept(&["useDefaultGateways"]);
    spec.finish(&mut reader.findings);
    let is_grpc = reader.document.kind == GRPC_ROUTE;
    let parents = parents.iter().filter_map(|node| parent(node, reader)).collect();
    let hosts: Vec<Option<Host>> = hostnames.iter().map(|node| host(node, &mut reader.findings)).collect();
    let mut matches = Vec::new();
    for (index, node) in rules.iter().enumerate() {
        rule(node, index, is_grpc, reader, &mut matches);
    }
    let hosts = hosts.into_iter().collect::<Option<Vec<_>>>()?;
    let route = Route {
        name: reader.name.clone(),
        created: reader.document.created.unwrap_or(i64::MAX),
        hosts,
        parents,
        matches,
    };
    (reader.findings.errors() == before).then_some(route)
}

/// The `Server` that a parent names; `None` for other parents, and for what Linkerd does not attach to.
fn parent(node: &Node, reader: &mut Reader<'_>) -> Option<String> {
    let own = namespace_of(reader.document).to_owned();
    let findings = &mut reader.findings;
    let mut members = Members::of(node, "an item of `parentRefs`", findings)?;
    let group = members.find("group").and_then(|node| text(node, "`group`", findings));
    let kind = members.find("kind").and_then(|node| text(node, "`kind`", findings));
    let name = members.require("name", findings).and_then(|node| text(node, "`name`", findings));
    let namespace = members.find("namespace").and_then(|node| text(node, "`namespace`", findings));
    let narrowed = members.find("port").or(members.find("sectionName"));
    members.finish(findings);
    if group != Some(GROUP) || kind != Some(SERVER) {
        return None;
    }
    if narrowed.is_some() || namespace.is_some_and(|namespace| namespace != own) {
        let help = "name a Server of the route's own namespace, without `port` and `sectionName`";
        findings.report_with(Code::NotEnforced, node.span, "a route is not attached by such a parent", help);
        return None;
    }
    name.map(str::to_owned)
}

fn host(node: &Node, findings: &mut Findings) -> Option<Host> {
    let written = text(node, "a host name", findings)?.to_ascii_lowercase();
    let of = |is: Pattern| Expr::Is(Atom::Text { of: Text::Host, each: Each::Line, is: vec![is] });
    let name = written.strip_suffix('.').unwrap_or(&written);
    if name.is_empty() || name.contains(':') {
        let help = "a host name has no port";
        findings.report_with(Code::BadValue, node.span, format!("`{written}` is no host name"), help);
        return None;
    }
    Some(match name.strip_prefix('*') {
        // SPEC: `*.x` stands for one or more labels.
        Some(suffix) if suffix.starts_with('.') => {
            Host { rank: (1, suffix.len()), condition: of(Pattern::SuffixIgnoreCase(suffix.as_bytes().into())) }
        }
        _ => Host { rank: (2, name.len()), condition: of(Pattern::ExactIgnoreCase(name.as_bytes().into())) },
    })
}

fn rule(node: &Node, index: usize, is_grpc: bool, reader: &mut Reader<'_>, matches: &mut Vec<Match>) {
    let Some(mut members) = Members::of(node, "a rule", &mut reader.findings) else { return };
    let written = members.list("matches", &mut reader.findings).unwrap_or_default();
    // What is done with a request once it may pass says nothing of whether it may.
    members.accept(&["name", "filters", "backendRefs", "timeouts", "retry", "sessionPersistence"]);
    members.finish(&mut reader.findings);
    if written.is_empty() {
        matches.push(Match {
            position: format!("rules[{index}]"),
            location: reader.location(node),
            path: Path::Any,
            headers: 0,
            query: 0,
            has_method: false,
            rest: if is_grpc { post() } else { Expr::True },
        });
    }
    for (number, node) in written.iter().enumerate() {
        let position = format!("rules[{index}].matches[{number}]");
        let read = if is_grpc { call(node, position, reader) } else { request(node, position, reader) };
        matches.extend(read);
    }
}

fn request(node: &Node, position: String, reader: &mut Reader<'_>) -> Option<Match> {
    let location = reader.location(node);
    let findings = &mut reader.findings;
    let mut members = Members::of(node, "a match", findings)?;
    let path_node = members.find("path");
    let headers = members.list("headers", findings).unwrap_or_default();
    let query = members.list("queryParams", findings).unwrap_or_default();
    let method = members.find("method");
    members.finish(findings);
    let path = path_node.map_or(Some(Path::Any), |node| path(node, findings))?;
    let mut rest: Vec<Expr> = Vec::new();
    for item in headers {
        rest.push(named_value(item, "a header", |name| Text::Header(name.to_ascii_lowercase().into()), findings)?);
    }
    for item in query {
        rest.push(named_value(item, "a query parameter", |name| Text::Query(name.into()), findings)?);
    }
    if let Some(node) = method {
        let method = text(node, "`method`", findings)?;
        rest.push(method_is(method));
    }
    Some(Match {
        position,
        location,
        path,
        headers: headers.len(),
        query: query.len(),
        has_method: method.is_some(),
        rest: Expr::all(rest),
    })
}

/// SPEC: gRPC calls are POSTs of `/service/method`; further segments are ignored.
fn call(node: &Node, position: String, reader: &mut Reader<'_>) -> Option<Match> {
    let location = reader.location(node);
    let findings = &mut reader.findings;
    let mut members = Members::of(node, "a match", findings)?;
    let method = members.find("method");
    let headers = members.list("headers", findings).unwrap_or_default();
    members.finish(findings);
    let mut rest: Vec<Expr> = vec![post()];
    for item in headers {
        rest.push(named_value(item, "a header", |name| Text::Header(name.to_ascii_lowercase().into()), findings)?);
    }
    let (service, name) = match method {
        None => (None, None),
        Some(node) => {
            let mut members = Members::of(node, "`method`", findings)?;
            if let Some(kind) = members.find("type") {
                word(kind, "`type`", &[("Exact", ())], findings)?;
            }
            let service = members.find("service").map(|node| text(node, "`service`", findings));
            let name = members.find("method").map(|node| text(node, "`method`", findings));
            members.finish(findings);
            (service.flatten(), name.flatten())
        }
    };
    let segment = |part: Option<&str>| match part {
        Some(part) => Segment::Literal(part.as_bytes().into()),
        None => Segment::Variable,
    };
    let pattern = Pattern::Segments { segments: vec![segment(service), segment(name)], rest: true };
    let length = |part: Option<&str>| part.map_or(0, str::len);
    let path = Path::Call { service: length(service), method: length(name), condition: path_is(pattern) };
    Some(Match { position, location, path, headers: headers.len(), query: 0, has_method: false, rest: Expr::all(rest) })
}

fn path(node: &Node, findings: &mut Findings) -> Option<Path> {
    let mut members = Members::of(node, "`path`", findings)?;
    let kind = members.find("type");
    let value = members.find("value").map_or(Some("/"), |node| text(node, "`value`", findings));
    let place = members.place("value");
    members.finish(findings);
    let words = [("Exact", Kind::Exact), ("PathPrefix", Kind::Prefix), ("RegularExpression", Kind::Regex)];
    let kind = kind.map_or(Some(Kind::Prefix), |node| word(node, "`type`", &words, findings))?;
    let value = value?;
    if kind != Kind::Regex && !value.starts_with('/') {
        findings.report_with(Code::BadValue, place, format!("`{value}` is no path"), "a path starts with `/`");
        return None;
    }
    Some(match kind {
        Kind::Exact => Path::Whole(path_is(Pattern::Exact(value.as_bytes().into()))),
        Kind::Regex => Path::Whole(path_is(covering(value, place, findings)?)),
        Kind::Prefix => {
            let prefix = value.trim_end_matches('/');
            let itself = if prefix.is_empty() { "/" } else { prefix };
            Path::Prefix {
                length: itself.len(),
                itself: path_is(Pattern::Exact(itself.as_bytes().into())),
                below: path_is(Pattern::Prefix(format!("{prefix}/").as_bytes().into())),
            }
        }
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Exact,
    Prefix,
    Regex,
}

/// SPEC: any line of a repeated header, any value of a repeated parameter may match.
fn named_value(node: &Node, what: &str, of: impl Fn(&str) -> Text, findings: &mut Findings) -> Option<Expr> {
    let mut members = Members::of(node, what, findings)?;
    let kind = members.find("type");
    let name = members.require("name", findings).and_then(|node| text(node, "`name`", findings));
    let value = members.require("value", findings);
    members.finish(findings);
    let words = [("Exact", Kind::Exact), ("RegularExpression", Kind::Regex)];
    let kind = kind.map_or(Some(Kind::Exact), |node| word(node, "`type`", &words, findings))?;
    let (name, value) = (name?, value?);
    // A value may be empty: `?x` has that one.
    let written = match &value.value {
        Value::Text(written) => written,
        _ => text(value, "`value`", findings)?,
    };
    let pattern = match kind {
        Kind::Regex => covering(written, value.span, findings)?,
        _ => Pattern::Exact(written.as_bytes().into()),
    };
    Some(Expr::Is(Atom::Text { of: of(name), each: Each::Line, is: vec![pattern] }))
}

/// SPEC: the first match of the expression must cover the whole value, so that `/foo|/foobar` never covers `/foobar`.
fn covering(source: &str, span: crate::source::Span, findings: &mut Findings) -> Option<Pattern> {
    let expression: Arc<str> = format!("^(?:{source})").into();
    let config = Regex::config().nfa_size_limit(Some(1 << 20)).utf8_empty(false);
    let syntax = syntax::Config::new().unicode(false).utf8(false).nest_limit(50);
    // The user's part alone must be an expression, or a parenthesis in it could undo the anchor.
    let alone = regex_syntax::ParserBuilder::new().unicode(false).utf8(false).nest_limit(50).build().parse(source);
    match (alone, Regex::builder().syntax(syntax).configure(config).build(&expression)) {
        (Ok(_), Ok(regex)) => Some(Pattern::Regex { source: source.into(), expression, regex }),
        _ => {
            let help = "the syntax is that of the Rust regex crate: no back-references, no look-around";
            let message = format!("`{source}` is no regular expression, or a too large one");
            findings.report_with(Code::BadRegex, span, message, help);
            None
        }
    }
}

fn path_is(pattern: Pattern) -> Expr {
    Expr::Is(Atom::Text { of: Text::Path, each: Each::Line, is: vec![pattern] })
}

fn method_is(method: &str) -> Expr {
    Expr::Is(Atom::Text { of: Text::Method, each: Each::Line, is: vec![Pattern::Exact(method.as_bytes().into())] })
}

fn post() -> Expr {
    method_is("POST")
}
