//! What was read of each document, taken over while the document and the settings stay the same.

use std::fmt::Debug;
use std::sync::Arc;

use hashbrown::HashMap;

use super::{Outcome, cilium, native};
use crate::pace;
use crate::settings::Settings;
use crate::source::{Document, Node};

/// What each front end that reads documents one by one made of them.
#[derive(Debug, Default)]
pub struct Memos {
    settings: Settings,
    pub(super) native: Memo<native::Read>,
    pub(super) istio: Memo<Outcome>,
    pub(super) cilium: Memo<cilium::Read>,
    pub(super) network: Memo<Outcome>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Memo<T> {
    before: ByRoot<T>,
    now: ByRoot<T>,
}

/// By the address of a document's tree. An entry holds the tree, so that no other one can have its address.
type ByRoot<T> = HashMap<usize, (Arc<Node>, Arc<T>), foldhash::fast::RandomState>;

impl Memos {
    /// For the next compilation: knows what this one read, if the settings are the same.
    pub(super) fn next(&self, settings: &Settings) -> Self {
        if *settings != self.settings {
            return Self { settings: settings.clone(), ..Self::default() };
        }
        Self {
            settings: settings.clone(),
            native: self.native.next(),
            istio: self.istio.next(),
            cilium: self.cilium.next(),
            network: self.network.next(),
        }
    }
}

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self { before: ByRoot::default(), now: ByRoot::default() }
    }
}

impl<T> Memo<T> {
    fn next(&self) -> Self {
        Self { before: self.now.clone(), now: ByRoot::default() }
    }

    /// What `read` says of this document, read now or before. It may depend on the document and the settings alone.
    pub(super) fn of(&mut self, document: &Document, read: impl FnOnce() -> T) -> Arc<T> {
        pace::step();
        let address = Arc::as_ptr(&document.root).addr();
        // What is broken is a part of a document: the same part may be broken in another way.
        let known = self.before.get(&address).filter(|_| !document.broken);
        let made = known.map_or_else(|| Arc::new(read()), |(_, made)| Arc::clone(made));
        self.now.insert(address, (Arc::clone(&document.root), Arc::clone(&made)));
        made
    }
}
