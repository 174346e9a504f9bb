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
    // The bytes choose the case. They are a seed and not the random numbers themselves: a generator that draws until two
    // draws differ would never end on an input that has run out.
    let mut seed = [0u8; 32];
    for (index, byte) in data.iter().enumerate() {
        seed[index % 32] = byte.wrapping_add(seed[index % 32].rotate_left(3));
    }
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    let Ok(tree) = generate::case().new_tree(&mut runner) else { return Corpus::Reject };
    let case = tree.current();
    let world = World::new(Arc::clone(&case.model), Arc::clone(&case.registry), 1);
    if let Err(difference) = agree::agrees(&world, &case) {
        panic!("{difference}\n{case:#?}");
    }
    Corpus::Keep
});
