//! `diff` of policies whose `httpOptions` differ: what one side reads and the other refuses is told with a witness.

#![allow(clippy::unwrap_used, reason = "a test that cannot make its own input fails")]

use std::sync::Arc;

use eastwall_policy::analysis::diff::{Difference, diff};
use eastwall_policy::analysis::space::{BUDGET, Kind, Options};
use eastwall_policy::dialect::compile;
use eastwall_policy::flow::Question;
use eastwall_policy::registry::Registry;
use eastwall_policy::source::parse;
use eastwall_policy::verdict::Action;
use eastwall_policy::world::World;

const WORKLOADS: &str = "
- {name: orders, namespace: shop, serviceAccount: orders, ips: [10.0.0.2], ports: [{name: http, port: 8080}]}
- {name: web, namespace: shop, serviceAccount: web, ips: [10.0.0.3]}
";

const HTTP: &str = "http: [{methods: [GET], paths: [\"/orders/**\"]}]";

fn world(rule: &str, options: &str) -> World {
    let options =
        if options.is_empty() { String::new() } else { format!("httpOptions: [{{ports: [8080], {options}}}]") };
    let text = format!(
        "apiVersion: eastwall.dev/v1alpha1\nkind: FirewallPolicy\nmetadata: {{name: orders, namespace: shop}}\nspec:\n  subject: [{{serviceAccount: orders}}]\n  ingress: [{{name: reads, from: [{{serviceAccount: web}}], {rule}}}]\n  {options}\n"
    );
    let compiled = compile(&parse("p.yaml", &text.into()));
    assert!(!compiled.has_errors(), "{:?}", compiled.diagnostics);
    let (registry, _) = Registry::parse("w.yaml", &WORKLOADS.into());
    World::new(compiled.model, Arc::new(registry), 1)
}

/// The difference, each of whose witnesses flips as it says.
fn difference(old: &World, new: &World) -> Difference {
    let found = diff(old, new, Options { now: 0, budget: BUDGET, direction: None });
    for change in &found.changes {
        let allows = |world| {
            let question = Question::from_json(&change.witness).unwrap();
            question.answer(world, 0).unwrap().verdict == Action::Allow
        };
        let expected = (change.kind == Kind::Denied, change.kind == Kind::Allowed);
        assert_eq!((allows(old), allows(new)), expected, "{}", change.witness);
    }
    found
}

#[test]
fn an_opt_in_lets_what_was_refused_be_read() {
    for (option, rule, sign) in [
        ("escapedSlash: Keep", HTTP, "%2F"),
        ("escapedSlash: Decode", HTTP, "/x%2F.."),
        ("backslash: Keep", HTTP, "\\"),
        ("backslash: Decode", HTTP, "/x\\.."),
        ("pathParameters: Keep", HTTP, ";"),
        ("methodOverride: Keep", HTTP, "x-http-method-override"),
        ("underscoreHeaders: Keep", "http: [{headers: [{name: x-role, values: [admin]}]}]", "x_role"),
        // No rule asks for a path at all.
        ("escapedSlash: Keep", "http: [{methods: [GET]}]", "%2F"),
        // Only what is newly read is what the rule is about.
        ("escapedSlash: Keep", "http: [{paths: [\"regex:/files/[a-z]+%2F[a-z]+\"]}]", "%2F"),
    ] {
        let (strict, lenient) = (world(rule, ""), world(rule, option));
        let wider = difference(&strict, &lenient);
        assert!(wider.undecided.is_empty(), "{option}: {wider}");
        assert_eq!(wider.changes.len(), 1, "{option}: {wider}");
        let change = &wider.changes[0];
        assert_eq!(change.kind, Kind::Allowed);
        assert!(change.requests.ends_with(&format!("refused without `{option}`")), "{}", change.requests);
        let witness = change.witness.to_string().replace("\\\\", "\\");
        assert!(witness.contains(sign), "{option}: {witness}");
        assert_eq!(change.sources, ["shop/web"], "{wider}");
        let narrower = difference(&lenient, &strict);
        assert!(!narrower.is_wider() && narrower.undecided.is_empty() && narrower.changes.len() == 1, "{narrower}");
        assert!(difference(&lenient, &world(rule, option)).is_empty(), "the same on both sides");
    }
}

#[test]
fn rules_that_differ_beside_an_opt_in_are_told_apart_from_it() {
    let found = difference(
        &world(HTTP, ""),
        &world("http: [{methods: [GET, PUT], paths: [\"/orders/**\"]}]", "escapedSlash: Keep"),
    );
    assert!(found.undecided.is_empty(), "{found}");
    let told: Vec<&str> = found.changes.iter().map(|change| change.requests.as_str()).collect();
    assert!(told.iter().any(|told| told.contains("PUT") && !told.contains("refused without")), "{told:?}");
    assert!(told.iter().any(|told| told.contains("refused without")), "{told:?}");
}

#[test]
fn an_opt_in_that_matters_to_nobody_is_no_difference() {
    // No rule asks for a header that could be spelt in another way.
    assert!(difference(&world(HTTP, ""), &world(HTTP, "underscoreHeaders: Keep")).is_empty());
    // No rule looks into requests: none was refused.
    assert!(difference(&world("tcp: {}", ""), &world("tcp: {}", "escapedSlash: Keep")).is_empty());
}

#[test]
fn what_both_sides_read_in_two_ways_is_said_to_be_undecided() {
    for (old, new, which) in [
        ("", "mergeSlashes: Keep", "paths with `//`"),
        ("escapedSlash: Keep", "escapedSlash: Decode", "paths with `%2F`"),
        ("mergeSlashes: Keep", "mergeSlashes: Keep, escapedSlash: Decode", "paths with `//` and a decoded slash"),
    ] {
        let found = difference(&world(HTTP, old), &world("http: [{methods: [PUT]}]", new));
        assert!(found.undecided.iter().any(|open| open.why.contains(which)), "{found}");
        assert!(found.undecided.iter().all(|open| open.why.contains("nothing is known of")), "{found}");
        assert!(found.is_wider(), "what both read alike is decided: {found}");
    }
}

/// The budget is one for the whole comparison, however many groups of flows there are.
#[test]
fn the_budget_is_for_all_groups_together() {
    let world = |groups: usize, end: &str| {
        let rule = |number: usize| {
            format!(
                "{{name: r{number}, from: [{{serviceAccount: web}}], ports: [{number}], http: [{{paths: [\"/{end}/**\"]}}]}}"
            )
        };
        let rules = (1..=groups).map(|number| rule(number).replace("/**", &format!("{number}/**"))).collect::<Vec<_>>();
        let text = format!(
            "apiVersion: eastwall.dev/v1alpha1\nkind: FirewallPolicy\nmetadata: {{name: orders, namespace: shop}}\nspec:\n  subject: [{{serviceAccount: orders}}]\n  ingress: [{}]\n",
            rules.join(", ")
        );
        let compiled = compile(&parse("p.yaml", &text.into()));
        assert!(!compiled.has_errors(), "{:?}", compiled.diagnostics);
        let (registry, _) = Registry::parse("w.yaml", &WORKLOADS.into());
        World::new(compiled.model, Arc::new(registry), 1)
    };
    let undecided = |groups: usize, budget: u64| {
        let (old, new) = (world(groups, "x"), world(groups, "y"));
        diff(&old, &new, Options { now: 0, budget, direction: None }).undecided.len()
    };
    let enough = (8..24).map(|power| 1u64 << power).find(|budget| undecided(1, *budget) == 0).unwrap();
    assert!(undecided(8, enough) > 1, "what is enough for one group is not for each of eight");
    assert_eq!(undecided(8, enough * 16), 0);
}
