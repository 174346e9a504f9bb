//! Who can reach whom, with what.
//!
//! It is the difference to a world in which nothing may pass: everything that is newly allowed can be reached.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::sync::Arc;

use serde::Serialize;

use crate::analysis::accepted::{self, Tokens};
use crate::analysis::emergency::{self, Emergency};
use crate::analysis::space::{Budget, Change, Comparison, Kind, Open, Options, compare_within};
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
    /// Emergencies that act, or will: what they alone let pass is a way that says until when.
    pub emergencies: Vec<Emergency>,
    /// The tokens that a way may speak of: where none is accepted, nobody has a principal.
    pub tokens: Vec<Tokens>,
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
    /// It passes by an emergency alone, which ends then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
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
    let mut budget = Budget::new(options.budget);
    let policies = emergency::without(world);
    let Comparison { mut changes, mut undecided } = compare_within(&closed, &policies, options, &mut budget);
    let opened = emergency::opened(&closed, world, options, &mut budget);
    changes.extend(opened.changes);
    undecided.extend(opened.undecided);
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
    Reach {
        ways,
        emergencies: opening(emergency::differences(&closed, world, options.now), which),
        tokens: asked_for(accepted::differences(&closed, world), which),
        undecided: undecided.into_iter().filter(concerns).collect(),
    }
}

/// The emergencies of an end that is asked for.
fn opening(mut emergencies: Vec<Emergency>, which: &Which) -> Vec<Emergency> {
    let is_asked_for = |end: &Option<String>, whose: &[String]| end.as_ref().is_some_and(|end| whose.contains(end));
    emergencies.retain(|Emergency { workloads, .. }| match which {
        Which { from: None, to: None, .. } => true,
        Which { from, to, .. } => is_asked_for(from, workloads) || is_asked_for(to, workloads),
    });
    emergencies
}

/// The tokens that the destination accepts, where one is asked for.
fn asked_for(mut tokens: Vec<Tokens>, which: &Which) -> Vec<Tokens> {
    tokens.retain(|tokens| which.to.as_ref().is_none_or(|to| tokens.workloads.contains(to)));
    tokens
}

fn way(change: Change, which: &Which) -> Option<Way> {
    let sources = chosen(&change.sources, which.from.as_deref())?;
    let destinations = chosen(&change.destinations, which.to.as_deref())?;
    let unprotected = change.new.reason == Reason::Unprotected;
    let by = (!unprotected).then(|| change.new.because());
    let Change { ports, transports, requests, witness, new, .. } = change;
    Some(Way { sources, destinations, ports, transports, requests, unprotected, by, until: new.until, witness })
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
        if let Some(until) = &self.until {
            what.push_str(&format!(" (emergency until {until})"));
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
        self.emergencies.iter().try_for_each(|emergency| emergency.fmt(f))?;
        self.tokens.iter().try_for_each(|tokens| tokens.fmt(f))?;
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

    #[test]
    fn an_emergency_a_proof_and_tokens_are_told() {
        let policies = format!(
            "{POLICY}---\napiVersion: eastwall.dev/v1alpha1\nkind: BreakGlass\nmetadata: {{name: fire}}\n\
             spec: {{subject: [{{serviceAccount: orders, namespace: shop}}], reason: INC-7, begins: \"1970-01-01T00:00:00Z\", \
             expires: \"1970-01-01T01:00:00Z\"}}\n---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\n\
             metadata: {{name: r, namespace: shop}}\nspec: {{jwtRules: [{{issuer: \"https://sso\"}}]}}\n"
        );
        let reached = |workloads: &str, which: &Which| {
            let compiled = dialect::compile(&source::parse("p.yaml", &policies.as_str().into()));
            assert!(!compiled.has_errors(), "{:?}", compiled.diagnostics);
            let (registry, _) = Registry::parse("w.yaml", &workloads.into());
            let world = World::new(compiled.model, Arc::new(registry), 1);
            reach(&world, Options { now: 0, budget: BUDGET, direction: None }, which)
        };
        let to = Which { to: Some("shop/orders".into()), ..Which::default() };
        let open = reached(WORKLOADS, &to);
        let until: Vec<_> = open.ways.iter().filter_map(|way| way.until.as_deref()).collect();
        assert!(!until.is_empty() && until.iter().all(|until| *until == "1970-01-01T01:00:00Z"), "{open}");
        let text = open.to_string();
        for told in [
            "BreakGlass fire at p.yaml:",
            "INC-7",
            "tokens of `https://sso`",
            "RequestAuthentication shop/r at p.yaml:",
        ] {
            assert!(text.contains(told), "{told}: {text}");
        }
        let from = Which { from: Some("shop/web".into()), to: Some("shop/web".into()), ports_alone: false };
        assert!(reached(WORKLOADS, &from).emergencies.is_empty());
        let strict = WORKLOADS.replace(
            "serviceAccount: orders,",
            "serviceAccount: orders, annotations: {eastwall.dev/inbound-mtls: strict},",
        );
        let proven = |way: &&Way| way.until.is_none() && way.sources.iter().any(|source| source.contains("proven as"));
        let closed = reached(&strict, &to);
        assert!(closed.ways.iter().any(|way| proven(&way)), "{closed}");
        let plain = |way: &&Way| way.until.is_none() && !way.sources.iter().all(|source| source.contains("proven"));
        assert!(open.ways.iter().any(|way| plain(&way)) && !closed.ways.iter().any(|way| plain(&way)), "{closed}");
    }
}
