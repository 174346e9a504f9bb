//! What is read and compiled again after a change is what would be read and compiled anew: policies, findings, hash.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot make its own input fails")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use eastwall_policy::dialect::{Compiled, LastGood, compile_onto};
use eastwall_policy::registry::Registry;
use eastwall_policy::source::{self, Reader};
use eastwall_policy::world::World;
use proptest::prelude::*;

/// Documents of every dialect, each for a file of its own; then what changes how others are read.
fn documents() -> Vec<&'static str> {
    let files = [
        include_str!("dialects/native.yaml"),
        include_str!("dialects/network.yaml"),
        include_str!("dialects/cilium.yaml"),
        include_str!("dialects/istio.yaml"),
        include_str!("dialects/linkerd.yaml"),
        include_str!("native/audit.yaml"),
        include_str!("native/settings.yaml"),
        FAR_REACHING,
    ];
    files.iter().flat_map(|text| text.split("\n---\n")).collect()
}

const FAR_REACHING: &str = "apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: spaced, namespace: shop}
spec: {jwtRules: [{issuer: shop, spaceDelimitedClaims: [roles]}]}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: required, namespace: shop}
spec: {endpointSelector: {}, ingress: [{fromRequires: [{matchLabels: {app: web}}]}]}
---
apiVersion: eastwall.dev/v1alpha1
kind: DialectSettings
metadata: {name: other}
spec: {istio: {rootNamespace: shop}}
";

/// What becomes of one file.
#[derive(Clone, Copy, Debug)]
enum Edit {
    Write,
    Delete,
    Break,
    Comment,
    Misspell,
}

fn edits() -> impl Strategy<Value = Vec<(usize, Edit)>> {
    let edit =
        prop::sample::select(vec![Edit::Write, Edit::Write, Edit::Delete, Edit::Break, Edit::Comment, Edit::Misspell]);
    prop::collection::vec((0..documents().len(), edit), 1..25)
}

fn apply(folder: &Path, number: usize, edit: Edit, document: &str) {
    let path = folder.join(format!("{number:03}.yaml"));
    match edit {
        Edit::Write => fs::write(path, document).unwrap(),
        Edit::Comment => fs::write(path, format!("# a line more\n{document}")).unwrap(),
        Edit::Break => fs::write(path, format!("{document}\nx: [\n")).unwrap(),
        Edit::Misspell => fs::write(path, document.replacen("spec:", "spek:", 1)).unwrap(),
        Edit::Delete => {
            let gone = fs::remove_file(path);
            assert!(gone.is_ok() || gone.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound));
        }
    }
}

/// Everything that came of it, as text.
fn told(compiled: &Compiled) -> String {
    format!("{:#?}\n{:#?}\n{:#?}\n{:#?}", compiled.model, compiled.diagnostics, compiled.refused, compiled.mentions)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_change_comes_to_what_reading_everything_anew_comes_to(edits in edits()) {
        let folder = tempfile::tempdir().unwrap();
        let paths = [folder.path().to_owned()];
        let documents = documents();
        for (number, document) in documents.iter().enumerate().filter(|(number, _)| number % 3 > 0) {
            apply(folder.path(), number, Edit::Write, document);
        }
        let registry: Arc<Registry> = Arc::default();
        let mut reader = Reader::default();
        let (mut kept, mut anew) = (LastGood::default(), LastGood::default());
        let mut world = World::new(Arc::default(), Arc::clone(&registry), 1);
        for (number, edit) in edits {
            apply(folder.path(), number, edit, documents[number]);
            let again = compile_onto(&reader.read(&paths), &kept);
            let fresh = compile_onto(&source::read(&paths), &anew);
            prop_assert_eq!(told(&again), told(&fresh));
            world = world.with_policies(Arc::clone(&again.model), Arc::clone(&registry), 1);
            let built = World::new(Arc::clone(&fresh.model), Arc::clone(&registry), 1);
            prop_assert_eq!(world.generation(), built.generation());
            let counted = |world: &World| (world.table().size().policies, world.table().size().rules);
            prop_assert_eq!(counted(&world), counted(&built));
            (kept, anew) = (LastGood::of(&again), LastGood::of(&fresh));
        }
    }
}

#[test]
fn only_the_policy_of_the_changed_document_is_another_one() {
    let folder = tempfile::tempdir().unwrap();
    let paths = [folder.path().to_owned()];
    // Without what many documents make together.
    let alone = ["kind: FirewallPolicy", "NetworkPolicy\n", "kind: AuthorizationPolicy\n"];
    let elsewhere = [include_str!("native/audit.yaml"), FAR_REACHING];
    let is_alone = |document: &&str| {
        alone.iter().any(|kind| document.contains(kind))
            && !document.contains("linkerd")
            && !elsewhere.iter().any(|file| file.contains(document))
    };
    let written: Vec<&str> = documents().into_iter().filter(is_alone).collect();
    for (number, document) in written.iter().enumerate() {
        apply(folder.path(), number, Edit::Write, document);
    }
    let mut reader = Reader::default();
    let before = compile_onto(&reader.read(&paths), &LastGood::default());
    apply(folder.path(), 0, Edit::Comment, written[0]);
    let after = compile_onto(&reader.read(&paths), &LastGood::of(&before));
    let pairs = before.model.policies.iter().zip(&after.model.policies);
    let others: Vec<String> =
        pairs.filter(|(one, other)| !Arc::ptr_eq(one, other)).map(|(one, _)| one.name.to_string()).collect();
    assert!(before.model.policies.len() > 10, "{}", before.model.policies.len());
    assert_eq!(before.model.policies.len(), after.model.policies.len());
    assert_eq!(others.len(), 1, "{others:?}");
}

#[test]
fn what_is_there_no_more_is_held_by_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let paths = [folder.path().to_owned()];
    for (number, document) in documents().into_iter().enumerate() {
        apply(folder.path(), number, Edit::Write, document);
    }
    let mut reader = Reader::default();
    let compiled = compile_onto(&reader.read(&paths), &LastGood::default());
    let held: Vec<_> = compiled.model.policies.iter().map(Arc::downgrade).collect();
    assert!(held.len() > 10, "{}", held.len());
    let mut kept = LastGood::of(&compiled);
    drop(compiled);
    fs::remove_dir_all(folder.path()).unwrap();
    fs::create_dir(folder.path()).unwrap();
    let compiled = compile_onto(&reader.read(&paths), &kept);
    assert!(compiled.model.policies.is_empty(), "{:?}", compiled.diagnostics);
    kept = LastGood::of(&compiled);
    let still = held.iter().filter(|policy| policy.upgrade().is_some()).count();
    assert_eq!(still, 0, "of {} policies, beside {kept:?}", held.len());
}
