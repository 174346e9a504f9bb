//! What the native schema says is what is decided: policies with their tests, run against the compiled world.

use std::path::PathBuf;
use std::sync::Arc;

use eastwall_policy::dialect::compile;
use eastwall_policy::flow::Question;
use eastwall_policy::registry::Registry;
use eastwall_policy::source;
use eastwall_policy::world::World;

fn run(file: &str) -> Vec<String> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/meaning");
    let (registry, _) = Registry::read(&folder.join("workloads.yaml"));
    let compiled = compile(&source::read(&[folder.join(file)]));
    assert!(!compiled.has_errors(), "{:?}", compiled.diagnostics);
    let world = World::new(Arc::clone(&compiled.model), Arc::new(registry), 1);
    let mut wrong = Vec::new();
    for test in &compiled.tests {
        assert!(!test.cases.is_empty());
        for case in &test.cases {
            let answer =
                Question::from_json(&case.request).and_then(|question| question.answer(&world, test.now.unwrap_or(0)));
            let fits = answer
                .as_ref()
                .is_ok_and(|answer| answer.verdict == case.expect && (case.rule.is_none() || answer.rule == case.rule));
            if !fits {
                wrong.push(format!(
                    "{} {}: expected {:?} {:?}, got {answer:?}",
                    case.location, case.name, case.expect, case.rule
                ));
            }
        }
    }
    wrong
}

#[test]
fn peers() {
    assert_eq!(run("peers.yaml"), [""; 0]);
}

#[test]
fn http() {
    assert_eq!(run("http.yaml"), [""; 0]);
}

#[test]
fn protocols() {
    assert_eq!(run("protocols.yaml"), [""; 0]);
}

#[test]
fn denies() {
    assert_eq!(run("denies.yaml"), [""; 0]);
}

#[test]
fn tiers() {
    assert_eq!(run("tiers.yaml"), [""; 0]);
}

#[test]
fn proof() {
    assert_eq!(run("proof.yaml"), [""; 0]);
}
