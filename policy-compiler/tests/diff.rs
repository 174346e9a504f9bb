//! `diff` against `decide`: what it says is different is, and what differs it says.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot make its own input fails"
)]

mod generate;

use std::sync::Arc;

use eastwall_policy::analysis::check::check;
use eastwall_policy::analysis::diff::{Difference, State, diff};
use eastwall_policy::analysis::exposure;
use eastwall_policy::analysis::space::{Kind, Options};
use eastwall_policy::diagnostic::Code;
use eastwall_policy::dialect::Compiled;
use eastwall_policy::facts::Direction;
use eastwall_policy::flow::Question;
use eastwall_policy::model::{Effect, Model};
use eastwall_policy::registry::{INBOUND_MUTUAL_TLS, Registry};
use eastwall_policy::verdict::Action;
use eastwall_policy::world::World;
use generate::emergencies::emergency;
use generate::{HEADERS, HOSTS, METHODS, PARAMETERS, PATHS, PORTS, PRINCIPALS, QUERIES, VALUES, models, registries};
use proptest::prelude::*;
use serde_json::{Value, json};

const NOW: i64 = 5;

fn options() -> Options {
    Options { now: NOW, budget: 400_000, direction: None }
}

fn worlds(old: Model, new: Model, registry: Registry) -> (World, World) {
    let registry = Arc::new(registry);
    (World::new(Arc::new(old), Arc::clone(&registry), 1), World::new(Arc::new(new), registry, 1))
}

/// A registry whose workloads and Services have names of their own; some take proven peers alone.
fn registry() -> impl Strategy<Value = Registry> {
    (registries::registry(), modes()).prop_map(|(registry, modes)| with(registry, &modes))
}

/// Which peers each workload takes.
fn modes() -> impl Strategy<Value = Vec<Option<&'static str>>> {
    let mode = prop_oneof![4 => Just(None), 2 => Just(Some("strict")), 1 => Just(Some("permissive"))];
    prop::collection::vec(mode, 6)
}

fn with(mut registry: Registry, modes: &[Option<&'static str>]) -> Registry {
    for (workload, mode) in registry.workloads.iter_mut().zip(modes) {
        workload.annotations.remove(INBOUND_MUTUAL_TLS);
        workload.annotations.extend(mode.map(|mode| (INBOUND_MUTUAL_TLS.into(), mode.into())));
    }
    registry
}

/// Two models: unrelated ones, or one and the same with a policy or rule less.
fn pair() -> impl Strategy<Value = (Model, Model)> {
    let related = (models::model(), any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<bool>())
        .prop_map(|(model, policy, rule, whole)| {
            let mut changed = model.clone();
            if !changed.policies.is_empty() {
                let at = policy.index(changed.policies.len());
                let rules = &mut Arc::make_mut(&mut changed.policies[at]).rules;
                if whole || rules.is_empty() {
                    changed.policies.remove(at);
                } else {
                    let at = rule.index(rules.len());
                    rules.remove(at);
                }
            }
            (model, changed)
        });
    prop_oneof![3 => related, 1 => (models::model(), models::model())]
}

/// A request that every part is known of, as `decide` reads it.
fn request() -> impl Strategy<Value = Value> {
    let word = |of: &'static [&'static str]| prop::sample::select(of);
    let http = (
        word(&["http", "http2", "grpc"]),
        word(METHODS),
        word(PATHS).prop_filter("refused", |path| *path != "*"),
        prop::option::of(word(QUERIES)),
        prop::option::of(word(HOSTS)),
        prop::collection::vec((word(HEADERS), word(VALUES)), 0..3),
        prop::option::of(prop::sample::select(vec![
            json!({"iss": "https://sso", "sub": "kim", "roles": ["acme", "globex"], "deep": {"n": "7"}}),
            json!({"roles": "acme", "scope": "acme globex"}),
            json!({"roles": []}),
        ])),
    )
        .prop_map(|(protocol, method, path, query, host, headers, jwt)| {
            let method = if protocol == "grpc" { "POST" } else { method };
            let headers: Vec<Value> = headers.iter().map(|(name, value)| json!([name, value])).collect();
            let mut line = json!({"protocol": protocol, "method": method, "path": path, "headers": headers});
            for (member, value) in [("query", query.map(Value::from)), ("host", host.map(Value::from)), ("jwt", jwt)] {
                if let Some(value) = value {
                    line[member] = value;
                }
            }
            line
        });
    let other =
        (word(&["tls", "tcp", "udp", "sctp", "dns"]), word(HOSTS)).prop_map(|(protocol, host)| match protocol {
            "tls" => json!({"protocol": "tls", "sni": host}),
            "dns" => json!({"protocol": "dns", "qname": host}),
            other => json!({"protocol": other}),
        });
    prop_oneof![4 => http, 1 => other]
}

/// Where from and where to: by indices into the registry (at the first or the last of its addresses), or addresses.
type Places = (prop::sample::Index, prop::sample::Index, usize, usize, Option<usize>);

fn places() -> impl Strategy<Value = Places> {
    (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..6_usize, 0..6_usize, prop::option::of(0..5_usize))
}

fn question(registry: &Registry, places: &Places, port: u16, request: &Value) -> (Value, Option<String>) {
    let (from, to, source, destination, principal) = places;
    let outside = ["10.9.9.9", "203.0.113.7", "192.168.1.9", "192.168.1.1"];
    let workload = |index: &prop::sample::Index| {
        (!registry.workloads.is_empty()).then(|| &registry.workloads[index.index(registry.workloads.len())])
    };
    let mut line = request.clone();
    line["src"] = match (workload(from), outside.get(*source)) {
        (_, Some(ip)) => {
            let mut src = json!({"ip": ip});
            // Strangers prove themselves from where nobody is registered; this cluster's own from inside of it.
            if let Some(principal) = principal.map(|at| PRINCIPALS[at])
                && (*ip == "10.9.9.9" || (*ip == "203.0.113.7" && !principal.starts_with("spiffe://cluster.local/")))
            {
                src["principal"] = json!(principal);
            }
            src
        }
        (Some(held), None) => {
            let mut src = json!({"workload": format!("{}/{}", held.namespace, held.name)});
            if principal.is_some() && !held.host_network {
                src["principal"] =
                    json!(format!("spiffe://cluster.local/ns/{}/sa/{}", held.namespace, held.service_account));
            }
            if let Some(last) = held.ips.last().filter(|_| *source == outside.len()) {
                src["ip"] = json!(last);
            }
            src
        }
        (None, None) => json!({"ip": "10.9.9.9"}),
    };
    let (place, name) = match (workload(to), outside.get(*destination)) {
        (_, Some(ip)) => (json!({"ip": ip}), None),
        (Some(held), None) => {
            let name = format!("{}/{}", held.namespace, held.name);
            let mut place = json!({"workload": name});
            if let Some(last) = held.ips.last().filter(|_| *destination == outside.len()) {
                place["ip"] = json!(last);
            }
            (place, (!held.host_network).then_some(name))
        }
        (None, None) => (json!({"ip": "10.9.9.9"}), None),
    };
    line["dst"] = place;
    line["dst"]["port"] = json!(port);
    (line, name)
}

fn allows(world: &World, line: &Value) -> bool {
    let question = Question::from_json(line).unwrap();
    question.answer(world, NOW).unwrap().verdict == Action::Allow
}

/// Every witness flips, in the direction that is said.
fn witnesses_flip(difference: &Difference, old: &World, new: &World) -> Result<(), TestCaseError> {
    for change in &difference.changes {
        let verdicts = (allows(old, &change.witness), allows(new, &change.witness));
        prop_assert_eq!(verdicts, (change.kind == Kind::Denied, change.kind == Kind::Allowed), "{}", &change.witness);
    }
    for open in &difference.undecided {
        prop_assert!(!open.why.contains("could be shown"), "{}", difference);
    }
    Ok(())
}

/// Every flow that meets another verdict is of a change that is told.
fn flips_are_told(
    difference: &Difference,
    (old, new): (&World, &World),
    flows: &[(Places, u16, Value)],
) -> Result<(), TestCaseError> {
    for (places, port, request) in flows {
        let (line, name) = question(old.registry(), places, *port, request);
        let kind = match (allows(old, &line), allows(new, &line)) {
            (true, false) => Kind::Denied,
            (false, true) => Kind::Allowed,
            _ => continue,
        };
        let told = difference.changes.iter().any(|change| {
            let is_named = |name: &String| {
                let at = format!("{name} at ");
                change.destinations.iter().any(|told| told == name || told.starts_with(&at))
            };
            change.kind == kind && name.as_ref().is_none_or(is_named)
        });
        prop_assert!(told, "{} is {:?}, not told in\n{}", line, kind, difference);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn a_model_is_not_different_from_itself(
        mut model in models::model(),
        emergencies in prop::collection::vec(emergency(NOW, NOW + 1), 0..2),
        registry in registry(),
    ) {
        model.break_glass = emergencies;
        let (old, new) = worlds(model.clone(), model, registry);
        let difference = diff(&old, &new, options());
        prop_assert!(difference.is_empty(), "{}", difference);
    }

    #[test]
    fn what_differs_is_told_and_what_is_told_differs(
        (old, new) in pair(),
        registry in registry(),
        modes in prop::option::of(modes()),
        flows in prop::collection::vec((places(), prop::sample::select(PORTS), request()), 40),
    ) {
        let (old, new) = worlds(old, new, registry);
        let changed = modes.map(|modes| Arc::new(with(Registry::clone(new.registry()), &modes)));
        let new = changed.map_or_else(|| new.with_registry(Arc::clone(new.registry()), 1), |held| new.with_registry(held, 1));
        let difference = diff(&old, &new, options());
        witnesses_flip(&difference, &old, &new)?;
        if difference.undecided.is_empty() {
            flips_are_told(&difference, (&old, &new), &flows)?;
        }
    }

    #[test]
    fn an_allow_less_is_never_wider(model in models::model(), registry in registry(), at: prop::sample::Index, which: prop::sample::Index) {
        let mut changed = model.clone();
        if changed.policies.is_empty() {
            return Ok(());
        }
        let at = at.index(changed.policies.len());
        let unordered = !changed.policies[at].tier.is_ordered(changed.policies[at].stack);
        let rules = &mut Arc::make_mut(&mut changed.policies[at]).rules;
        if rules.is_empty() {
            return Ok(());
        }
        let which = which.index(rules.len());
        if rules[which].effect != Effect::Allow || !unordered {
            return Ok(());
        }
        rules.remove(which);
        let (old, new) = worlds(model, changed, registry);
        let difference = diff(&old, &new, options());
        prop_assert!(!difference.is_wider(), "{}", difference);
    }
}

proptest! {
    // Each is compared four times.
    #![proptest_config(ProptestConfig::with_cases(cases().div_ceil(4)))]

    #[test]
    fn what_an_emergency_opens_is_told_and_ends(
        model in models::model(),
        glass in emergency(NOW, NOW + 1),
        registry in registry(),
        flows in prop::collection::vec((places(), prop::sample::select(PORTS), request()), 40),
    ) {
        let broken = Model { break_glass: vec![glass], ..model.clone() };
        let (old, new) = worlds(model, broken, registry);
        let difference = diff(&old, &new, options());
        prop_assert!(difference.is_wider() && difference.emergencies.len() == 1);
        witnesses_flip(&difference, &old, &new)?;
        for change in &difference.changes {
            prop_assert!(change.new.because().contains("BreakGlass fire at fire.yaml:1:1, until"), "{}", difference);
        }
        if difference.undecided.is_empty() {
            flips_are_told(&difference, (&old, &new), &flows)?;
        }
        let over = diff(&old, &new, Options { now: NOW + 1, ..options() });
        prop_assert!(over.is_empty(), "{}", over);
        let back = diff(&new, &old, options());
        prop_assert!(!back.is_empty() && !back.is_wider(), "{}", back);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases() * 5))]

    #[test]
    fn a_document_that_is_gone_and_opens_a_workload_is_told(
        model in models::model(),
        registry in registry(),
        at: prop::sample::Index,
    ) {
        if model.policies.is_empty() {
            return Ok(());
        }
        let mut changed = model.clone();
        changed.policies.remove(at.index(changed.policies.len()));
        let compiled = Compiled { model: Arc::new(changed.clone()), ..Compiled::default() };
        let findings = check(&compiled, Some(&registry), NOW);
        let (old, new) = worlds(model, changed, registry);
        let difference = diff(&old, &new, Options { budget: 0, ..options() });
        for direction in [Direction::Inbound, Direction::Outbound] {
            let open = |world: &World| -> Vec<String> {
                let open = exposure::open(world.model(), world.registry(), direction);
                open.iter().map(|workload| format!("{}/{}", workload.namespace, workload.name)).collect()
            };
            let before = open(&old);
            for name in open(&new).into_iter().filter(|name| !before.contains(name)) {
                let told = difference.protection.iter().any(|told| {
                    told.direction == direction && told.now == State::Open && told.workloads.contains(&name)
                });
                prop_assert!(told && difference.is_wider(), "{} {}", name, difference);
                let word = if direction == Direction::Inbound { "ingress" } else { "egress" };
                let found = findings.iter().any(|finding| {
                    finding.code == Code::Open && finding.message.contains(word) && finding.message.contains(&name)
                });
                prop_assert!(found, "{} {} {:?}", word, name, findings);
            }
        }
    }
}

/// Names of parameters occur in the flows through queries alone.
#[test]
fn the_universe_has_parameters() {
    assert!(PARAMETERS.iter().any(|name| QUERIES.iter().any(|query| query.contains(name))));
}

/// `PROPTEST_CASES` where it is set; else enough to meet every kind of difference.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(60)
}
