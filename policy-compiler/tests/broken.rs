//! Every broken policy of the corpus gives its diagnostic, and never holds back what stands beside it.

use std::sync::Arc;

use eastwall_policy::diagnostic::{Style, as_text};
use eastwall_policy::dialect::compile;
use eastwall_policy::source;

#[test]
fn every_broken_policy_gives_its_diagnostic() {
    let mut seen = 0;
    for file in std::fs::read_dir("tests/broken").unwrap() {
        let path = file.unwrap().path();
        let text: Arc<str> = std::fs::read_to_string(&path).unwrap().into();
        let name = path.file_name().unwrap().to_str().unwrap();
        let compiled = compile(&source::parse(name, &text));
        assert!(compiled.has_errors(), "{name} has no error");
        let rendered: Vec<String> = compiled.diagnostics.iter().map(|d| as_text(d, Style::Plain)).collect();
        insta::assert_snapshot!(format!("every_broken_policy_gives_its_diagnostic@{name}"), rendered.join("\n"));
        seen += 1;
    }
    assert!(seen >= 60, "{seen} broken policies");
}
