//! `eastwall inject` and what of `eastwall redirect` a sidecar's init container uses, from outside.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn eastwall(folder: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_eastwall"))
        .args(arguments)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| std::panic::resume_unwind(Box::new(error.to_string())));
    if let Some(mut stdin) = child.stdin.take() {
        // A command that refuses its call never reads.
        let _ = stdin.write_all(input.as_bytes());
    }
    child.wait_with_output().unwrap_or_else(|error| std::panic::resume_unwind(Box::new(error.to_string())))
}

/// Exit code, standard output, standard error.
fn inject(arguments: &[&str], input: &str) -> (i32, String, String) {
    let folder = tempfile::tempdir().unwrap_or_else(|error| std::panic::resume_unwind(Box::new(error.to_string())));
    told(eastwall(folder.path(), &[&["inject"], arguments].concat(), input))
}

fn told(output: Output) -> (i32, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

const DEPLOYMENT: &str = "\
# the shop
apiVersion: apps/v1
kind: Deployment
metadata: {name: orders, namespace: shop}
spec:
  selector: {matchLabels: {app: orders}}
  template:
    metadata: {labels: {app: orders}}
    spec:
      containers:
      - {name: orders, image: \"orders:4.1\"}
";

const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata:   {name: orders}   # kept as it is
spec: {ports: [{port: 80}]}
";

#[test]
fn objects_without_pods_are_the_same_to_the_byte_and_twice_is_once() {
    let (code, once, told) = inject(&[], &format!("---\n{SERVICE}---\n{DEPLOYMENT}---\n# nothing\n---\n{SERVICE}"));
    assert_eq!((code, told.as_str()), (0, ""), "{told}");
    assert!(once.starts_with(&format!("{SERVICE}---\napiVersion: apps/v1\n")), "{once}");
    assert!(once.ends_with(&format!("---\n{SERVICE}")), "{once}");
    assert_eq!(once.matches("name: eastwall-proxy").count(), 1);
    assert_eq!(inject(&[], &once), (0, once.clone(), String::new()));
}

#[test]
fn json_stays_json() {
    let pod = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": []}}"#;
    let (code, text, _) = inject(&[], pod);
    let parsed: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    assert_eq!((code, parsed["spec"]["initContainers"][1]["name"].as_str()), (0, Some("eastwall-proxy")), "{text}");
}

#[test]
fn a_refusal_names_file_and_line_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: mighty}\nspec:\n  hostNetwork: true\n  containers:\n  - name: app\n    securityContext:\n      privileged: true\n";
    std::fs::write(folder.path().join("pods.yaml"), format!("{DEPLOYMENT}---\n{pod}")).unwrap();
    std::fs::write(folder.path().join("fine.yaml"), SERVICE).unwrap();
    let (code, text, complaint) = told(eastwall(folder.path(), &["inject", "-f", "fine.yaml", "-f", "pods.yaml"], ""));
    assert_eq!((code, text.as_str()), (1, ""));
    let lines: Vec<&str> = complaint.lines().collect();
    assert_eq!(lines.len(), 2, "{complaint}");
    assert!(lines[0].starts_with("pods.yaml:17: refused: Pod mighty: spec.hostNetwork: the pod has"), "{complaint}");
    assert!(
        lines[1].starts_with("pods.yaml:21: refused: Pod mighty: spec.containers[0].securityContext.privileged: "),
        "{complaint}"
    );
}

#[test]
fn warnings_and_notes_name_the_line_too() {
    let (code, _, complaint) = inject(
        &[],
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: n}\nspec:\n  containers:\n  - name: app\n    readinessProbe:\n      httpGet: {port: 8443, scheme: HTTPS}\n---\napiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {name: r}\nspec: {template: {spec: {containers: []}}}\n",
    );
    assert_eq!(code, 0);
    assert!(complaint.starts_with("-:8: warning: Pod n/a: spec.containers[0].readinessProbe.httpGet: "), "{complaint}");
    assert!(complaint.contains("-:10: note: Rollout r is of no kind"), "{complaint}");
}

#[test]
fn flags_win_over_the_settings_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("s.yaml"), "image: a:1\nuid: 5\nlog: {level: debug}\n").unwrap();
    std::fs::write(folder.path().join("bad.yaml"), "image: a:1\nuids: 5\n").unwrap();
    let call = |arguments: &[&str]| told(eastwall(folder.path(), &[&["inject"], arguments].concat(), DEPLOYMENT));
    let (code, text, _) = call(&["--settings", "s.yaml", "--uid", "7", "--controller", "c:1", "--family", "ipv4"]);
    assert_eq!(code, 0);
    for expected in ["image: a:1", "--uid=7", "runAsUser: 7", "--controller=c:1", "--family=ipv4", "value: debug"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    for (arguments, expected) in [
        (&["--settings", "bad.yaml"][..], "line 2"),
        (&["--settings", "none.yaml"], "none.yaml"),
        (&["--image", "eastwall:latest"], "latest"),
        (&["-f", "none.yaml"], "none.yaml"),
    ] {
        let (code, text, complaint) = call(arguments);
        assert_eq!((code, text.as_str()), (2, ""), "{arguments:?}");
        assert!(complaint.contains(expected), "{arguments:?}: {complaint}");
    }
}

#[test]
fn what_can_be_read_in_two_ways_is_unusable() {
    for (document, expected) in [
        ("a: 089\n", "-:1: `089` can be read in two ways"),
        ("a: 1\na: 2\n", "-:2"),
        ("a: [1\n", "-:"),
        ("a: !!binary aGk=\n", "-:1"),
    ] {
        let (code, text, complaint) = inject(&[], &format!("{document}---\n{SERVICE}"));
        assert_eq!((code, text.as_str()), (2, ""), "{document}");
        assert!(complaint.contains(expected), "{document}: {complaint}");
    }
}

#[test]
fn a_sidecar_may_ask_its_name_servers_and_nothing_else_over_udp() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("resolv.conf"), "nameserver 10.96.0.10\nnameserver fd00::a\n").unwrap();
    let print = |arguments: &[&str]| {
        let call = [&["redirect", "print", "--mode", "sidecar"], arguments].concat();
        told(eastwall(folder.path(), &call, ""))
    };
    let (code, text, complaint) = print(&["--allow-resolvers", "resolv.conf"]);
    assert_eq!(code, 0, "{complaint}");
    let elements: Vec<&str> = text.lines().filter(|line| line.contains("elements")).map(str::trim).collect();
    assert_eq!(elements, ["elements = { 10.96.0.10 . udp . 53 }", "elements = { fd00::a . udp . 53 }"], "{text}");
    let (_, text, _) = print(&[]);
    assert!(!text.contains("elements"), "{text}");
    assert_eq!(print(&["--allow-resolvers", "none"]).0, 2);
    let node = ["redirect", "print", "--mode", "node", "--workloads", "w.yaml", "--allow-resolvers", "resolv.conf"];
    assert_eq!(told(eastwall(folder.path(), &node, "")).0, 2);
}
