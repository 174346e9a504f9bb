//! Any text as policies (the first byte is even) or as a workloads file (odd): an answer or a finding, never a panic; what
//! is accepted compiles to a table, and reading it twice gives the same.
#![no_main]

use std::sync::Arc;

use eastwall_policy::dialect;
use eastwall_policy::registry::Registry;
use eastwall_policy::source;
use eastwall_policy::world::World;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [choice, text @ ..] = data else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let text: Arc<str> = text.into();
    if choice % 2 == 1 {
        let _ = Registry::parse("workloads.yaml", &text);
        return;
    }
    let read = || {
        let compiled = dialect::compile(&source::parse("policies.yaml", &text));
        World::new(compiled.model, Arc::new(Registry::default()), 1).generation().clone()
    };
    assert_eq!(read(), read());
});
