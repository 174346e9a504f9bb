//! The committed code is what the definitions generate.

use std::fs;
use std::path::Path;

/// Definition, package, and file of the code.
const DEFINITIONS: [(&str, &str, &str); 2] = [
    ("eastwall.proto", "eastwall.v1alpha1", "v1alpha1.rs"),
    ("delegated_identity.proto", "spire.api.agent.delegatedidentity.v1", "delegated_identity.rs"),
];

/// `INSTA_UPDATE=always` writes it anew.
#[test]
fn the_code_is_what_the_definitions_generate() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (definition, package, code) in DEFINITIONS {
        let definition = root.join("proto").join(definition);
        let set = protox::compile([&definition], [root.join("proto")]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let bytes = ".eastwall.v1alpha1.Object";
        tonic_prost_build::configure().bytes(bytes).out_dir(folder.path()).compile_fds(set).unwrap();
        let fresh = fs::read_to_string(folder.path().join(format!("{package}.rs"))).unwrap();
        let committed = root.join("src").join(code);
        if std::env::var("INSTA_UPDATE").as_deref() == Ok("always") {
            fs::write(&committed, &fresh).unwrap();
        }
        let held = fs::read_to_string(&committed).unwrap_or_default();
        assert!(held == fresh, "{code}: run this test with INSTA_UPDATE=always");
    }
}
