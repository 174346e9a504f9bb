//! No input makes the compiler panic, and whatever it refuses it says why.

use std::sync::Arc;

use eastwall_policy::analysis::check::check;
use eastwall_policy::diagnostic::{Style, as_text};
use eastwall_policy::dialect::compile;
use eastwall_policy::registry::Registry;
use eastwall_policy::source;
use proptest::prelude::*;

const SEEDS: &[&str] = &[
    include_str!("native/ingress.yaml"),
    include_str!("native/egress.yaml"),
    include_str!("native/admin.yaml"),
    include_str!("native/baseline.yaml"),
    include_str!("native/audit.yaml"),
    include_str!("native/emergency.yaml"),
    include_str!("native/test.yaml"),
    include_str!("native/settings.yaml"),
];

const PIECES: &[&str] = &[
    "[]",
    "{}",
    "~",
    "null",
    "\"",
    "'",
    "\n",
    "\t",
    "- ",
    ": ",
    "---\n",
    "...\n",
    "*a",
    "&a ",
    "!!str ",
    "<<: ",
    "|",
    ">",
    "#",
    "%",
    "\u{feff}",
    "\u{0}",
    "é",
    "any: false",
    "any: true",
    "-1",
    "1e9",
    "regex:(",
    "/**",
    "{x}",
    "[[[[",
    "}}",
    "\r",
    "9999999999999999999999",
];

#[derive(Clone, Debug)]
enum Edit {
    Remove { at: usize, length: usize },
    Insert { at: usize, piece: usize },
    Duplicate { at: usize, length: usize, to: usize },
    Replace { at: usize, byte: u8 },
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (any::<usize>(), 1..40usize).prop_map(|(at, length)| Edit::Remove { at, length }),
        (any::<usize>(), 0..PIECES.len()).prop_map(|(at, piece)| Edit::Insert { at, piece }),
        (any::<usize>(), 1..80usize, any::<usize>()).prop_map(|(at, length, to)| Edit::Duplicate { at, length, to }),
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Edit::Replace { at, byte }),
    ]
}

fn apply(text: &mut Vec<u8>, edit: &Edit) {
    let size = text.len().max(1);
    match edit {
        Edit::Remove { at, length } => {
            let at = at % size;
            text.drain(at.min(text.len())..(at + length).min(text.len()));
        }
        Edit::Insert { at, piece } => {
            let at = (at % size).min(text.len());
            text.splice(at..at, PIECES.get(*piece).copied().unwrap_or_default().bytes());
        }
        Edit::Duplicate { at, length, to } => {
            let at = (at % size).min(text.len());
            let copy = text.get(at..(at + length).min(text.len())).unwrap_or_default().to_vec();
            let to = (to % size).min(text.len());
            text.splice(to..to, copy);
        }
        Edit::Replace { at, byte } => {
            let at = at % size;
            if let Some(slot) = text.get_mut(at) {
                *slot = *byte;
            }
        }
    }
}

fn survives(text: &str) {
    let text: Arc<str> = text.into();
    let sources = source::parse("p.yaml", &text);
    let compiled = compile(&sources);
    let mut found = compiled.diagnostics.clone();
    found.extend(check(&compiled, Some(&Registry::default()), 0));
    for diagnostic in &found {
        assert!(!as_text(diagnostic, Style::Plain).is_empty());
    }
    let refused = compiled.refused.len() + compiled.model.policies.iter().filter(|policy| policy.broken).count();
    assert!(refused == 0 || compiled.has_errors(), "refused in silence:\n{text}");
    assert!(sources.documents.iter().all(|document| !document.broken) || compiled.has_errors());
    let _ = Registry::parse("w.yaml", &text);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn mutated_documents_never_panic(seed in 0..SEEDS.len(), edits in prop::collection::vec(edit(), 1..8)) {
        let mut bytes = SEEDS[seed].as_bytes().to_vec();
        for edit in &edits {
            apply(&mut bytes, edit);
        }
        survives(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
        survives(&text);
    }
}
