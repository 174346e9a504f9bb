//! The tree of a document, which rests as text while nobody looks at it.

use std::ops::{Deref, Range};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::{Bounds, Node, Span, Value, tree};

/// Everything that a document says. Shared, so that a clone costs nothing.
#[derive(Clone, Debug)]
pub struct Root(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    identity: u64,
    tree: OnceLock<Node>,
    /// Where the tree can be read again.
    written: Option<Written>,
}

/// A text whose one document it is.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) text: Arc<str>,
    pub(super) range: Range<usize>,
    pub(super) bounds: Bounds,
}

impl Root {
    pub(super) fn new(tree: Node, written: Option<Written>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let identity = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(Arc::new(Kept { identity, tree: tree.into(), written }))
    }

    /// A number that it shares with nothing but its clones and what [rests](Self::at_rest) of it.
    pub(crate) fn identity(&self) -> u64 {
        self.0.identity
    }

    /// The same without the tree, where that can be read again: it takes several times the memory of its text.
    pub(super) fn at_rest(&self) -> Self {
        let Kept { identity, written, .. } = &*self.0;
        match written {
            Some(_) => Self(Arc::new(Kept { identity: *identity, tree: OnceLock::new(), written: written.clone() })),
            None => self.clone(),
        }
    }
}

impl Deref for Root {
    type Target = Node;

    fn deref(&self) -> &Node {
        self.0.tree.get_or_init(|| {
            self.0
                .written
                .as_ref()
                .and_then(Written::read)
                .unwrap_or(Node { span: Span::default(), value: Value::Null })
        })
    }
}

impl Written {
    fn read(&self) -> Option<Node> {
        let start = self.range.start;
        let line = self.text.get(..start)?.bytes().filter(|byte| *byte == b'\n').count();
        // What it may hold was counted when it was read first.
        let mut values = usize::MAX;
        tree::read(self.text.get(self.range.clone())?, start, u32::try_from(line).ok()?, &self.bounds, &mut values).0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::source::parse;

    #[test]
    fn what_rests_is_read_again_as_it_was() {
        let first = "\u{feff}# Ä\r\napiVersion: v1\r\nkind: A\r\nspec: {x: &a [1, \"ü\"], y: *a}\r\n---\r\n";
        let text: Arc<str> = format!("{first}apiVersion: v1\nkind: B\n---\nkind: List\nitems: [{{kind: C}}]\n").into();
        let documents = parse("a.yaml", &text).documents;
        assert_eq!(documents.len(), 3);
        for document in &documents {
            let at_rest = document.at_rest();
            assert_eq!(at_rest.root.identity(), document.root.identity());
            assert_eq!(at_rest.root.0.tree.get().is_some(), document.kind == "C", "an item of a list keeps its tree");
            assert_eq!(*at_rest.root, *document.root);
        }
        assert_ne!(documents[0].root.identity(), documents[1].root.identity());
    }
}
