//! Rules and documents as they are written.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Map, Value, json};

use super::collect::{Asked, Group, Spoken};
use super::{Closed, Evidence, Part, Suggested, SuggestedRule, Suggestion, path};
use crate::facts::Direction;

/// The rule that stands for what was seen of a group; `None` where nothing was seen often enough.
pub(super) fn rule(
    group: &Group,
    seen: &BTreeMap<&Asked, Evidence>,
    refused: &BTreeSet<&Asked>,
    min_evidence: u64,
) -> Option<SuggestedRule> {
    let named = |named: BTreeMap<String, Evidence>| -> Vec<Part> {
        let parts = named.into_iter().map(|(what, evidence)| Part { what, evidence });
        parts.filter(|part| part.evidence.flows >= min_evidence).collect()
    };
    let mut evidence = Evidence::default();
    let (protocol, matches, parts) = match group.protocol {
        Spoken::Http => {
            let templates = templates(seen, refused).into_iter();
            let templates = templates.filter(|(_, evidence)| evidence.flows >= min_evidence).collect();
            ("http", http(&templates), named(in_words(&templates)))
        }
        Spoken::Grpc => {
            let calls =
                named(by(seen, |asked| path::call(&asked.path).map(|(service, method)| format!("{service}/{method}"))));
            ("grpc", grpc(&calls), calls)
        }
        // Without a name among them the connection itself is all that was seen.
        Spoken::Tls => {
            let names = named(by(seen, |asked| Some(asked.server_name.clone().unwrap_or_default())));
            let (unnamed, named): (Vec<Part>, Vec<Part>) = names.into_iter().partition(|part| part.what.is_empty());
            let names: Vec<&String> = named.iter().map(|part| &part.what).collect();
            let matches = if unnamed.is_empty() { json!([{"serverNames": names}]) } else { json!([{}]) };
            unnamed.iter().for_each(|part| evidence.join(part.evidence));
            ("tls", matches, named)
        }
        Spoken::Tcp | Spoken::Udp | Spoken::Dns => {
            seen.values().for_each(|each| evidence.join(*each));
            match group.protocol {
                Spoken::Dns => ("dns", json!([{}]), Vec::new()),
                Spoken::Udp => ("udp", json!({}), Vec::new()),
                _ => ("tcp", json!({}), Vec::new()),
            }
        }
    };
    parts.iter().for_each(|part| evidence.join(part.evidence));
    (evidence.flows > 0 && evidence.flows >= min_evidence).then(|| SuggestedRule {
        name: plain(&format!("{}-{}-{protocol}", group.peer.word(), group.port.word())),
        section: if group.direction == Direction::Inbound { "ingress" } else { "egress" },
        peer: group.peer.member(&group.subject.namespace),
        port: group.port.member(),
        protocol,
        matches,
        evidence,
        parts,
    })
}

/// Path template, upgrade and method.
type Templates<'s> = BTreeMap<(String, Option<&'s str>, &'s str), Evidence>;

/// Paths stay with their methods: each method and upgrade has its templates.
fn templates<'s>(seen: &BTreeMap<&'s Asked, Evidence>, refused: &BTreeSet<&Asked>) -> Templates<'s> {
    let mut by_method: BTreeMap<(&str, Option<&str>), BTreeMap<&str, Evidence>> = BTreeMap::new();
    for (asked, evidence) in seen {
        let key = (asked.method.as_str(), asked.upgrade.as_deref());
        by_method.entry(key).or_default().insert(&asked.path, *evidence);
    }
    let mut templates = Templates::new();
    for ((method, upgrade), paths) in by_method {
        // A rule that lets an upgrade pass lets the plain request pass too.
        let not =
            refused.iter().filter(|asked| asked.method == method && (upgrade.is_some() || asked.upgrade.is_none()));
        let not: BTreeSet<&str> = not.map(|asked| asked.path.as_str()).collect();
        for template in path::templates(&paths.keys().copied().collect(), &not) {
            let evidence = templates.entry((template.written(), upgrade, method)).or_default();
            template.paths.iter().filter_map(|path| paths.get(path)).for_each(|each| evidence.join(*each));
        }
    }
    templates
}

/// The templates of each set of methods and upgrade are one match.
fn http(templates: &Templates<'_>) -> Value {
    let mut methods_of: BTreeMap<(&str, Option<&str>), BTreeSet<&str>> = BTreeMap::new();
    for (path, upgrade, method) in templates.keys() {
        methods_of.entry((path, *upgrade)).or_default().insert(method);
    }
    let mut matches: BTreeMap<(Vec<&str>, Option<&str>), Vec<&str>> = BTreeMap::new();
    for ((path, upgrade), methods) in methods_of {
        matches.entry((methods.into_iter().collect(), upgrade)).or_default().push(path);
    }
    let matches = matches.into_iter().map(|((methods, upgrade), paths)| {
        let mut one = Map::new();
        // CONNECT is permitted by its upgrade, and has no path of its own.
        one.insert("methods".into(), json!(methods));
        one.insert("paths".into(), json!(paths));
        if let Some(upgrade) = upgrade {
            one.insert("upgrades".into(), json!([upgrade]));
        }
        Value::Object(one)
    });
    matches.collect()
}

fn in_words(templates: &Templates<'_>) -> BTreeMap<String, Evidence> {
    let words = templates.iter().map(|((path, upgrade, method), evidence)| {
        let upgrade = upgrade.map(|upgrade| format!(" ({upgrade})")).unwrap_or_default();
        (format!("{method} {path}{upgrade}"), *evidence)
    });
    words.collect()
}

/// Evidence by what is asked for, as far as it has a name.
fn by(seen: &BTreeMap<&Asked, Evidence>, name: impl Fn(&Asked) -> Option<String>) -> BTreeMap<String, Evidence> {
    let mut by: BTreeMap<String, Evidence> = BTreeMap::new();
    for (asked, evidence) in seen {
        if let Some(name) = name(asked) {
            by.entry(name).or_default().join(*evidence);
        }
    }
    by
}

fn grpc(calls: &[Part]) -> Value {
    let mut services: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (service, method) in calls.iter().filter_map(|call| call.what.split_once('/')) {
        services.entry(service).or_default().push(method);
    }
    let each = services.into_iter().map(|(service, methods)| json!({"service": service, "methods": methods}));
    each.collect()
}

/// Lower-case letters, digits and `-`.
fn plain(text: &str) -> String {
    let mapped: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    mapped.trim_matches('-').to_owned()
}

/// Gives rules of one name each its own.
pub(super) fn name_apart(rules: &mut [SuggestedRule]) {
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    for rule in rules {
        let count = taken.entry(rule.name.clone()).or_default();
        *count += 1;
        if *count > 1 {
            rule.name = format!("{}-{count}", rule.name);
        }
    }
}

impl Suggested {
    /// What must be written to close what the rules do not close.
    fn directions(&self) -> Option<Vec<&'static str>> {
        let has = |direction: &str| {
            let is_section = |rule: &SuggestedRule| rule.section.eq_ignore_ascii_case(direction);
            self.rules.iter().any(is_section) || self.closed.iter().any(|closed| closed.direction == direction)
        };
        (!self.closed.is_empty()).then(|| ["Ingress", "Egress"].into_iter().filter(|one| has(one)).collect())
    }

    /// The document, as JSON.
    #[must_use]
    pub fn document(&self) -> Value {
        let mut spec = Map::new();
        spec.insert("subject".into(), json!([{"serviceAccount": self.service_account}]));
        if let Some(directions) = self.directions() {
            spec.insert("directions".into(), json!(directions));
        }
        for (section, peers) in [("ingress", "from"), ("egress", "to")] {
            let rules: Vec<Value> = self
                .rules
                .iter()
                .filter(|rule| rule.section == section)
                .map(|rule| {
                    let mut written = Map::new();
                    written.insert("name".into(), json!(rule.name));
                    written.insert(peers.into(), json!([rule.peer]));
                    written.insert("ports".into(), json!([rule.port]));
                    written.insert(rule.protocol.into(), rule.matches.clone());
                    Value::Object(written)
                })
                .collect();
            if !rules.is_empty() {
                spec.insert(section.into(), rules.into());
            }
        }
        json!({
            "apiVersion": "eastwall.dev/v1alpha1",
            "kind": "FirewallPolicy",
            "metadata": {"name": plain(&self.service_account), "namespace": self.namespace},
            "spec": spec,
        })
    }
}

/// As YAML. Every value is written as JSON, which is YAML, so that no text can become anything but a text.
impl fmt::Display for Suggestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for policy in &self.policies {
            writeln!(f, "---")?;
            writeln!(f, "apiVersion: eastwall.dev/v1alpha1")?;
            writeln!(f, "kind: FirewallPolicy")?;
            let name = json!(plain(&policy.service_account));
            writeln!(f, "metadata: {{name: {name}, namespace: {}}}", json!(policy.namespace))?;
            writeln!(f, "spec:")?;
            writeln!(f, "  subject: [{{serviceAccount: {}}}]", json!(policy.service_account))?;
            for closed in &policy.closed {
                let Closed { direction, refused } = closed;
                writeln!(f, "  # {}: refused {}", direction.to_lowercase(), refused.in_words())?;
            }
            if let Some(directions) = policy.directions() {
                writeln!(f, "  directions: [{}]", directions.join(", "))?;
            }
            for (section, peers) in [("ingress", "from"), ("egress", "to")] {
                let mut rules = policy.rules.iter().filter(|rule| rule.section == section).peekable();
                if rules.peek().is_some() {
                    writeln!(f, "  {section}:")?;
                }
                for rule in rules {
                    writeln!(f, "  # seen {}", rule.evidence.in_words())?;
                    for part in &rule.parts {
                        writeln!(f, "  #   {}: {}", printable(&part.what), part.evidence.in_words())?;
                    }
                    writeln!(f, "  - name: {}", json!(rule.name))?;
                    writeln!(f, "    {peers}: [{}]", rule.peer)?;
                    writeln!(f, "    ports: [{}]", rule.port)?;
                    match rule.matches.as_array() {
                        Some(matches) => {
                            writeln!(f, "    {}:", rule.protocol)?;
                            matches.iter().try_for_each(|one| writeln!(f, "    - {one}"))?;
                        }
                        None => writeln!(f, "    {}: {}", rule.protocol, rule.matches)?,
                    }
                }
            }
        }
        Ok(())
    }
}

impl Evidence {
    fn in_words(&self) -> String {
        let mut words = format!("{} {}", self.flows, if self.flows == 1 { "time" } else { "times" });
        let shown = |time: i64| jiff::Timestamp::from_second(time).map(|time| time.to_string()).unwrap_or_default();
        if let (Some(first), Some(last)) = (self.first_seen, self.last_seen) {
            words.push_str(&format!(", first {}, last {}", shown(first), shown(last)));
        }
        words
    }
}

/// On one line: what flows asked for must not end a comment.
fn printable(text: &str) -> String {
    text.escape_debug().to_string()
}
