//! Rules and documents as they are written.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Map, Value, json};

use super::{Asked, Evidence, Group, Spoken, Suggested, SuggestedRule, Suggestion, path};
use crate::facts::Direction;

/// The rule that stands for what was seen of a group.
pub(super) fn rule(group: &Group, seen: &BTreeMap<Asked, Evidence>, refused: &BTreeSet<Asked>) -> SuggestedRule {
    let mut evidence = Evidence::default();
    seen.values().for_each(|each| evidence.join(*each));
    let (protocol, matches) = match group.protocol {
        Spoken::Http => ("http", http(seen, refused)),
        Spoken::Grpc => ("grpc", grpc(seen)),
        Spoken::Tls => ("tls", tls(seen)),
        Spoken::Tcp => ("tcp", json!({})),
        Spoken::Udp => ("udp", json!({})),
        Spoken::Dns => ("dns", json!([{}])),
    };
    SuggestedRule {
        name: plain(&format!("{}-{}-{protocol}", group.peer.word(), group.port.word())),
        section: if group.direction == Direction::Inbound { "ingress" } else { "egress" },
        peer: group.peer.member(&group.subject.namespace),
        port: group.port.member(),
        protocol,
        matches,
        evidence,
    }
}

/// Paths stay with their methods: the templates of each set of methods and upgrade are one match.
fn http(seen: &BTreeMap<Asked, Evidence>, refused: &BTreeSet<Asked>) -> Value {
    let mut by_method: BTreeMap<(&str, Option<&str>), BTreeSet<&str>> = BTreeMap::new();
    for asked in seen.keys() {
        let key = (asked.method.as_str(), asked.upgrade.as_deref());
        by_method.entry(key).or_default().insert(&asked.path);
    }
    let mut methods_of: BTreeMap<(String, Option<&str>), BTreeSet<&str>> = BTreeMap::new();
    for ((method, upgrade), paths) in by_method {
        // A rule that lets an upgrade pass lets the plain request pass too.
        let not =
            refused.iter().filter(|asked| asked.method == method && (upgrade.is_some() || asked.upgrade.is_none()));
        let not: BTreeSet<&str> = not.map(|asked| asked.path.as_str()).collect();
        for template in path::templates(&paths, &not) {
            methods_of.entry((template.written(), upgrade)).or_default().insert(method);
        }
    }
    let mut matches: BTreeMap<(Vec<&str>, Option<&str>), Vec<String>> = BTreeMap::new();
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

fn grpc(seen: &BTreeMap<Asked, Evidence>) -> Value {
    let mut services: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for asked in seen.keys() {
        if let Some((service, method)) = path::call(&asked.path) {
            services.entry(service).or_default().insert(method);
        }
    }
    let each = services.into_iter().map(|(service, methods)| json!({"service": service, "methods": methods}));
    each.collect()
}

fn tls(seen: &BTreeMap<Asked, Evidence>) -> Value {
    let names: BTreeSet<&String> = seen.keys().filter_map(|asked| asked.server_name.as_ref()).collect();
    // Without a name among them the connection itself is all that was seen.
    if seen.keys().any(|asked| asked.server_name.is_none()) { json!([{}]) } else { json!([{"serverNames": names}]) }
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
    /// The document, as JSON.
    #[must_use]
    pub fn document(&self) -> Value {
        let mut spec = Map::new();
        spec.insert("subject".into(), json!([{"serviceAccount": self.service_account}]));
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
            for (section, peers) in [("ingress", "from"), ("egress", "to")] {
                let mut rules = policy.rules.iter().filter(|rule| rule.section == section).peekable();
                if rules.peek().is_some() {
                    writeln!(f, "  {section}:")?;
                }
                for rule in rules {
                    writeln!(f, "  # {}", rule.evidence)?;
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

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seen {}", self.flows)?;
        write!(f, " {}", if self.flows == 1 { "time" } else { "times" })?;
        let shown = |time: i64| jiff::Timestamp::from_second(time).map(|time| time.to_string()).unwrap_or_default();
        if let (Some(first), Some(last)) = (self.first_seen, self.last_seen) {
            write!(f, ", first {}, last {}", shown(first), shown(last))?;
        }
        Ok(())
    }
}
