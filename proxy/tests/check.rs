//! `eastwall check` and `eastwall compile` from outside: exit codes and formats.

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
