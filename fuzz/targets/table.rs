//! Bytes become a model, a registry, a connection and requests; the table must say what the interpreter says.
#![no_main]

#[path = "../../policy-compiler/tests/agree/mod.rs"]
mod agree;
#[path = "../../policy-compiler/tests/generate/mod.rs"]
mod generate;

use std::sync::Arc;

use eastwall_policy::world::World;
use libfuzzer_sys::{Corpus, fuzz_target};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

fuzz_target!(|data: &[u8]| -> Corpus {
    // The bytes are the random numbers from which the generator of the property tests draws.
    let random = TestRng::from_seed(RngAlgorithm::PassThrough, data);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    let Ok(tree) = generate::case().new_tree(&mut runner) else { return Corpus::Reject };
    let case = tree.current();
    let world = World::new(Arc::clone(&case.model), Arc::clone(&case.registry), 1);
    if let Err(difference) = agree::agrees(&world, &case) {
        panic!("{difference}\n{case:#?}");
    }
    Corpus::Keep
});
