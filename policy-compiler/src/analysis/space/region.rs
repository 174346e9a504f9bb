//! Sets of values in words, in the terms of the rules that tell them apart.

use super::diagram::Set;
use super::element::Lift;
use super::function::Requests;
use super::variable::{Name, Question, Value, Variable, values};
use crate::analysis::explain::pattern_words;
use crate::facts::Protocol;
use crate::model::Text;

/// A box of classes in words: method and path first, then what else must hold.
pub(super) fn words(requests: &Requests, of: &[(usize, Set)]) -> String {
    let (mut method, mut target, mut protocol) = (None, None, None);
    let mut others = Vec::new();
    for (level, set) in of {
        let Some(variable) = requests.variables.get(*level) else { continue };
        let Some(words) = of_variable(variable, set, &requests.everything(*level)) else { continue };
        match &variable.name {
            Name::Method => method = Some(words),
            Name::Target => target = Some(words),
            Name::Protocol => protocol = Some(words),
            Name::Upgrade if words == "absent" => others.push("no upgrade is asked for".into()),
            name => others.push(format!("{} {words}", what(name))),
        }
    }
    let http = requests.variables.last().and_then(|variable| {
        let is_http = |value: &Value| matches!(value, Value::Protocol(protocol) if protocol.is_http());
        let https = variable.select(|_, value| is_http(value));
        let (_, set) = of.iter().find(|(level, _)| level + 1 == requests.variables.len())?;
        Some(*set == https)
    });
    let mut line = match (&method, &target) {
        (None, None) if others.is_empty() => match &protocol {
            None => return "everything".into(),
            Some(protocol) => return format!("every {protocol} flow"),
        },
        (None, None) => "any request".to_owned(),
        (Some(method), None) => format!("{method} on any path"),
        (None, Some(target)) => format!("any method on {target}"),
        (Some(method), Some(target)) => format!("{method} {target}"),
    };
    if !others.is_empty() {
        line.push_str(&format!(" where {}", others.join(" and ")));
    }
    // That it is HTTP goes without saying where a method or a path is named.
    if let Some(protocol) = protocol
        && http != Some(true)
    {
        line.push_str(&format!(" ({protocol})"));
    }
    line
}

fn what(name: &Name) -> String {
    match name {
        Name::Target => "path".into(),
        Name::Method => "method".into(),
        Name::Authority => "host".into(),
        Name::Header(name) => format!("header `{name}`"),
        Name::Query(name) => format!("parameter `{name}`"),
        Name::Claim(path) => format!("claim `{}`", path.join(".")),
        Name::Subject => "token of".into(),
        Name::Upgrade => "upgrade".into(),
        Name::Sni => "server name".into(),
        Name::Alpn => "ALPN".into(),
        Name::Qname => "DNS name".into(),
        Name::RemoteIp => "client".into(),
        Name::Protocol => "protocol".into(),
    }
}

/// `None` where it does not matter.
fn of_variable(variable: &Variable, set: &Set, all: &Set) -> Option<String> {
    if set == all {
        return None;
    }
    if variable.name == Name::Protocol {
        let names = set.members().filter_map(|member| match variable.classes.get(member) {
            Some((_, Value::Protocol(protocol))) => Some(protocol_name(*protocol)),
            _ => None,
        });
        return Some(names.collect::<Vec<_>>().join(", "));
    }
    let absent = variable.select(|_, value| *value == Value::Absent);
    let there = all.minus(&absent);
    let with_absent = !absent.is_empty() && !set.and(&absent).is_empty();
    let inside = set.minus(&absent);
    let words = if inside == there {
        "present".to_owned()
    } else if inside.is_empty() {
        return Some("absent".into());
    } else {
        let outside = there.minus(&inside);
        let nothing_holds = variable.select(|holds, value| {
            *value != Value::Absent && !holds.iter().any(|number| is_by_rule(variable, *number))
        });
        let others = !inside.and(&nothing_holds).is_empty();
        match (others, cover(variable, &inside, 2), cover(variable, &outside, 2)) {
            (false, Some(terms), _) => terms.join(", "),
            (true, _, Some(terms)) => {
                let but = if with_absent { "absent or anything but" } else { "anything but" };
                return Some(format!("{but} {}", terms.join(", ")));
            }
            _ => examples(variable, &inside),
        }
    };
    Some(if with_absent { format!("absent or {words}") } else { words })
}

fn is_by_rule(variable: &Variable, number: u32) -> bool {
    variable.name == Name::Method || variable.questions.get(number as usize).is_some_and(|question| question.by_rule)
}

/// The fewest patterns, some with exceptions, that together are exactly the set.
fn cover(variable: &Variable, set: &Set, depth: usize) -> Option<Vec<String>> {
    let sets: Vec<(Set, &Question)> = (0u32..)
        .zip(&variable.questions)
        .filter(|(number, _)| is_by_rule(variable, *number))
        .map(|(number, question)| (variable.select(|holds, _| holds.binary_search(&number).is_ok()), question))
        .filter(|(held, _)| !held.is_empty())
        .collect();
    let mut left = set.clone();
    let mut terms = Vec::new();
    while !left.is_empty() {
        let within = sets.iter().filter(|(held, _)| held.minus(set).is_empty());
        let best =
            within.max_by_key(|(held, question)| (held.and(&left).len(), std::cmp::Reverse(question.patterns.len())));
        if let Some((held, question)) = best.filter(|(held, _)| !held.and(&left).is_empty()) {
            terms.push(question_words(question));
            left = left.minus(held);
            continue;
        }
        if depth == 0 {
            return None;
        }
        let partly = sets.iter().filter(|(held, _)| !held.and(&left).is_empty());
        let (held, question) = partly.min_by_key(|(held, _)| held.minus(set).len())?;
        let but = cover(variable, &held.minus(set), depth - 1)?;
        terms.push(format!("{} but not {}", question_words(question), but.join(", ")));
        left = left.minus(held);
    }
    (terms.len() <= MOST_TERMS || depth < 2).then_some(terms)
}

fn question_words(question: &Question) -> String {
    let patterns: Vec<String> = question.patterns.iter().map(pattern_words).collect();
    let patterns = patterns.join(" or ");
    match (question.lift, &question.of) {
        (Lift::EveryPart | Lift::EveryValue | Lift::EveryWord, _) => format!("all {patterns}"),
        (Lift::AnyPart | Lift::AnyValue | Lift::AnyWord, Text::Header(_) | Text::Query(_)) => format!("any {patterns}"),
        (Lift::EitherSlash, _) => format!("{patterns} (with or without `/`)"),
        (Lift::BothSlashes, _) => format!("{patterns} (with and without `/`)"),
        _ => patterns,
    }
}

fn examples(variable: &Variable, set: &Set) -> String {
    let members: Vec<usize> = set.members().collect();
    let mut shown: Vec<String> = members
        .iter()
        .take(SHOWN)
        .filter_map(|member| match variable.classes.get(*member)? {
            (_, Value::Written(written)) => {
                let lines: Vec<String> = values(written).iter().map(|value| value.escape_ascii().to_string()).collect();
                Some(format!("`{}`", lines.join("` and `")))
            }
            (_, Value::Address(address)) => Some(address.to_string()),
            _ => Some("nothing".into()),
        })
        .collect();
    if members.len() > SHOWN {
        shown.push(format!("{} kinds more", members.len() - SHOWN));
    }
    format!("such as {}", shown.join(", "))
}

fn protocol_name(protocol: Protocol) -> String {
    format!("{protocol:?}").to_lowercase()
}

/// More alternatives than this are shown by examples.
const MOST_TERMS: usize = 40;
/// Examples of a set that has no short name.
const SHOWN: usize = 3;
