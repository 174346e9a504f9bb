//! Every document of the collected real policies is accepted or refused as the snapshot says.
//!
//! The data is not part of this repository: it is looked for in `$EASTWALL_CONFORMANCE/data`, without that variable in
//! `../shared/conformance/data` beside the checkout. Where it is absent the test says so and proves nothing; a variable
//! that names a folder without it fails in continuous integration (`CI=true`).
//!
//! `INSTA_UPDATE=always cargo test -p eastwall-policy --test conformance_data` writes the snapshot anew.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot make its own input fails"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use eastwall_policy::diagnostic::Code;
use eastwall_policy::dialect::{compile, name_of};
use eastwall_policy::registry::kubernetes::is_object;
use eastwall_policy::source::{self, Document, Sources};

const FOLDERS: &[&str] = &["cilium", "gateway-api", "istio-authz", "linkerd", "netpol", "network-policy-api"];

const HEAD: &str = "\
# Every document of the collected policies: file and line, kind, name, what came of it, codes of its findings.
# Each file is read alone. Templates (`.tmpl`) are no YAML and are read as what they are; Markdown is left out.
# Written by `INSTA_UPDATE=always cargo test -p eastwall-policy --test conformance_data`.
";

#[test]
fn every_collected_document_is_accepted_or_refused_as_before() {
    let Some(data) = data() else { return };
    let mut files = Vec::new();
    for folder in FOLDERS {
        let before = files.len();
        walk(&data.join(folder), &mut files);
        assert!(files.len() > before, "{folder} holds no file");
    }
    let mut lines = Vec::new();
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for path in &files {
        let name = path.strip_prefix(&data).unwrap().to_string_lossy().into_owned();
        let folder = FOLDERS.iter().find(|folder| Path::new(&name).starts_with(folder)).unwrap();
        for (outcome, line) in outcomes(&name, path) {
            *counts.entry((folder, outcome)).or_default() += 1;
            lines.push(line);
        }
    }
    let mut snapshot = HEAD.to_owned();
    for ((folder, outcome), count) in counts {
        let _ = writeln!(snapshot, "# {folder}: {count} {outcome}");
    }
    for line in lines {
        snapshot.push_str(&line);
        snapshot.push('\n');
    }
    compare(&snapshot);
}

/// The folder of data, or why there is none.
fn data() -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let given = std::env::var_os("EASTWALL_CONFORMANCE").filter(|given| !given.is_empty());
    let data =
        root.join(given.as_ref().map_or_else(|| PathBuf::from("../shared/conformance"), PathBuf::from)).join("data");
    if data.is_dir() {
        return Some(data);
    }
    let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(given.is_none() || !is_ci, "EASTWALL_CONFORMANCE names no folder with `data`: {}", data.display());
    eprintln!("NOT RUN: {} is not there, so no collected policy was read", data.display());
    None
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for entry in entries {
        if entry.is_dir() {
            walk(&entry, files);
        } else if entry.extension().is_none_or(|extension| extension != "md") {
            files.push(entry);
        }
    }
}

/// What came of each document of one file.
fn outcomes(name: &str, path: &Path) -> Vec<(&'static str, String)> {
    let text: Arc<str> = String::from_utf8(fs::read(path).unwrap()).unwrap().into();
    let sources = source::parse(name, &text);
    let compiled = compile(&sources);
    let mut found = Vec::new();
    let starts: Vec<u32> = sources.documents.iter().map(|document| document.location.line).collect();
    for (index, document) in sources.documents.iter().enumerate() {
        let is_last_of_line = starts.get(index + 1) != starts.get(index);
        let end = starts.get(index + 1).copied().filter(|_| is_last_of_line).unwrap_or(u32::MAX);
        let first = if index == 0 { 0 } else { document.location.line };
        let of_it = compiled
            .diagnostics
            .iter()
            .filter(|one| (first..end).contains(&one.location.line))
            .filter(|one| one.code != Code::PassedOver);
        let is_refused = document.broken || of_it.clone().any(|one| one.is_error());
        let mut codes: Vec<&str> =
            of_it.filter(|one| !is_refused || one.is_error()).map(|one| one.code.as_str()).collect();
        codes.sort_unstable();
        codes.dedup();
        let outcome = if is_refused {
            "refused"
        } else if is_object(document) {
            "object"
        } else if is_passed_over(document) {
            "passed over"
        } else {
            "accepted"
        };
        if is_refused && !is_object(document) && !is_passed_over(document) && !document.name.is_empty() {
            let named = name_of(document);
            let is_told =
                compiled.refused.iter().any(|refused| refused.kind == named.kind && refused.name == named.name);
            assert!(is_told, "{name}:{} is refused, and not among the refused", document.location.line);
        }
        let line = format!("{name}:{} {} {outcome} {}", document.location.line, shown(document), codes.join(" "));
        found.push((outcome, line.trim_end().to_owned()));
    }
    let refused = found.iter().filter(|(outcome, _)| *outcome == "refused").count();
    assert!(refused >= compiled.refused.len(), "{name}: {:?} and {found:#?}", compiled.refused);
    assert!(refused == 0 || compiled.has_errors(), "{name} is refused in silence");
    if found.is_empty() {
        assert!(!compiled.has_errors(), "{name}");
        found.push(("empty", format!("{name} empty")));
    }
    found
}

fn is_passed_over(document: &Document) -> bool {
    let alone = Sources { documents: vec![document.clone()], diagnostics: Vec::new() };
    !compile(&alone).passed_over.is_empty()
}

fn shown(document: &Document) -> String {
    let or_none = |text: &str| if text.is_empty() { "-".to_owned() } else { text.escape_debug().to_string() };
    let (kind, name) = (or_none(&document.kind), or_none(&document.name));
    match document.namespace.as_str() {
        "" => format!("{kind} {name}"),
        namespace => format!("{kind} {}/{name}", namespace.escape_debug()),
    }
}

fn compare(snapshot: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots/conformance-data.txt");
    if std::env::var("INSTA_UPDATE").is_ok_and(|value| value == "always") {
        fs::write(&path, snapshot).unwrap();
        return;
    }
    let before = fs::read_to_string(&path).unwrap();
    let has = |text: &str, line: &str| text.lines().any(|one| one == line);
    let gone = before.lines().filter(|line| !has(snapshot, line)).map(|line| format!("- {line}"));
    let new = snapshot.lines().filter(|line| !has(&before, line)).map(|line| format!("+ {line}"));
    let mut differences: Vec<String> = gone.chain(new).collect();
    // A file's old and new lines stand together.
    differences.sort_by(|one, other| one[2..].cmp(&other[2..]));
    let shown = differences.iter().take(60).cloned().collect::<Vec<_>>().join("\n");
    assert!(
        before == snapshot,
        "{} lines of {} differ (INSTA_UPDATE=always writes it anew):\n{shown}",
        differences.len(),
        path.display(),
    );
}
