//! What one side reads and the other refuses, where `httpOptions` differ.
//!
//! An opt-in changes nothing of what both sides read: those requests are compared as ever, under what both accept. What
//! an opt-in adds is refused by the other side, so that all of it that its own side allows is a difference, shown by a
//! request that only that side reads. Where both opt in, in ways that read one request as two, nothing is decided.

use regex_automata::meta::{Config, Regex};
use regex_automata::util::syntax;
use serde_json::{Value as Json, json};

use super::residue::{Residue, Residues, TRUE};
use crate::canonical::{self, Options};
use crate::model::{Atom, Each, HttpOption, Pattern, Text};
use crate::world::CanonicalScope;

/// How two sides read requests to one port.
#[derive(Debug)]
pub(super) struct Reading {
    /// Under these options both read alike.
    pub(super) both: Options,
    /// Opt-ins of one side.
    pub(super) alone: Vec<Alone>,
    /// Requests that both read, each in its own way.
    pub(super) in_two_ways: Vec<&'static str>,
}

/// An opt-in of one side.
#[derive(Debug)]
pub(super) struct Alone {
    /// Whose it is: 0 or 1.
    pub(super) world: usize,
    /// All options of that side.
    pub(super) options: Options,
    /// As it is written: `escapedSlash: Keep`.
    pub(super) written: String,
    pub(super) sign: Sign,
}

/// How a request shows that only a side with the opt-in reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// Its canonical path holds the mark of this number.
    Mark(usize),
    /// Its path begins with this, which is read as nothing.
    Prefix(&'static str),
    /// It has a header that overrides the method.
    Override,
    /// It has a second spelling of a header that the other side's rules ask for.
    Spelling,
}

/// Questions whether a canonical path holds what an opt-in keeps, by the numbers of [`Sign::Mark`].
#[derive(Debug)]
pub(super) struct Marks(Vec<Residue>);

impl Marks {
    pub(super) fn new(residues: &mut Residues) -> Self {
        let marks = ["%2F", r"(?:\\|%5C)", ";"].map(|mark| {
            let is = holding(mark).map(|is| Atom::Text { of: Text::Path, each: Each::Line, is: vec![is] });
            is.map_or(TRUE, |atom| residues.ask(&atom))
        });
        Self(marks.into())
    }

    /// `None` where the sign is no mark.
    pub(super) fn of(&self, sign: Sign) -> Option<Residue> {
        let Sign::Mark(number) = sign else { return None };
        self.0.get(number).copied()
    }
}

/// Any value that holds this.
fn holding(mark: &str) -> Option<Pattern> {
    let (source, expression) = (format!(".*{mark}.*"), format!("^.*{mark}.*$"));
    let syntax = syntax::Config::new().unicode(false).utf8(false).dot_matches_new_line(true);
    let regex = Regex::builder().syntax(syntax).configure(Config::new().utf8_empty(false)).build(&expression).ok()?;
    Some(Pattern::Regex { source: source.into(), expression: expression.into(), regex })
}

impl Reading {
    pub(super) fn of(old: Options, new: Options) -> Self {
        let mut reading = Self { both: old, alone: Vec::new(), in_two_ways: Vec::new() };
        let sides = [old, new];
        let Self { both, alone, in_two_ways } = &mut reading;
        let mut differs = |name: &str, of: fn(&mut Options) -> &mut HttpOption, sign: [Sign; 2], two_ways| {
            let values = sides.map(|mut options| *of(&mut options));
            let [first, second] = values;
            if first == second {
                return;
            }
            *of(both) = HttpOption::Reject;
            let opted_in = match (first == HttpOption::Reject, second == HttpOption::Reject) {
                (true, _) => 1,
                (_, true) => 0,
                _ => return in_two_ways.push(two_ways),
            };
            for (world, (value, options)) in values.into_iter().zip(sides).enumerate() {
                let [kept, decoded] = sign;
                let sign = if value == HttpOption::Decode { decoded } else { kept };
                if world == opted_in {
                    alone.push(Alone { world, options, written: format!("{name}: {value:?}"), sign });
                }
            }
        };
        let slash = [Sign::Mark(0), Sign::Prefix("/x%2F..")];
        differs(
            "escapedSlash",
            |o| &mut o.escaped_slash,
            slash,
            "paths with `%2F`, kept by one side and decoded by the other",
        );
        let backslash = [Sign::Mark(1), Sign::Prefix("/x\\..")];
        differs(
            "backslash",
            |o| &mut o.backslash,
            backslash,
            "paths with `\\`, kept by one side and decoded by the other",
        );
        differs("pathParameters", |o| &mut o.path_parameters, [Sign::Mark(2); 2], "");
        differs("methodOverride", |o| &mut o.method_override, [Sign::Override; 2], "");
        differs("underscoreHeaders", |o| &mut o.underscore_headers, [Sign::Spelling; 2], "");
        if old.merge_slashes != new.merge_slashes {
            both.merge_slashes = HttpOption::Reject;
            in_two_ways.push("paths with `//`, merged by one side and kept by the other");
        }
        for alone in alone.iter_mut().filter(|alone| matches!(alone.sign, Sign::Prefix(_))) {
            // `//` beside a dot segment is refused, so such a path cannot be shown with the prefix.
            if std::mem::take(&mut alone.options.merge_slashes) != HttpOption::Reject {
                in_two_ways.push("paths with `//` and a decoded slash");
            }
        }
        reading
    }
}

impl Alone {
    /// Makes a request that both sides read one that only this side reads; false where there is none. `other` is what
    /// the other side looks at, `own` what this one does.
    pub(super) fn mark(&self, request: &mut Json, own: &CanonicalScope, other: &CanonicalScope) -> bool {
        let is_watched = |name: &str| {
            own.watched_headers.iter().chain(&other.watched_headers).any(|watched| watched.eq_ignore_ascii_case(name))
        };
        match self.sign {
            Sign::Mark(_) => true,
            Sign::Prefix(prefix) => {
                let path = request.get("path").and_then(Json::as_str).map(|path| format!("{prefix}{path}"));
                let Some(path) = path else { return false };
                put(request, "path", json!(path));
                true
            }
            Sign::Override => {
                let names = ["x-http-method-override", "x-method-override", "x-http-method"];
                let free = names.into_iter().find(|name| canonical::is_override(name.as_bytes()) && !is_watched(name));
                free.is_some_and(|name| add_header(request, name))
            }
            Sign::Spelling => {
                let spellings = other.watched_headers.iter().flat_map(|watched| {
                    ['_', '.', '!', '~'].map(|other| {
                        let fold = |c: char| if c.is_ascii_alphanumeric() { c } else { other };
                        watched.chars().map(fold).collect::<String>()
                    })
                });
                let mut free = spellings.filter(|name| !is_watched(name) && !canonical::is_override(name.as_bytes()));
                free.next().is_some_and(|name| add_header(request, &name))
            }
        }
    }
}

fn add_header(request: &mut Json, name: &str) -> bool {
    let mut headers = request.get("headers").and_then(Json::as_array).cloned().unwrap_or_default();
    headers.push(json!([name, "GET"]));
    put(request, "headers", Json::Array(headers));
    true
}

fn put(request: &mut Json, member: &str, value: Json) {
    if let Some(members) = request.as_object_mut() {
        members.insert(member.to_owned(), value);
    }
}
