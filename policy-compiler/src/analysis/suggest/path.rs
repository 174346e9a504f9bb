//! Path templates: which segments of recorded paths are identifiers.

use std::collections::{BTreeMap, BTreeSet};

/// One segment of a template.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part<'p> {
    Literal(&'p str),
    Variable,
}

/// A template, and the paths that it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template<'p> {
    parts: Vec<Part<'p>>,
    /// The recorded paths.
    pub(super) paths: Vec<&'p str>,
}

/// Generalises paths. No template matches one of `refused`; what would is left as it was recorded.
pub(super) fn templates<'p>(paths: &BTreeSet<&'p str>, refused: &BTreeSet<&str>) -> Vec<Template<'p>> {
    let mut by_shape: BTreeMap<Vec<Part<'p>>, Vec<&'p str>> = BTreeMap::new();
    for path in paths {
        let parts =
            segments(path).map(|segment| if is_identifier(segment) { Part::Variable } else { Part::Literal(segment) });
        by_shape.entry(parts.collect()).or_default().push(path);
    }
    let mut found = Vec::new();
    for (parts, paths) in widen(by_shape) {
        let template = Template { parts, paths };
        if template.is_plain() || !refused.iter().any(|path| template.matches(path)) {
            found.push(template);
        } else {
            found.extend(template.paths.iter().map(|path| literal(path)));
        }
    }
    found.sort_by(|a, b| a.parts.cmp(&b.parts));
    found
}

/// Siblings that differ in one literal and are many are identifiers as well.
fn widen<'p>(shapes: BTreeMap<Vec<Part<'p>>, Vec<&'p str>>) -> BTreeMap<Vec<Part<'p>>, Vec<&'p str>> {
    let mut shapes = shapes;
    let longest = shapes.keys().map(Vec::len).max().unwrap_or_default();
    for at in 1..longest {
        let mut families: BTreeMap<Vec<Part<'p>>, Vec<Vec<Part<'p>>>> = BTreeMap::new();
        for parts in
            shapes.keys().filter(|parts| matches!(parts.get(at), Some(Part::Literal(text)) if !text.is_empty()))
        {
            let mut family = parts.clone();
            if let Some(part) = family.get_mut(at) {
                *part = Part::Variable;
            }
            families.entry(family).or_default().push(parts.clone());
        }
        for (family, members) in families.into_iter().filter(|(_, members)| members.len() >= MANY) {
            let paths: Vec<&str> = members.iter().filter_map(|member| shapes.remove(member)).flatten().collect();
            shapes.entry(family).or_default().extend(paths);
        }
    }
    shapes
}

fn literal(path: &str) -> Template<'_> {
    Template { parts: segments(path).map(Part::Literal).collect(), paths: vec![path] }
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix('/').unwrap_or(path).split('/')
}

/// Service and method of a gRPC call: `/shop.v1.Orders/Get`.
pub(super) fn call(path: &str) -> Option<(&str, &str)> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let is_identifier = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    (service.split('.').all(is_identifier) && is_identifier(method)).then_some((service, method))
}

/// Digits, a UUID, or a long token of letters and digits: what programs make up, and people do not.
fn is_identifier(segment: &str) -> bool {
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    let is_number = !segment.is_empty() && digits == segment.len();
    let is_uuid = {
        let lengths: Vec<usize> = segment.split('-').map(str::len).collect();
        lengths == [8, 4, 4, 4, 12] && segment.split('-').all(is_hex)
    };
    let is_hash = segment.len() >= 8 && is_hex(segment) && digits >= 2;
    let is_token = segment.len() >= 16
        && digits >= 3
        && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    is_number || is_uuid || is_hash || is_token
}

impl Template<'_> {
    fn is_plain(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Literal(_)))
    }

    fn matches(&self, path: &str) -> bool {
        let given: Vec<&str> = segments(path).collect();
        given.len() == self.parts.len()
            && self.parts.iter().zip(given).all(|(part, given)| match part {
                Part::Literal(text) => *text == given,
                Part::Variable => !given.is_empty(),
            })
    }

    /// As a native policy writes it. A path that looks like a pattern itself is written as an expression.
    pub(super) fn written(&self) -> String {
        let is_special = |text: &str| text.contains(['{', '}', '*']);
        let special = self.parts.iter().any(|part| matches!(part, Part::Literal(text) if is_special(text)));
        let mut written = String::new();
        let mut before = "";
        let mut names: Vec<String> = Vec::new();
        for part in &self.parts {
            written.push('/');
            match (part, special) {
                (Part::Literal(text), false) => written.push_str(text),
                (Part::Literal(text), true) => written.push_str(&regex_syntax::escape(text)),
                (Part::Variable, true) => written.push_str("[^/]+"),
                (Part::Variable, false) => {
                    let name = name_of(before, &names);
                    written.push_str(&format!("{{{name}}}"));
                    names.push(name);
                }
            }
            before = match part {
                Part::Literal(text) => text,
                Part::Variable => "",
            };
        }
        if special { format!("regex:{written}") } else { written }
    }
}

/// `/orders/{order}`: by the segment before, or `id`.
fn name_of(before: &str, taken: &[String]) -> String {
    let plain = !before.is_empty() && before.bytes().all(|byte| byte.is_ascii_lowercase());
    let base = if plain { singular(before) } else { "id".to_owned() };
    let mut name = base.clone();
    let mut number = 2;
    while taken.contains(&name) {
        name = format!("{base}{number}");
        number += 1;
    }
    name
}

/// The singular of an English plural where the ending leaves no doubt, else the word itself: better `{news}` than `{new}`.
fn singular(word: &str) -> String {
    const ALONE: &[&str] = &["cookies", "https", "lens", "means", "movies", "news", "series", "species"];
    const NO_PLURAL: &[&str] = &["ss", "us", "is", "as", "ches", "oes"];
    if word.len() <= 3 && word != "ids" || ALONE.contains(&word) || NO_PLURAL.iter().any(|end| word.ends_with(end)) {
        return word.to_owned();
    }
    match (word.strip_suffix("ies"), word.strip_suffix("es"), word.strip_suffix('s')) {
        (Some(stem), ..) if stem.len() > 1 => format!("{stem}y"),
        (_, Some(stem), _) if ["ss", "sh", "x", "zz"].iter().any(|end| stem.ends_with(end)) => stem.to_owned(),
        (_, _, Some(stem)) => stem.to_owned(),
        _ => word.to_owned(),
    }
}

/// As many siblings are no coincidence.
const MANY: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    fn written(paths: &[&str], refused: &[&str]) -> Vec<String> {
        let paths: BTreeSet<&str> = paths.iter().copied().collect();
        let refused: BTreeSet<&str> = refused.iter().copied().collect();
        templates(&paths, &refused).iter().map(Template::written).collect()
    }

    #[test]
    fn identifiers_become_variables() {
        for (paths, expected) in [
            (&["/orders/7", "/orders/8"][..], &["/orders/{order}"][..]),
            (&["/users/1/orders/2"], &["/users/{user}/orders/{order}"]),
            (&["/a/123e4567-e89b-12d3-a456-426614174000"], &["/a/{a}"]),
            (&["/7/8"], &["/{id}/{id2}"]),
            (&["/static/app.js", "/healthz"], &["/healthz", "/static/app.js"]),
            (&["/v1/items"], &["/v1/items"]),
            (&["/orders/7/"], &["/orders/{order}/"]),
            (&["/a/{x}/7"], &[r"regex:/a/\{x\}/[^/]+"]),
        ] {
            assert_eq!(written(paths, &[]), expected, "{paths:?}");
        }
        let many: Vec<String> = (0..20).map(|number| format!("/city/{}", char::from(b'a' + number))).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(written(&many, &[]), ["/city/{city}"]);
    }

    #[test]
    fn names_are_words() {
        for (before, expected) in [
            ("orders", "order"),
            ("status", "status"),
            ("analysis", "analysis"),
            ("address", "address"),
            ("addresses", "address"),
            ("boxes", "box"),
            ("categories", "category"),
            ("cases", "case"),
            ("caches", "caches"),
            ("alias", "alias"),
            ("news", "news"),
            ("dns", "dns"),
            ("ids", "id"),
            ("s", "s"),
            ("city", "city"),
            ("Orders", "id"),
            ("", "id"),
        ] {
            assert_eq!(name_of(before, &[]), expected, "{before}");
        }
    }

    #[test]
    fn what_was_refused_is_never_generalised_over() {
        assert_eq!(written(&["/orders/7", "/orders/8"], &["/orders/9"]), ["/orders/7", "/orders/8"]);
        assert_eq!(written(&["/orders/7", "/orders/8"], &["/orders/9/x"]), ["/orders/{order}"]);
    }
}
