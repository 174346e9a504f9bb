//! Who can reach whom, with what.
//!
//! It is the difference to a world in which nothing may pass: everything that is newly allowed can be reached.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::sync::Arc;

use serde::Serialize;

use crate::analysis::space::{Change, Comparison, Kind, Open, Options, compare};
use crate::diagnostic::Location;
use crate::facts::{Direction, Transport};
use crate::model::{Directions, Effect, Expr, Mode, Model, Policy, PolicyName, Rule, Stack, Tier};
use crate::verdict::Reason;
use crate::world::World;

/// What can be reached.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Reach {
    /// In the order of destinations.
    pub ways: Vec<Way>,
    /// What could not be worked out.
    pub undecided: Vec<Open>,
}

/// Flows that pass, all for the same reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Way {
    /// Each of these …
    pub sources: Vec<String>,
    /// … can reach each of these,
    pub destinations: Vec<String>,
    /// on these ports,
    pub ports: Vec<String>,
    /// over these transports,
    pub transports: Vec<Transport>,
    /// with these requests.
    pub requests: String,
    /// No rule says so: nobody closes the direction.
    pub unprotected: bool,
    /// The rule that says so, with its place.
    pub by: Option<String>,
    /// One request, as `decide` reads it.
    pub witness: serde_json::Value,
}

/// Which ways are asked for.
#[derive(Clone, Debug, Default)]
pub struct Which {
    /// From this workload alone, `namespace/name`.
    pub from: Option<String>,
    /// To this one alone.
    pub to: Option<String>,
    /// Without what is asked of requests.
    pub ports_alone: bool,
}

/// Works out who can reach whom.
#[must_use]
pub fn reach(world: &World, options: Options, which: &Which) -> Reach {
    let closed = World::new(Arc::new(closed(world.model())), Arc::clone(world.registry()), 1);
    let Comparison { changes, undecided } = compare(&closed, world, options);
    let mut ways: Vec<Way> = changes
        .into_iter()
        .filter(|change| change.kind == Kind::Allowed)
        .filter_map(|change| way(change, which))
        .collect();
    if which.ports_alone {
        ways.iter_mut().for_each(|way| way.requests = String::new());
    }
    ways.sort_by(|a, b| {
        (&a.destinations, &a.sources, &a.ports, &a.requests).cmp(&(&b.destinations, &b.sources, &b.ports, &b.requests))
    });
    ways.dedup_by(|a, b| {
        (&a.destinations, &a.sources, &a.ports, &a.transports, &a.requests)
            == (&b.destinations, &b.sources, &b.ports, &b.transports, &b.requests)
    });
    let concerns = |open: &Open| {
        chosen(&open.sources, which.from.as_deref()).is_some()
            && chosen(&open.destinations, which.to.as_deref()).is_some()
    };
    Reach { ways, undecided: undecided.into_iter().filter(concerns).collect() }
}

fn way(change: Change, which: &Which) -> Option<Way> {
    let sources = chosen(&change.sources, which.from.as_deref())?;
    let destinations = chosen(&change.destinations, which.to.as_deref())?;
    let unprotected = change.new.reason == Reason::Unprotected;
    let by = (!unprotected).then(|| change.new.because());
    let Change { ports, transports, requests, witness, .. } = change;
    Some(Way { sources, destinations, ports, transports, requests, unprotected, by, witness })
}

/// The ends that are this workload, however it is proven; all where none is asked for.
fn chosen(names: &[String], only: Option<&str>) -> Option<Vec<String>> {
    let Some(only) = only else { return Some(names.to_vec()) };
    let is_it = |name: &&String| **name == *only || name.strip_prefix(only).is_some_and(|rest| rest.starts_with(' '));
    let kept: Vec<String> = names.iter().filter(is_it).cloned().collect();
    (!kept.is_empty()).then_some(kept)
}

/// The same settings, and nothing that may pass.
fn closed(model: &Model) -> Model {
    let location = Location { file: "nothing".into(), line: 1, column: 1 };
    let rule = |direction| Rule {
        name: "nothing".into(),
        location: location.clone(),
        direction,
        effect: Effect::Deny,
        condition: Expr::True,
        expires: None,
    };
    let policy = Policy {
        name: PolicyName { kind: "Nothing".into(), namespace: "".into(), name: "nothing".into() },
        location: location.clone(),
        stack: Stack::Native,
        tier: Tier::Admin,
        priority: 0,
        mode: Mode::Enforce,
        replaces: Vec::new(),
        subject: Expr::True,
        closes: Directions::default(),
        rules: vec![rule(Direction::Inbound), rule(Direction::Outbound)],
        http_options: model.policies.iter().flat_map(|policy| policy.http_options.iter().cloned()).collect(),
        jwt_rules: Vec::new(),
        broken: false,
    };
    Model { settings: model.settings.clone(), policies: vec![Arc::new(policy)], ..Model::default() }
}

impl Way {
    fn what(&self) -> String {
        let transports: Vec<String> =
            self.transports.iter().map(|transport| format!("{transport:?}").to_lowercase()).collect();
        let mut what = format!("{} {}", transports.join(", "), self.ports.join(", "));
        if !self.requests.is_empty() {
            what.push_str(&format!(": {}", self.requests));
        }
        if self.unprotected {
            what.push_str(" (unprotected)");
        }
        what
    }
}

/// A table: a paragraph a destination.
impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before: Option<&[String]> = None;
        for way in &self.ways {
            if before != Some(&way.destinations) {
                writeln!(f, "{}", way.destinations.join("; "))?;
                before = Some(&way.destinations);
            }
            writeln!(f, "  from {}", way.sources.join("; "))?;
            writeln!(f, "    {}", way.what())?;
            if let Some(by) = &way.by {
                writeln!(f, "    {by}")?;
            }
        }
        for open in &self.undecided {
            writeln!(f, "undecided: {}", open.why)?;
            writeln!(f, "  from {} to {}", open.sources.join("; "), open.destinations.join("; "))?;
            open.rules.iter().try_for_each(|rule| writeln!(f, "    {rule}"))?;
        }
        if self.ways.is_empty() && self.undecided.is_empty() {
            writeln!(f, "nobody can reach anything")?;
        }
        Ok(())
    }
}

impl Reach {
    /// As a graph for Graphviz.
    #[must_use]
    pub fn to_dot(&self) -> String {
        let (names, edges) = self.graph();
        let mut text = String::from("digraph reach {\n  rankdir=LR;\n  node [shape=box];\n");
        for (number, name) in names.iter().enumerate() {
            let _ = writeln!(text, "  n{number} [label={}];", quoted(name));
        }
        for ((from, to), labels) in edges {
            let dashed = if labels.iter().all(|(_, unprotected)| *unprotected) { ", style=dashed" } else { "" };
            let label: Vec<&str> = labels.iter().map(|(label, _)| label.as_str()).collect();
            let _ = writeln!(text, "  n{from} -> n{to} [label={}{dashed}];", quoted(&label.join("\n")));
        }
        text.push_str("}\n");
        text
    }

    /// As a Mermaid flow chart.
    #[must_use]
    pub fn to_mermaid(&self) -> String {
        let (names, edges) = self.graph();
        let entity = |text: &str| {
            text.replace('&', "#amp;")
                .replace('"', "#quot;")
                .replace('<', "#lt;")
                .replace('>', "#gt;")
                .replace('`', "#96;")
        };
        let mut text = String::from("flowchart LR\n");
        for (number, name) in names.iter().enumerate() {
            let _ = writeln!(text, "  n{number}[\"{}\"]", entity(name));
        }
        for ((from, to), labels) in edges {
            let arrow = if labels.iter().all(|(_, unprotected)| *unprotected) { "-.->" } else { "-->" };
            let label: Vec<String> = labels.iter().map(|(label, _)| entity(label)).collect();
            let _ = writeln!(text, "  n{from} {arrow}|\"{}\"| n{to}", label.join("<br/>"));
        }
        text
    }

    /// Names, and between which of them something passes.
    fn graph(&self) -> (Vec<&str>, Edges) {
        let ends = self.ways.iter().flat_map(|way| way.sources.iter().chain(&way.destinations));
        let names: Vec<&str> = ends.map(String::as_str).collect::<BTreeSet<_>>().into_iter().collect();
        let number = |name: &str| names.binary_search(&name).unwrap_or_default();
        let mut edges = Edges::new();
        for way in &self.ways {
            for (from, to) in way.sources.iter().flat_map(|from| way.destinations.iter().map(move |to| (from, to))) {
                edges.entry((number(from), number(to))).or_default().insert((way.what(), way.unprotected));
            }
        }
        (names, edges)
    }
}

/// What passes between two ends, by their numbers: in words, and whether nobody protects it.
type Edges = BTreeMap<(usize, usize), BTreeSet<(String, bool)>>;

fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::space::BUDGET;
    use crate::registry::Registry;
    use crate::{dialect, source};

    const POLICY: &str = r#"
apiVersion: eastwall.dev/v1alpha1
kind: FirewallPolicy
metadata: {name: orders, namespace: shop}
spec:
  subject: [{serviceAccount: orders}]
  ingress:
  - {name: reads, from: [{serviceAccount: web}], http: [{methods: [GET], paths: ["/orders/{id}"]}]}
"#;
    const WORKLOADS: &str = "
- {name: orders, namespace: shop, serviceAccount: orders, ips: [10.0.0.2], ports: [{name: http, port: 8080}]}
- {name: web, namespace: shop, serviceAccount: web, ips: [10.0.0.3], ports: [{name: http, port: 8080}]}
";

    fn reached(which: &Which) -> Reach {
        let compiled = dialect::compile(&source::parse("p.yaml", &POLICY.into()));
        let (registry, _) = Registry::parse("w.yaml", &WORKLOADS.into());
        let world = World::new(compiled.model, Arc::new(registry), 1);
        reach(&world, Options { now: 0, budget: BUDGET, direction: None }, which)
    }

    #[test]
    fn one_pair_is_the_rule_that_is_written_for_it() {
        let which = Which { from: Some("shop/web".into()), to: Some("shop/orders".into()), ports_alone: false };
        let reach = reached(&which);
        assert!(reach.undecided.is_empty());
        assert_eq!(reach.ways.len(), 1, "{reach}");
        let way = &reach.ways[0];
        assert!(way.requests.contains("`GET` `/orders/{}`"), "{reach}");
        assert_eq!(way.ports, ["8080"]);
        assert!(!way.unprotected && way.by.as_ref().unwrap().contains("rule `reads` at p.yaml:8"), "{reach}");
        assert!(reach.to_dot().contains("->") && reach.to_mermaid().contains("-->"));
    }

    #[test]
    fn who_nobody_protects_is_marked() {
        let reach = reached(&Which { to: Some("shop/web".into()), ..Which::default() });
        assert!(!reach.ways.is_empty() && reach.ways.iter().all(|way| way.unprotected), "{reach}");
        assert!(reached(&Which { to: Some("shop/nobody".into()), ..Which::default() }).ways.is_empty());
    }
}
