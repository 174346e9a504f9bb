//! The same paths, read again and again: a file whose text has not changed is not parsed again.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Bounds, Document, Sources, files};
use crate::pace;

/// Reads paths as [`super::read`] does, and keeps what it parsed for the next time.
#[derive(Debug, Default)]
pub struct Reader {
    bounds: Bounds,
    kept: hashbrown::HashMap<Arc<str>, Parsed, foldhash::fast::RandomState>,
}

/// One file as it was when it was parsed. Texts are compared whole: a hash could only be less exact, and the documents
/// hold the text anyway.
#[derive(Debug)]
struct Parsed {
    text: Arc<str>,
    sources: Sources,
}

impl Reader {
    /// Nothing read yet.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, ..Self::default() }
    }

    /// Reads every file and parses those that changed. Documents of the others are the same as last time: their
    /// `root` has the same identity.
    #[must_use]
    pub fn read(&mut self, paths: &[PathBuf]) -> Sources {
        let Self { bounds, kept } = self;
        let mut before = std::mem::take(kept);
        let mut sources = Sources::default();
        let diagnostics = files::load(paths, bounds, |name, text| {
            pace::step();
            let parsed = match before.remove(&name) {
                Some(parsed) if *parsed.text == *text => parsed,
                _ => {
                    let text = text.into();
                    let mut fresh = Sources::default();
                    fresh.add(&name, &text, bounds);
                    Parsed { text, sources: fresh }
                }
            };
            let at_rest = parsed.sources.documents.iter().map(Document::at_rest).collect();
            let at_rest = Sources { documents: at_rest, diagnostics: parsed.sources.diagnostics.clone() };
            kept.insert(name, Parsed { text: parsed.text, sources: at_rest });
            sources.documents.extend(parsed.sources.documents);
            sources.diagnostics.extend(parsed.sources.diagnostics);
        });
        Sources::unreadable(diagnostics).and(sources)
    }
}

#[cfg(test)]
mod tests {
    use super::Reader;
    use std::fs;

    #[test]
    fn only_what_changed_is_parsed_again() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [folder.path().to_owned()];
        let at = |name: &str| folder.path().join(name);
        let document = |name: &str| format!("apiVersion: v1\nkind: X\nmetadata: {{name: {name}}}\n");
        fs::write(at("a.yaml"), document("a")).unwrap();
        fs::write(at("b.yaml"), document("b") + "---\n[broken").unwrap();
        let mut reader = Reader::default();
        let first = reader.read(&paths);
        fs::write(at("a.yaml"), document("z")).unwrap();
        let second = reader.read(&paths);
        let names =
            |sources: &crate::source::Sources| sources.documents.iter().map(|one| one.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&first), ["a", "b", ""]);
        assert_eq!(names(&second), ["z", "b", ""]);
        let same: Vec<bool> = first
            .documents
            .iter()
            .zip(&second.documents)
            .map(|(first, second)| first.root.identity() == second.root.identity())
            .collect();
        assert_eq!(same, [false, true, true]);
        assert_eq!(second.diagnostics.len(), first.diagnostics.len(), "a mistake is reported each time");
        fs::remove_file(at("b.yaml")).unwrap();
        assert_eq!(names(&reader.read(&paths)), ["z"]);
        fs::write(at("b.yaml"), document("b")).unwrap();
        assert_eq!(names(&reader.read(&paths)), ["z", "b"]);
    }
}
