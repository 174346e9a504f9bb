//! The folder, without a controller.

use std::fs;
use std::path::Path;

use eastwall_protocol::v1alpha1::{Key, Object};
use serde_json::json;

use crate::controller::State;

fn key(kind: &str, name: &str) -> Key {
    let api_version = if kind == "Pod" { "v1" } else { "eastwall.dev/v1alpha1" };
    Key { api_version: api_version.into(), kind: kind.into(), namespace: "shop".into(), name: name.into() }
}

fn object(kind: &str, name: &str, spec: &str) -> Object {
    let Key { api_version, kind, namespace, name } = key(kind, name);
    let json = json!({"apiVersion": api_version, "kind": kind, "metadata": {"namespace": namespace, "name": name}, "spec": spec});
    Object { key: Some(Key { api_version, kind, namespace, name }), json: json.to_string().into_bytes().into() }
}

fn policy(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(format!("current/policies/eastwall.dev/FirewallPolicy/shop/{name}.json")))
        .unwrap_or_default()
}

fn pods(folder: &Path) -> String {
    fs::read_to_string(folder.join("current/objects/namespaces/shop.json")).unwrap_or_default()
}

#[test]
fn versions_follow_each_other_and_are_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let mut state = State::open(at).unwrap();
    assert_eq!(state.version(), "");
    assert!(!State::workloads(at).exists(), "nothing is good before the first slice");
    let all = vec![
        object("FirewallPolicy", "a", "1"),
        object("FirewallPolicy", "b", "1"),
        object("Pod", "x", "1"),
        object("Pod", "y", "1"),
    ];
    state.replace("v1", all).unwrap();
    assert!(policy(at, "a").lines().count() > 3, "as people read it");
    assert!(pods(at).contains("\"x\"") && pods(at).contains("\"y\""));
    let place = at.join("current/policies/eastwall.dev/FirewallPolicy/shop/a.json:4:3");
    assert_eq!(state.key_at(place.to_str().unwrap()), Some(key("FirewallPolicy", "a")));
    assert_eq!(state.key_at("elsewhere:1:1"), None);

    let changed = vec![object("FirewallPolicy", "b", "2"), object("Pod", "y", "2")];
    state.change("v2", changed, &[key("FirewallPolicy", "a"), key("Pod", "x")]).unwrap();
    let mut again = State::open(at).unwrap();
    assert_eq!(again.version(), "v2");
    assert_eq!(policy(at, "a"), "# deleted\n");
    assert!(policy(at, "b").contains("\"2\"") && !pods(at).contains("\"x\""));
    again.change("v3", Vec::new(), &[key("Pod", "y")]).unwrap();
    assert_eq!((policy(at, "a"), pods(at)), (String::new(), "# deleted\n".to_owned()));
    again.replace("v4", vec![object("Pod", "z", "1")]).unwrap();
    assert_eq!((policy(at, "b").as_str(), pods(at).contains("\"z\"")), ("# deleted\n", true));
    assert_eq!(fs::read_dir(at.join("versions")).unwrap().count(), 1);
}

#[test]
fn what_is_damaged_is_not_used() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 5] = [
        ("a file is cut off", |at| fs::write(at.join("current/objects/namespaces/shop.json"), "").unwrap()),
        ("a policy is another", |at| {
            fs::write(at.join("current/policies/eastwall.dev/FirewallPolicy/shop/a.json"), "{}").unwrap();
        }),
        ("a file is away", |at| {
            fs::remove_file(at.join("current/policies/eastwall.dev/FirewallPolicy/shop/a.json")).unwrap();
        }),
        ("the manifest is cut off", |at| fs::write(at.join("current/manifest"), "v1\n").unwrap()),
        ("the version is away", |at| fs::remove_dir_all(at.join("versions")).unwrap()),
    ];
    for (what, damage) in damages {
        let folder = tempfile::tempdir().unwrap();
        let mut state = State::open(folder.path()).unwrap();
        state.replace("v1", vec![object("FirewallPolicy", "a", "1"), object("Pod", "x", "1")]).unwrap();
        damage(folder.path());
        let mut state = State::open(folder.path()).unwrap();
        assert_eq!(state.version(), "", "{what}");
        assert!(!State::workloads(folder.path()).exists(), "{what}");
        state.replace("v2", vec![object("FirewallPolicy", "a", "1")]).unwrap();
        assert!(!policy(folder.path(), "a").is_empty(), "{what}");
    }
}

#[test]
fn an_object_that_lies_about_its_name_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut state = State::open(folder.path()).unwrap();
    state.replace("v1", vec![object("FirewallPolicy", "a", "1")]).unwrap();
    let lies = Object { key: Some(key("FirewallPolicy", "a")), ..object("FirewallPolicy", "b", "2") };
    assert!(state.change("v2", vec![lies], &[]).is_err());
    assert!(state.change("v2", vec![Object { key: None, ..object("Pod", "x", "1") }], &[]).is_err());
    assert!(state.change("v2", vec![Object { json: "{".into(), ..object("Pod", "x", "1") }], &[]).is_err());
    assert_eq!((state.version(), policy(folder.path(), "a").contains("\"1\"")), ("v1", true));
}
