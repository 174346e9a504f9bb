//! The commands that answer questions, from outside: exit codes, formats, and readers that go away.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn eastwall(folder: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_eastwall"))
        .args(arguments)
        .current_dir(folder)
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

const GOOD: &str = "apiVersion: eastwall.dev/v1alpha1\nkind: FirewallPolicy\nmetadata: {name: a, namespace: b}\nspec: {subject: [{any: true}], directions: [Ingress]}\n";

#[test]
fn exit_codes_and_formats() {
    let folder = tempfile::tempdir().unwrap();
    let bad = GOOD.replace("directions", "direction");
    std::fs::write(folder.path().join("good.yaml"), GOOD).unwrap();
    std::fs::create_dir(folder.path().join("bad")).unwrap();
    std::fs::write(folder.path().join("bad/p.yaml"), &bad).unwrap();
    std::fs::write(folder.path().join("w.yml"), "- {name: x, namespace: y}\n").unwrap();
    let run = |arguments: &[&str], input: &str| eastwall(folder.path(), arguments, input);
    for (arguments, input, code) in [
        (&["check", "good.yaml"][..], "", 0),
        (&["check", "bad"], "", 1),
        (&["check", "-"], GOOD, 0),
        (&["check", "-"], bad.as_str(), 1),
        (&["check", "good.yaml", "good.yaml"], "", 0),
        (&["check", "nowhere"], "", 2),
        (&["check", "good.yaml", "--workloads", "nowhere"], "", 2),
        (&["check"], "", 2),
        (&["check", "good.yaml", "--format", "xml"], "", 2),
        (&["compile", "good.yaml"], "", 0),
        (&["compile", "bad/p.yaml"], "", 1),
        (&["compile", "nowhere"], "", 2),
    ] {
        assert_eq!(run(arguments, input).status.code(), Some(code), "{arguments:?}");
    }
    let json = run(&["check", "bad", "--format", "json"], "");
    let findings: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(findings[0]["code"], "EW0306");
    assert_eq!(findings[1]["code"], "EW0201");
    assert_eq!(findings[1]["file"], "bad/p.yaml");
    assert_eq!(findings[1]["line"], 4);
    assert_eq!(findings[1]["help"], "did you mean `directions`?");
    let text = run(&["check", "good.yaml", "--workloads", "w.yml"], "");
    assert!(String::from_utf8_lossy(&text.stdout).contains("EW0502"), "a policy that selects nothing");
    let stats = run(&["compile", "good.yaml", "--stats"], "");
    let stats: serde_json::Value = serde_json::from_slice(&stats.stdout).unwrap();
    assert_eq!((&stats["policies"], &stats["documents"]), (&serde_json::json!(1), &serde_json::json!(1)));
}

const WORKLOADS: &str = "
- {name: orders, namespace: shop, serviceAccount: orders, ips: [10.0.0.2], ports: [{name: http, port: 8080}]}
- {name: web, namespace: shop, serviceAccount: web, ips: [10.0.0.3]}
";
const POLICY: &str = "
apiVersion: eastwall.dev/v1alpha1
kind: FirewallPolicy
metadata: {name: orders, namespace: shop}
spec:
  subject: [{serviceAccount: orders}]
  ingress: [{name: reads, from: [{serviceAccount: web}], http: [{methods: [GET, HEAD]}]}]
";
const TEST: &str = "
apiVersion: eastwall.dev/v1alpha1
kind: PolicyTest
metadata: {name: NAME, namespace: shop}
spec:
  cases: [{name: reads, src: {workload: shop/web}, dst: {workload: shop/orders, port: 8080}, method: GET, path: /, expect: allow}]
";

/// `… | head -1`: who reads has gone, and the exit code still is the answer.
#[test]
fn each_command_is_described_by_the_same_words_in_the_list_and_in_its_own_help() {
    let folder = tempfile::tempdir().unwrap();
    let help = |arguments: &[&str]| String::from_utf8(eastwall(folder.path(), arguments, "").stdout).unwrap();
    let all = help(&["--help"]);
    let listed = all.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // The rest of a long description stands below its beginning.
    let names = listed.filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    let commands: Vec<_> = names.filter_map(|line| line.split_once(' ')).collect();
    assert!(commands.len() > 10, "{all}");
    for (command, description) in commands.into_iter().filter(|(command, _)| *command != "help") {
        let own = help(&[command, "--help"]);
        assert!(own.starts_with(description.trim()), "{command}: {description}\n{own}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let flow = r#"{"src": {"workload": "shop/web"}, "dst": {"workload": "shop/orders", "port": 8080}, "method": "GET", "path": "/"}"#;
    write("w.yaml", WORKLOADS);
    write("p.yaml", POLICY);
    write("bad.yaml", &POLICY.replace("ingress", "ingres"));
    write("t.yaml", &TEST.replace("NAME", "t"));
    write("flows", &flow.replacen('{', r#"{"verdict": "allow", "#, 1));
    write("requests", flow);
    let asked = ["--policy", "p.yaml", "--workloads", "w.yaml"];
    let with = |arguments: &[&'static str]| [arguments, &asked].concat();
    for (arguments, code) in [
        (vec!["--help"], 0),
        (vec!["check", "--help"], 0),
        (vec!["completions", "bash"], 0),
        (vec!["schema"], 0),
        (vec!["check", "p.yaml"], 0),
        (vec!["check", "bad.yaml"], 1),
        (vec!["check", "bad.yaml", "--format", "json"], 1),
        (vec!["check", "bad.yaml", "--format", "sarif"], 1),
        (vec!["compile", "p.yaml"], 0),
        (vec!["compile", "bad.yaml"], 1),
        (vec!["diff", "p.yaml", "p.yaml"], 0),
        (vec!["diff", "bad.yaml", "p.yaml"], 2),
        (vec!["suggest", "flows", "--workloads", "w.yaml"], 0),
        (vec!["redirect", "print", "--mode", "sidecar"], 0),
        (with(&["test", "t.yaml"]), 0),
        (with(&["test", "t.yaml", "--coverage", "--format", "junit"]), 0),
        (with(&["reach"]), 0),
        (with(&["reach", "--format", "dot"]), 0),
        (with(&["decide", "--requests", "requests"]), 0),
        (with(&["explain", "--request", flow]), 0),
        (vec!["no-such-command"], 2),
    ] {
        let closed = || {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            writer
        };
        let mut quiet = Command::new(env!("CARGO_BIN_EXE_eastwall"));
        quiet.args(&arguments).current_dir(folder.path()).stdin(Stdio::null()).stdout(closed());
        let told = quiet.stderr(Stdio::piped()).output().unwrap();
        let error = String::from_utf8_lossy(&told.stderr);
        assert_eq!(told.status.code(), Some(code), "{arguments:?}: {error}");
        assert!(!error.contains("panicked") && !error.contains("roken pipe"), "{arguments:?}: {error}");
        assert_eq!(quiet.stderr(closed()).status().unwrap().code(), Some(code), "{arguments:?}, both closed");
    }
}

/// Tests beside policies that live elsewhere: those are in force, their own tests are theirs.
#[test]
fn policies_of_a_test_may_live_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("policies/p.yaml", POLICY.to_owned()),
        ("policies/t.yaml", TEST.replace("NAME", "theirs").replace("allow", "deny")),
        ("tests/t.yaml", TEST.replace("NAME", "ours")),
        ("w.yaml", WORKLOADS.to_owned()),
    ] {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let run = |arguments: &[&str]| {
        let told = eastwall(folder.path(), &[arguments, &["--workloads", "w.yaml"]].concat(), "");
        (told.status.code(), String::from_utf8(told.stdout).unwrap())
    };
    let ours = "ok    shop/ours reads\n1 passed, 0 failed\n";
    assert_eq!(run(&["test", "tests", "--policy", "policies"]), (Some(0), ours.to_owned()));
    assert_eq!(run(&["test", "tests/t.yaml", "policies"]).0, Some(1), "as paths they are run");
    let (code, text) = run(&["test", "tests", "--policy", "policies", "--format", "junit", "--min-coverage", "100"]);
    assert!(code == Some(0) && text.contains(r#"<property name="percent" value="100"/>"#), "{text}");
    // Without a rule there is nothing that a case could reach.
    let open = eastwall(folder.path(), &["test", "tests", "--workloads", "w.yaml", "--min-coverage", "1"], "");
    assert_eq!(open.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&open.stderr).contains("0 % of 0 rules"));
}

/// Who may come in plaintext is each side's own word, in objects beside the policies.
#[test]
fn a_proof_that_is_demanded_is_a_difference() {
    let folder = tempfile::tempdir().unwrap();
    let objects = |namespace: &str| {
        let pod = |name: &str, ip: &str| {
            format!(
                "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop}}\n\
                 spec: {{serviceAccountName: {name}, containers: [{{name: a, image: a}}]}}\n\
                 status: {{phase: Running, podIP: {ip}, podIPs: [{{ip: {ip}}}]}}\n"
            )
        };
        let pods = pod("orders", "10.0.0.2") + &pod("web", "10.0.0.3");
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop{namespace}}}\n{pods}---{POLICY}")
    };
    let strict = ", annotations: {eastwall.dev/inbound-mtls: strict}";
    for (name, namespace) in [("plain", ""), ("strict", strict)] {
        std::fs::write(folder.path().join(format!("{name}.yaml")), objects(namespace)).unwrap();
    }
    for (old, new, code, told) in [
        ("plain", "strict", 0, "inbound mutual TLS permissive → strict: shop/orders; shop/web\nnewly denied\n"),
        ("strict", "plain", 1, "inbound mutual TLS strict → permissive: shop/orders; shop/web\nnewly allowed\n"),
        ("strict", "strict", 0, "no flow meets another verdict\n"),
    ] {
        let mut diff = Command::new(env!("CARGO_BIN_EXE_eastwall"));
        let files = [old, new].map(|name| format!("{name}.yaml"));
        let done = diff.arg("diff").args(&files).current_dir(folder.path()).output().unwrap();
        let text = String::from_utf8_lossy(&done.stdout);
        assert_eq!(done.status.code(), Some(code), "{text}{}", String::from_utf8_lossy(&done.stderr));
        assert!(text.starts_with(told), "{text}");
    }
}
