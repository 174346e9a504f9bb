//! Whatever stands in a file: a clear refusal, or a clean acceptance, in bounded memory.
//!
//! Memory is counted, not guessed: what reading and compiling hold at their peak is a small multiple of the text's size.
//! Nothing here asserts on time; a case that took forever would not end.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use eastwall_policy::diagnostic::{Code, Style, as_text};
use eastwall_policy::dialect::{Compiled, compile};
use eastwall_policy::registry::Registry;
use eastwall_policy::source::{self, Bounds};

const POLICY: &str = "apiVersion: eastwall.dev/v1alpha1
kind: FirewallPolicy
metadata: {name: orders, namespace: shop}
spec:
  subject: [{serviceAccount: orders}]
  directions: [Ingress]
";

/// What came of reading and compiling, and the bytes held at the peak.
struct Seen {
    compiled: Compiled,
    peak: u64,
}

impl Seen {
    fn errors(&self) -> Vec<Code> {
        let mut codes: Vec<Code> =
            self.compiled.diagnostics.iter().filter(|one| one.is_error()).map(|one| one.code).collect();
        codes.dedup();
        codes
    }
}

fn measured(read: impl FnOnce() -> source::Sources) -> Seen {
    let mut compiled = Compiled::default();
    let counted = allocation_counter::measure(|| compiled = compile(&read()));
    for diagnostic in compiled.diagnostics.iter().take(50) {
        let text = as_text(diagnostic, Style::Plain);
        assert!(text.len() < 8_000, "a finding of {} bytes", text.len());
    }
    Seen { compiled, peak: counted.bytes_max }
}

fn text(text: &str, bounds: &Bounds) -> Seen {
    let text: Arc<str> = text.into();
    measured(|| source::parse_within("bad.yaml", &text, bounds))
}

fn files(paths: &[&Path]) -> Seen {
    let paths: Vec<PathBuf> = paths.iter().map(|path| path.to_path_buf()).collect();
    measured(|| source::read(&paths))
}

/// Small bounds, so that a small text is over them.
fn small() -> Bounds {
    Bounds { documents: 100, values: 10_000, aliased_nodes: 1_000, ..Bounds::default() }
}

#[test]
fn what_is_over_a_bound_is_refused() {
    let laughs = (1..10).fold("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned(), |mut text, level| {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        let _ = writeln!(text, "a{level}: &a{level} [{aliases}]");
        text
    });
    let many_bombs = format!("a: &a [{}]\nb: [{}]\n---\n", "x,".repeat(90), "*a,".repeat(9)).repeat(90);
    let each_deeper = (0..300).fold(String::new(), |mut text, depth| {
        let _ = writeln!(text, "{}a:", " ".repeat(depth));
        text
    });
    for (what, bad) in [
        ("an alias bomb", laughs),
        ("many documents of aliases that are each within their bound", many_bombs),
        ("too many values", format!("a: [{}]", "1,".repeat(20_000))),
        ("too many keys", (0..20_000).fold(String::new(), |text, key| text + &format!("k{key}: 1\n"))),
        ("too many documents", "a: 1\n---\n".repeat(101)),
    ] {
        let seen = text(&bad, &small());
        assert!(seen.errors().contains(&Code::TooLarge), "{what}: {:?}", seen.errors());
        // Nobody knows what stands behind the bound: something must close it.
        assert!(seen.compiled.model.policies.iter().any(|policy| policy.broken), "{what}");
        assert!(seen.peak < 40 * bad.len() as u64 + (16 << 20), "{what}: {} bytes for {}", seen.peak, bad.len());
    }
    for (what, bad) in [
        ("deep flow lists", "[".repeat(100_000)),
        ("deep flow mappings", "{a: ".repeat(100_000)),
        ("deep block mappings", each_deeper),
        ("deep block lists", "- ".repeat(100_000)),
        ("deep complex keys", "? ".repeat(100_000)),
    ] {
        let seen = text(&bad, &Bounds::default());
        assert_eq!(seen.errors().len(), 1, "{what}: {:?}", seen.errors());
        assert!(seen.peak < 40 * bad.len() as u64 + (16 << 20), "{what}: {} bytes for {}", seen.peak, bad.len());
    }
}

#[test]
fn what_is_within_the_bounds_is_read() {
    let bounds = Bounds { documents: 3, values: 40, ..Bounds::default() };
    assert_eq!(text(&format!("{POLICY}---\n---\n# nothing\n---\n"), &bounds).errors(), []);
    let tight = Bounds { values: 8, ..bounds };
    assert!(text(POLICY, &tight).errors().contains(&Code::TooLarge));
}

#[test]
fn what_cannot_be_text_is_refused() {
    for (what, bad, code) in [
        ("a key twice", format!("{POLICY}kind: FirewallPolicy\n"), Code::DuplicateKey),
        (
            "a key twice in JSON",
            "{\"apiVersion\": \"v1\", \"kind\": \"A\", \"kind\": \"B\"}".to_owned(),
            Code::DuplicateKey,
        ),
        ("a tab that indents", POLICY.replace("  directions", "\tdirections"), Code::Syntax),
        ("NUL in a plain text", POLICY.replace("namespace: shop", "namespace: sh\0op"), Code::Syntax),
        ("NUL in a quoted text", POLICY.replace("namespace: shop", "namespace: \"sh\0op\""), Code::Syntax),
        ("NUL by escape", POLICY.replace("namespace: shop", "namespace: \"sh\\0op\""), Code::UnsupportedYaml),
        ("NUL by number", POLICY.replace("namespace: shop", "namespace: \"sh\\u0000op\""), Code::UnsupportedYaml),
        ("NUL in a key", format!("{POLICY}\"a\\0\": 1\n"), Code::UnsupportedYaml),
        ("a lone NUL", "\0".to_owned(), Code::Syntax),
        ("NUL behind a document", format!("{POLICY}\0"), Code::Syntax),
        ("a control character", POLICY.replace("shop", "sh\u{1}op"), Code::Syntax),
        ("an open quote", POLICY.replace("shop", "\"shop"), Code::Syntax),
        ("a template", POLICY.replace("shop", "{{ .Values.namespace }}"), Code::Syntax),
    ] {
        let seen = text(&bad, &Bounds::default());
        assert!(seen.errors().contains(&code), "{what}: {:?}", seen.compiled.diagnostics);
        assert!(seen.compiled.model.policies.iter().all(|policy| policy.broken), "{what}");
    }
}

#[test]
fn how_lines_end_changes_nothing() {
    let plain = text(POLICY, &Bounds::default());
    assert_eq!((plain.errors(), plain.compiled.model.policies.len()), (vec![], 1));
    for (what, same) in [
        ("CRLF", POLICY.replace('\n', "\r\n")),
        ("CR", POLICY.replace('\n', "\r")),
        ("a byte-order mark", format!("\u{feff}{POLICY}")),
        ("a byte-order mark and CRLF", format!("\u{feff}{}", POLICY.replace('\n', "\r\n"))),
        ("no line break at the end", POLICY.trim_end().to_owned()),
        ("empty documents around it", format!("---\n---\n# x\n---\n{POLICY}---\n...\n---\n~\n---\nnull\n")),
        ("blanks at the ends of lines", POLICY.replace('\n', " \t \n")),
    ] {
        let seen = text(&same, &Bounds::default());
        assert!(seen.compiled.diagnostics.is_empty(), "{what}: {:?}", seen.compiled.diagnostics);
        assert_eq!(seen.compiled.model.policies.len(), 1, "{what}");
        let content = |seen: &Seen| seen.compiled.model.policies[0].rules.len();
        assert_eq!(content(&seen), content(&plain), "{what}");
    }
    for nothing in ["", "\n", "\u{feff}", "---\n", "# only words\n", "\r\n\r\n", "~\n", "--- \n...\n"] {
        let seen = text(nothing, &Bounds::default());
        assert!(seen.compiled.diagnostics.is_empty() && seen.compiled.model.policies.is_empty(), "{nothing:?}");
    }
}

#[test]
fn much_of_the_same_is_bounded_by_its_size() {
    let size = 1 << 20;
    // A document costs some 2 kB with its finding, however short it is: that is what their bound is for.
    let bounds = Bounds { documents: 20_000, ..Bounds::default() };
    let scalar = "x".repeat(size);
    for (what, bad, is_error) in [
        ("separators", "---\n".repeat(size / 4), false),
        ("comments", "#\n".repeat(size / 2), false),
        ("blank lines", "\n".repeat(size), false),
        ("documents that are none", "a\n---\n".repeat(size / 6), true),
        ("a huge text", POLICY.replace("name: orders", &format!("name: {scalar}")), true),
        ("a huge key", format!("{POLICY}{scalar}: 1\n"), true),
        ("a huge number", POLICY.replace("name: orders", &format!("name: {}", "7".repeat(size))), true),
        ("a huge comment", format!("{POLICY}# {scalar}\n"), false),
        ("a huge anchor", format!("a: &{scalar} 1\n"), true),
        ("a huge tag", format!("a: !{scalar} 1\n"), true),
        ("a huge directive", format!("%{scalar}\n"), true),
        ("a text of many lines", format!("a: |\n{}", "  x\n".repeat(size / 4)), true),
        ("a folded text of blank lines", format!("a: >\n{}  x\n", "\n".repeat(size)), true),
        ("a plain text of many lines", format!("a: x\n{}", "  x\n".repeat(size / 4)), true),
        ("escapes", format!("a: \"{}\"", "\\x41".repeat(size / 4)), true),
        (
            "unknown fields",
            format!("{POLICY}{}", (0..size / 12).fold(String::new(), |text, n| text + &format!("k{n:08}: 1\n"))),
            true,
        ),
        ("one long flow list", format!("a: [{}]", "1,".repeat(size / 2)), true),
        ("colons", ":".repeat(size), true),
        ("dashes in lines", "-\n".repeat(size / 2), true),
        ("quotes", "\"".repeat(size), true),
        ("stars", "*".repeat(size), true),
        ("question marks in lines", "? a\n".repeat(size / 4), true),
    ] {
        let seen = text(&bad, &bounds);
        assert_eq!(
            !seen.errors().is_empty(),
            is_error,
            "{what}: {:?}",
            seen.compiled.diagnostics.first().map(|one| one.code)
        );
        assert!(seen.peak < 300 * bad.len() as u64, "{what}: {} bytes for {}", seen.peak, bad.len());
    }
}

#[test]
fn json_is_json() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.json");
    let good = r#"{"apiVersion": "eastwall.dev/v1alpha1", "kind": "FirewallPolicy", "metadata": {"name": "a", "namespace": "b"}, "spec": {"subject": [{"serviceAccount": "a"}], "directions": ["Ingress"]}}"#;
    for (what, json, is_error) in [
        ("as it is", good.to_owned(), false),
        ("a byte-order mark", format!("\u{feff}{good}"), false),
        ("a comma at the end of a list", good.replace("[\"Ingress\"]", "[\"Ingress\",]"), true),
        ("a comma at the end of an object", good.replace("\"b\"}", "\"b\",}"), true),
        ("single quotes", good.replace("\"a\"", "'a'"), true),
        ("no quotes", good.replace("\"kind\"", "kind"), true),
        ("a comment", format!("{good} # x"), true),
        ("nothing", String::new(), false),
    ] {
        fs::write(&path, json).unwrap();
        let seen = files(&[&path]);
        let codes = if is_error { vec![Code::Syntax] } else { vec![] };
        assert_eq!(seen.errors(), codes, "{what}: {:?}", seen.compiled.diagnostics);
        if is_error {
            assert_eq!(seen.compiled.refused.len(), 1, "{what}");
            assert_eq!(&*seen.compiled.refused[0].name, "a", "{what}: a broken document still says who it is");
        }
    }
}

#[test]
fn files_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("good.yaml"), POLICY).unwrap();
    fs::create_dir(at("in")).unwrap();
    symlink("..", at("in/out")).unwrap();
    symlink("self.yaml", at("self.yaml")).unwrap();
    symlink("nowhere", at("gone.yaml")).unwrap();
    let pipe = std::process::Command::new("mkfifo").arg(at("pipe.yaml")).status();
    assert!(pipe.unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(at("socket.yaml")).unwrap();
    fs::write(at("latin.yaml"), b"a: \xe9").unwrap();
    fs::write(at("wide.yaml"), b"\xff\xfea\0:\0").unwrap();
    let seen = files(&[folder.path()]);
    let told: Vec<(String, Code)> = seen
        .compiled
        .diagnostics
        .iter()
        .map(|one| (one.location.file.rsplit('/').next().unwrap().to_owned(), one.code))
        .collect();
    let expected = [
        ("gone.yaml", Code::Unreadable),
        ("latin.yaml", Code::NotUtf8),
        ("pipe.yaml", Code::Unreadable),
        ("self.yaml", Code::Unreadable),
        ("socket.yaml", Code::Unreadable),
        ("wide.yaml", Code::NotUtf8),
    ];
    assert_eq!(told, expected.map(|(file, code)| (file.to_owned(), code)));
    assert!(seen.compiled.model.policies.iter().any(|policy| &*policy.name.name == "orders" && !policy.broken));
    // A read that fails half way.
    assert_eq!(files(&[Path::new("/proc/self/mem")]).errors(), [Code::Unreadable]);
    let (registry, found) = Registry::read(&at("pipe.yaml"));
    assert!(registry.workloads.is_empty() && found[0].code == Code::Unreadable);
}

#[test]
fn a_file_of_100_megabytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.yaml");
    let mut file = fs::File::create(&path).unwrap();
    let block = POLICY.repeat(1 + (1 << 20) / POLICY.len());
    for _ in 0..100 {
        std::io::Write::write_all(&mut file, block.as_bytes()).unwrap();
    }
    assert!(file.metadata().unwrap().len() > 100 << 20);
    let seen = files(&[&path]);
    assert_eq!(seen.errors(), [Code::TooLarge]);
    let bound = Bounds::default().file_bytes as u64;
    assert!(seen.peak < 3 * bound, "{} bytes held to refuse a file", seen.peak);
    assert!(seen.compiled.model.policies.iter().any(|policy| policy.broken), "it may have held any policy");
    assert_eq!(Registry::read(&path).1[0].code, Code::TooLarge);
    // Within a bound of one's own it is read, as far as anybody can.
    let bounds = Bounds { file_bytes: 200 << 20, ..Bounds::default() };
    let text = source::text_of(&path, &bounds).unwrap().1;
    assert!(text.len() > 100 << 20);
}
