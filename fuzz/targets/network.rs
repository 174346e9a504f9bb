//! Any text as documents of the network stack, Kubernetes' and Cilium's, under a random registry and random requests: an answer or a finding, never a panic;
//! reading it twice gives the same, and the compiled table says what the interpreter says.
#![no_main]

#[path = "../../policy-compiler/tests/agree/mod.rs"]
mod agree;
#[path = "../../policy-compiler/tests/generate/mod.rs"]
mod generate;

use std::sync::Arc;

use eastwall_policy::dialect;
use eastwall_policy::source;
use eastwall_policy::world::World;
use libfuzzer_sys::{Corpus, fuzz_target};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

fuzz_target!(|data: &[u8]| -> Corpus {
    let [choice, text @ ..] = data else { return Corpus::Reject };
    let Ok(text) = std::str::from_utf8(text) else { return Corpus::Reject };
    let text: Arc<str> = text.into();
    let compiled = dialect::compile(&source::parse("network.yaml", &text));
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &[*choice; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    let Ok(tree) = generate::case().new_tree(&mut runner) else { return Corpus::Reject };
    let mut case = tree.current();
    case.model = Arc::clone(&compiled.model);
    let world = |model| World::new(model, Arc::clone(&case.registry), 1);
    let first = world(compiled.model);
    let again = world(dialect::compile(&source::parse("network.yaml", &text)).model);
    assert_eq!(first.generation(), again.generation());
    if let Err(difference) = agree::agrees(&first, &case) {
        panic!("{difference}\n{case:#?}");
    }
    Corpus::Keep
});
