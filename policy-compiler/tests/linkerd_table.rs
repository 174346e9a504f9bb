//! The compiled table and the interpreter say the same of Linkerd's documents: the seeds of the fuzz target `linkerd`.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

mod agree;
mod generate;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use eastwall_policy::dialect::compile;
use eastwall_policy::source;
use eastwall_policy::world::World;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

#[test]
fn the_table_says_what_the_interpreter_says() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/linkerd");
    let mut runner = TestRunner::deterministic();
    let mut documents = 0;
    for seed in fs::read_dir(seeds).unwrap() {
        let text = fs::read_to_string(seed.unwrap().path()).unwrap();
        // The first byte chooses the fuzz target's random numbers.
        let compiled = compile(&source::parse("linkerd.yaml", &text.trim_start().into()));
        assert!(!compiled.has_errors(), "{text}\n{:?}", compiled.diagnostics);
        documents += 1;
        for _ in 0..80 {
            let mut case = generate::case().new_tree(&mut runner).unwrap().current();
            case.model = Arc::clone(&compiled.model);
            let world = World::new(Arc::clone(&case.model), Arc::clone(&case.registry), 1);
            agree::agrees(&world, &case).unwrap_or_else(|difference| unreachable!("{difference}\n{text}\n{case:#?}"));
        }
    }
    assert!(documents > 5, "{documents}");
}
