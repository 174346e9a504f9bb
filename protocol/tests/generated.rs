//! The committed code is what the .proto generates.

use std::fs;
use std::path::Path;

/// `INSTA_UPDATE=always` writes it anew.
#[test]
fn the_code_is_what_the_definition_generates() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let definition = root.join("proto/eastwall.proto");
    let set = protox::compile([&definition], [root.join("proto")]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    tonic_prost_build::configure().bytes(".eastwall.v1alpha1.Object").out_dir(folder.path()).compile_fds(set).unwrap();
    let fresh = fs::read_to_string(folder.path().join("eastwall.v1alpha1.rs")).unwrap();
    let committed = root.join("src/v1alpha1.rs");
    if std::env::var("INSTA_UPDATE").as_deref() == Ok("always") {
        fs::write(&committed, &fresh).unwrap();
    }
    assert!(fs::read_to_string(&committed).unwrap() == fresh, "run this test with INSTA_UPDATE=always");
}
